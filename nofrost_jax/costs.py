"""What a run costs, from shapes alone: operations, hours and memory. Nothing is compiled or allocated."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
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
def convolutions(implementation: str) -> Iterator[None]:
    """Traces as on an accelerator ("xla") or on a CPU ("slices", whose convolutions keep nine times the map)."""
    forced = os.environ.get("NOFROST_CONV")
    os.environ["NOFROST_CONV"] = implementation
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
    return float(lowered.cost_analysis()["flops"])


def step_flops(config: ConfigDict, flops: float) -> float:
    """Floating-point operations of a training step, by those of one image's forward pass."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[config.method.name].passes(config)
    # A backward pass to the parameters goes through the image's as well: twice the work of a forward pass.
    passes = forwards + image_backwards + 2 * parameter_backwards
    return config.batch_size * (flops * passes + methods.augmented.view_flops(config))


def residual_bytes(model: nn.Module, variables: Any, size: int) -> int:
    """Bytes that each image's forward pass keeps for its backward pass, before XLA's fusion; a difference of two
    batches, so that what is kept once for all images (standardized weights) does not count."""

    def kept(count):
        images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32)
        saved = jax.eval_shape(lambda v, x: jax.vjp(lambda v: model.apply(v, x, train=False), v)[1], variables, images)
        return bytes_of(saved)

    return kept(2) - kept(1)


def bytes_of(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
