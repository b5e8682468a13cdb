"""`--mode=dry_run`: what a run is, costs and lacks, before any device works. Nothing is compiled or allocated."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nofrost_jax import data, methods, metrics, models, names, parallel
from nofrost_jax.checkpoint import require_variables
from nofrost_jax.classifier import create_model
from nofrost_jax.config import (
    check_devices,
    check_evaluation_devices,
    for_sets,
    for_training,
    of_run,
    says_only_how_to_evaluate,
)
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import Missing, UserError
from nofrost_jax.evaluate import note
from nofrost_jax.evaluation import protocols, runs, sweep
from nofrost_jax.fields import to_plain
from nofrost_jax.shift import sets, suites
from nofrost_jax.workdir import check_config, check_folder, check_start, say_free_changes

RATE = 1e13  # floating-point operations a second: half of an A100's peak in float32, in which attacks run
NOT_HERE = " (published size; not found here)"
ASSUMED = "on one A100 at an assumed 10 TFLOP/s in float32, half its peak"


def dry_run(config: ConfigDict, workdir: str, output: str = "") -> None:
    """Prints what `train` would do: config, model size, steps, cost, memory, and what is missing. Writes nothing, and
    needs no permission to. Raises Missing if anything is.

    For a config in configs/eval: what an evaluation of the run in `workdir` costs. For one like configs/eval/shift.py:
    which evaluation sets are there and which are missing, for that run or, without one, for a run on ImageNet.
    """
    if suites.is_suite(config):
        missing = _report_sets(config, workdir, output)
    elif workdir and says_only_how_to_evaluate(config):
        own, left_out = of_run(workdir, config)
        note(left_out)
        problems, dataset = data.examine(own, ("evaluation",))
        missing = [*_lacking(own, dataset, workdir, output), *problems]
        _report_evaluation(list(sweep.configs(own).values()) or [own], dataset)
    else:
        config = for_training(config)
        checks = (check_folder, check_start, *([check_config] if workdir else []))
        missing = _refusals(*(functools.partial(check, config, workdir) for check in checks))
        if workdir and not missing:
            say_free_changes(config, workdir)
        missing += _report_training(config)
    print(*(f"missing: {line}" for line in missing or ["nothing"]), sep="\n", flush=True)
    if missing:
        raise Missing


def _refusals(*checks: Callable[[], Any]) -> list[str]:
    """The lines of those checks that raise UserError."""
    lines = []
    for check in checks:
        try:
            check()
        except UserError as error:
            lines.append(str(error))
    return lines


def _report_sets(config: ConfigDict, workdir: str, output: str) -> list[str]:
    """Prints which sets of a suite are there: for the run in `workdir`, or, without one, for a run on ImageNet. Returns
    lines of what is missing."""
    lacking = []
    if workdir:
        own, suite, left_out = for_sets(workdir, config)
        note(left_out)
        lacking = _lacking(own, None, workdir, output)
    else:
        rest, section = suites.section_of(config)
        own = suites.imagenet_run(rest)
        suite = suites.read(section, own)
        where = own.data.data_dir or "the current folder, as config.data.data_dir is not given"
        side = own.data.image_size
        print(f"note: without --workdir this is for a run on ImageNet at {side} pixels; looked in {where}")
    there, missing = sets.availability(suite, own)
    print(*(f"there: {line}\n" for line in there), sep="", end="")
    return [*lacking, *missing]


def _lacking(config: ConfigDict, dataset: data.Dataset | None, workdir: str, output: str) -> list[str]:
    """What an evaluation lacks apart from its data, a line each. Prints a note where --force would rename a result."""
    lacking = _refusals(
        lambda: require_variables(workdir),
        lambda: check_evaluation_devices(config, parallel.Devices().count, jax.process_count()),
    )
    named = sweep.configs(config).values() or [config] if dataset or suites.is_suite(config) else []
    for line in _refusals(*(functools.partial(names.make_room, one, dataset, output or workdir) for one in named)):
        print(f"note: {line}")
    return lacking


def _report_training(config: ConfigDict) -> list[str]:
    """Prints the report of a resolved config. Returns lines of what is missing."""
    print(ConfigDict(to_plain(config)))  # as in config.json
    missing, dataset = data.examine(config)
    model = create_model(config.model)
    variables = models.abstract_variables(model, config.data.image_size)
    print(metrics.parameter_overview(variables))
    devices = parallel.Devices().count
    check = functools.partial(check_devices, config, devices, jax.process_count(), model.has_batch_stats)
    missing = [*missing, *_refusals(check)]
    print(*report(config, model, variables, devices, dataset), sep="\n")
    return missing


def report(
    config: ConfigDict, model: nn.Module, variables: Any, devices: int, dataset: data.Dataset | None
) -> Iterator[str]:
    """Lines of the cost report; numbers follow from shapes alone. dataset: None where it is not there."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[config.method.name].passes(config)
    side = config.data.image_size
    with convolutions("xla"):
        flops = forward_flops(model, variables, side)
    views = methods.augmented.view_flops(config)
    size, shard = _bytes(variables["params"]), math.ceil(config.batch_size / devices)
    trained = max(parameter_backwards, 1) * shard
    yield f"parameters         {sum(leaf.size for leaf in jax.tree.leaves(variables['params'])):,}"
    yield f"devices            {devices} ({shard} clean images each)"
    yield f"matmul precision   {config.matmul_precision} in training, highest in evaluations"
    sizes = (dataset.num_train, dataset.num_eval) if dataset else data.PUBLISHED_SIZES.get(config.data.source)
    if sizes is None:
        yield "steps              unknown until the data is there"
    else:
        per_epoch = data.steps_per_epoch(config, sizes[0])
        steps, cost = config.epochs * per_epoch, step_flops(config, flops)
        yield f"data               {sizes[0]:,} training and {sizes[1]:,} evaluation images{NOT_HERE * (not dataset)}"
        yield from (f"note               {line}" for line in (dataset.notes if dataset else ()))
        yield f"steps              {steps:,} ({config.epochs} epochs of {per_epoch:,}): {hours(steps * cost)}"
    yield (
        f"passes per image   {forwards} forward, {image_backwards} backward to the image, "
        f"{parameter_backwards} backward to the parameters"
    )
    yield from (f"note               {line}" for line in methods.TABLE[config.method.name].notes(config))
    yield from evaluation_costs(config, flops, sizes and sizes[1])[0]
    yield f"hours              {ASSUMED}; an evaluation is faster where attacks succeed early"
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
    return f"{3600 * found:.2g} s"


def _report_evaluation(configs: Sequence[ConfigDict], dataset: data.Dataset | None) -> None:
    """Prints what an evaluation of a run costs. configs: the run's, one for each result. dataset: None where it is not
    there."""
    first, total = configs[0], 0.0
    num_eval = dataset.num_eval if dataset else data.PUBLISHED_SIZES.get(first.data.source, (None, None))[1]
    model = create_model(first.model)
    variables = models.abstract_variables(model, first.data.image_size)
    with convolutions("xla"):
        flops = forward_flops(model, variables, first.data.image_size)
    if num_eval:
        print(f"data               {num_eval:,} evaluation images{NOT_HERE * (not dataset)}")
        print(*(f"note               {line}\n" for line in (dataset.notes if dataset else ())), sep="", end="")
    for config in configs:
        lines, cost = evaluation_costs(config, flops, num_eval)
        total += cost
        print(*([f"{config.evaluation.name}:"] if len(configs) > 1 else []), *lines, sep="\n")
    if num_eval:
        print(f"all                {hours(total)} at most, {ASSUMED}; less for each image that an attack fools early")


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
        return _bytes(saved)

    return kept(2) - kept(1)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
