"""What a run costs, from shapes alone: operations, hours and memory. Nothing is compiled or allocated."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
from ml_collections import ConfigDict

from nofrost_jax import methods
from nofrost_jax.data.choice import Choice
from nofrost_jax.evaluation import protocols, runs

RATE = 1e13  # floating-point operations a second: half of an A100's peak in float32, in which attacks run
ASSUMED = "on one A100 at an assumed 10 TFLOP/s in float32, half its peak"


def evaluation_costs(config: ConfigDict, flops: float, num_eval: int | None) -> tuple[list[str], float]:
    """(a line for each attack of an evaluation, all its floating-point operations at most, those of clean images too).

    flops: of one image's forward pass; num_eval: of the data, or None. At most: if every image were right and survived.
    """
    lines, total = [], 0.0
    flops *= 2 if config.model.norm == "mbn" and 0 < config.evaluation.mbn_gamma < 1 else 1  # two branches
    section, classes = config.evaluation, config.model.num_classes
    count = Choice.read(section.limit, section.ids).count(num_eval) if num_eval else 0
    if section.classes:  # of classes that are about alike
        count = min(count, -(-(num_eval or 0) * section.classes // classes))
    for protocol in protocols.make_all(config):
        passes = [member.attack.passes(classes) for member in protocol.members]
        forwards, backwards = (sum(counts) for counts in zip(*passes, strict=True))
        chosen = min(protocol.limit or count, count)
        cost = chosen * (forwards + backwards) * flops
        bound = f"at most {forwards:,} forward and {backwards:,} backward passes per image"
        images = f"; {chosen:,} images: {hours(cost)}" if count else ""
        lines.append(f"evaluation         {protocol.name}: {bound}{images}")
        total += cost
    if properties := runs.properties_of(config):
        forwards, backwards = properties.passes
        cost = count * (forwards + backwards) * flops
        images = f"; {count:,} images: {hours(cost)}" if count else ""
        lines.append(
            f"evaluation         properties: {forwards:,} forward and {backwards:,} backward passes per image{images}"
        )
        total += cost
    return lines, total + count * flops


def hours(flops: float) -> str:
    """Floating-point operations as time on one device."""
    found = flops / RATE / 3600
    if found > 0.1:
        return f"about {found:,.0f} h" if found >= 10 else f"about {found:.2g} h"
    return f"{3600 * found:.0f} s" if found > 0.01 else f"{3600 * found:.2g} s"


@contextlib.contextmanager
def xla_convolutions() -> Iterator[None]:
    """Traces as on an accelerator, whose convolutions XLA can count."""
    forced = os.environ.get("NOFROST_CONV")
    os.environ["NOFROST_CONV"] = "xla"
    try:
        yield
    finally:
        del os.environ["NOFROST_CONV"]
        if forced is not None:
            os.environ["NOFROST_CONV"] = forced


def forward_flops(model: nn.Module, variables: Any, size: int) -> float:
    """Floating-point operations of one image's forward pass (a multiply-add counts two), by XLA's cost analysis."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    lowered = jax.jit(lambda variables, x: model.apply(variables, x, train=False)).lower(variables, images)
    analysis = lowered.cost_analysis()
    assert analysis is not None
    return float(analysis["flops"])


def step_passes(config: ConfigDict) -> int:
    """Passes of each image in a training step, as so many forward passes."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[config.method.name].passes(config)
    # A backward pass to the parameters goes through the image's as well: twice the work of a forward pass.
    again = parameter_backwards if config.model.remat == "blocks" else 0
    if config.method.name == "free":  # one backward pass gives both gradients
        image_backwards = 0
    return forwards + image_backwards + 2 * parameter_backwards + again


def step_flops(config: ConfigDict, flops: float) -> float:
    """Floating-point operations of a training step, by those of one image's forward pass."""
    return config.batch_size * (flops * step_passes(config) + methods.augmented.view_flops(config))


def images_at_once(config: ConfigDict, devices: int) -> int:
    """Images of a device whose activations are kept at the same time, at most: all streams of a micro-batch."""
    *_, parameter_backwards = methods.TABLE[config.method.name].passes(config)
    streams = 1 if config.method.name == "free" else max(parameter_backwards, 1)  # one replay after the other
    return streams * -(-config.batch_size // (devices * config.accumulate))


def residual_bytes(model: nn.Module, variables: Any, size: int) -> int:
    """Bytes that each image's train-mode forward keeps for its backward pass, before XLA's fusion; from the difference
    of two batches, so that what is kept once for all images (standardized weights) does not count."""
    group = getattr(model, "bn_group_size", 0) or 1

    def residuals(variables, images, image_keys):
        def forward(params):
            options = {"train": True, "image_keys": image_keys, "mutable": ["batch_stats"]}
            return model.apply(variables | {"params": params}, images, **options)

        return jax.vjp(forward, variables["params"], has_aux=True)[1]

    def kept(count):
        images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32)
        image_keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
        jaxpr = jax.make_jaxpr(residuals)(variables, images, image_keys).jaxpr
        varying = zip(jaxpr.outvars, _varying(jaxpr, [True] * len(jaxpr.invars)), strict=True)
        return bytes_of([out.aval for out in {out for out, varies in varying if varies}])

    return (kept(2 * group) - kept(group)) // group


def _varying(jaxpr, inputs):
    """Which outputs depend on an input that varies. Others are constants, as the zeros of a ReLU's gradient, which XLA
    keeps nowhere."""
    known = dict(zip(jaxpr.invars, inputs, strict=True)) | dict.fromkeys(jaxpr.constvars, True)
    varies = lambda value: not isinstance(value, jax.extend.core.Literal) and known[value]  # noqa: E731
    for equation in jaxpr.eqns:
        given = [varies(value) for value in equation.invars]
        if equation.primitive.name == "jit":
            found = _varying(equation.params["jaxpr"].jaxpr, given)
        else:
            found = [any(given)] * len(equation.outvars)
        known |= dict(zip(equation.outvars, found, strict=True))
    return [varies(value) for value in jaxpr.outvars]


def bytes_of(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
