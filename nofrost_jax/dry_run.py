"""`--mode=dry_run`: what a run is, costs and lacks, before any device works. Nothing is compiled or allocated."""

import contextlib
import math
import os

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nofrost_jax import data, methods, metrics, models, parallel, validate
from nofrost_jax.classifier import create_model
from nofrost_jax.errors import Missing, UserError
from nofrost_jax.evaluation import cascades


def describe(config, missing):
    """Prints the report of a resolved config. missing: lines of what is known to be. Raises Missing if anything is."""
    print(ConfigDict(validate.to_plain(config)))  # as in config.json
    missing = [*missing, *data.describe_missing(config)]
    model = create_model(config.model)
    variables = jax.eval_shape(lambda key: models.init(model, key, config.data.image_size), jax.random.key(0))
    print(metrics.parameter_overview(variables))
    devices = parallel.Devices().count
    try:
        validate.check_devices(config, devices, jax.process_count(), model.has_batch_stats)
    except UserError as error:
        missing.append(str(error))
    for line in report(config, model, variables, devices):
        print(line)
    tell(missing)


def tell(missing):
    """Prints what is missing, a line each. Raises Missing if anything is."""
    print(*(f"missing: {line}" for line in missing or ["nothing"]), sep="\n", flush=True)
    if missing:
        raise Missing


def report(config, model, variables, devices):
    """Lines of the cost report; numbers follow from shapes alone."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[config.method.name].passes(config)
    side = config.data.image_size
    with convolutions("xla"):
        flops = forward_flops(model, variables, side)
    views = methods.augmented.view_flops(config)
    size, shard = parameter_bytes(variables), math.ceil(config.batch_size / devices)
    trained = max(parameter_backwards, 1) * shard
    yield f"parameters         {sum(leaf.size for leaf in jax.tree.leaves(variables['params'])):,}"
    yield f"devices            {devices} ({shard} clean images each)"
    yield from schedule_lines(config)
    yield (
        f"passes per image   {forwards} forward, {image_backwards} backward to the image, "
        f"{parameter_backwards} backward to the parameters"
    )
    yield from (f"note               {line}" for line in methods.TABLE[config.method.name].notes(config))
    yield from evaluation_lines(config)
    distorted = f"; DeepAugment's distortion of an image: {views:.4g}" if views else ""
    yield f"FLOPs per step     {step_flops(config, flops):.3g} (one forward at {side} pixels: {flops:.4g}{distorted})"
    for implementation, where in (("xla", "a GPU or TPU"), ("slices", "a CPU")):
        if implementation == "slices" and jax.default_backend() != "cpu":
            continue
        with convolutions(implementation):
            activations = residual_bytes(model, variables, side) * trained
        yield (
            f"memory on {where:12} about {gigabytes(4 * size + activations)} each: parameters, momentum, gradients and "
            f"update {gigabytes(4 * size)}, activations of {trained} images {gigabytes(activations)}"
        )


def evaluation_lines(config):
    """What the final evaluation costs: passes of an image that survives each attack."""
    for plan in cascades.make_plans(config):
        passes = [member.attack.passes(config.model.num_classes) for member in plan.members]
        forwards, backwards = (sum(counts) for counts in zip(*passes, strict=True))
        yield (
            f"evaluation         {plan.label}: at most {forwards:,} forward and {backwards:,} backward passes per image"
        )


@contextlib.contextmanager
def convolutions(implementation):
    """Traces as on an accelerator ("xla") or on a CPU ("slices", whose convolutions keep nine times the map)."""
    forced = os.environ.get("NOFROST_CONV")
    os.environ["NOFROST_CONV"] = implementation
    try:
        yield
    finally:
        del os.environ["NOFROST_CONV"]
        if forced is not None:
            os.environ["NOFROST_CONV"] = forced


def schedule_lines(config):
    """Data and steps; from the published size where the data is not there yet, if it is a data set that has one."""
    note = ""
    try:
        spec = data.check(config)
    except UserError:
        if config.data.source not in data.PUBLISHED_SIZES:
            yield "steps              unknown until the data is there"
            return
        train, evaluation = data.PUBLISHED_SIZES[config.data.source]
        spec = data.Spec(train, evaluation, config.model.num_classes, config.data.image_size, "", "")
        note = " (published size; not found here)"
    per_epoch = data.steps_per_epoch(config, spec)
    yield f"data               {spec.num_train:,} training and {spec.num_eval:,} evaluation images{note}"
    yield f"steps              {config.epochs * per_epoch:,} ({config.epochs} epochs of {per_epoch:,})"


def forward_flops(model, variables, size):
    """Floating-point operations of one image's forward pass (a multiply-add counts two), by XLA's cost analysis."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    lowered = jax.jit(lambda variables, x: model.apply(variables, x, train=False)).lower(variables, images)
    return float(lowered.cost_analysis()["flops"])


def step_flops(config, flops):
    """Floating-point operations of a training step, by those of one image's forward pass."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[config.method.name].passes(config)
    # A backward pass to the parameters goes through the image's as well: twice the work of a forward pass.
    passes = forwards + image_backwards + 2 * parameter_backwards
    return config.batch_size * (flops * passes + methods.augmented.view_flops(config))


def residual_bytes(model, variables, size):
    """Bytes that each image's forward pass keeps for its backward pass, before XLA's fusion; a difference of two
    batches, so that what is kept once for all images (standardized weights) does not count."""

    def kept(count):
        images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32)
        saved = jax.eval_shape(lambda v, x: jax.vjp(lambda v: model.apply(v, x, train=False), v)[1], variables, images)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(saved))

    return kept(2) - kept(1)


def parameter_bytes(variables):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables["params"]))


def gigabytes(count):
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
