"""`--mode=dry_run`: what a run is, costs and lacks, before any device works. Nothing is compiled or allocated."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from nofrost_jax import accelerators, costs, data, methods, metrics, models, names, parallel, scale
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
from nofrost_jax.errors import Missing, UserError
from nofrost_jax.evaluate import note
from nofrost_jax.evaluation import sweep
from nofrost_jax.fields import to_plain
from nofrost_jax.shift import sets, suites
from nofrost_jax.workdir import check_config, check_folder, check_start, say_free_changes

NOT_HERE = " (published size; not found here)"


def dry_run(config: ConfigDict, workdir: str, output: str = "", device: str = "") -> None:
    """Prints what `train` would do: config, model size, steps, cost, memory, and what is missing. Writes nothing, and
    needs no permission to. Raises Missing if anything is. device: where else to cost it, `accelerators.machine`.

    For a config in configs/eval: what an evaluation of the run in `workdir` costs. For one like configs/eval/shift.py:
    which evaluation sets are there and which are missing, for that run or, without one, for a run on ImageNet.
    """
    machine = accelerators.machine(device) if device else None
    if suites.is_suite(config):
        missing = _report_sets(config, workdir, output)
    elif workdir and says_only_how_to_evaluate(config):
        own, left_out = of_run(workdir, config)
        note(left_out)
        problems, dataset = data.examine(own, ("evaluation",))
        missing = [*_lacking(own, dataset, workdir, output), *problems]
        _report_evaluation(list(sweep.configs(own).values()) or [own], dataset, machine)
    else:
        config = for_training(config)
        checks = (check_folder, check_start, *([check_config] if workdir else []))
        missing = _refusals(*(functools.partial(check, config, workdir) for check in checks))
        if workdir and not missing:
            say_free_changes(config, workdir)
        missing += _report_training(config, machine)
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


def _report_training(config: ConfigDict, machine: accelerators.Machine | None) -> list[str]:
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
    if machine:
        net, sizes = scale.measure(model, variables, config.data.image_size), _sizes(config, dataset)
        steps = config.epochs * data.steps_per_epoch(config, sizes[0]) if sizes else None
        print(*scale.report(config, net, machine, steps, sizes and sizes[1]), sep="\n")
    return missing


def _sizes(config: ConfigDict, dataset: data.Dataset | None) -> tuple[int, int] | None:
    """(training, evaluation) images, published where they are not there; None if nobody knows."""
    return (dataset.num_train, dataset.num_eval) if dataset else data.PUBLISHED_SIZES.get(config.data.source)


def report(
    config: ConfigDict, model: nn.Module, variables: Any, devices: int, dataset: data.Dataset | None
) -> Iterator[str]:
    """Lines of the cost report; numbers follow from shapes alone. dataset: None where it is not there."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[config.method.name].passes(config)
    side = config.data.image_size
    with costs.xla_convolutions():
        flops = costs.forward_flops(model, variables, side)
    views = methods.augmented.view_flops(config)
    size, shard = costs.bytes_of(variables["params"]), math.ceil(config.batch_size / devices)
    part = math.ceil(shard / config.accumulate)
    trained = costs.images_at_once(config, devices)
    yield f"parameters         {sum(leaf.size for leaf in jax.tree.leaves(variables['params'])):,}"
    parts = f", in {config.accumulate} parts of {part}" if config.accumulate > 1 else ""
    yield f"devices            {devices} ({shard} clean images each{parts})"
    yield f"matmul precision   {config.matmul_precision} in training, highest in evaluations"
    sizes = _sizes(config, dataset)
    if sizes is None:
        yield "steps              unknown until the data is there"
    else:
        per_epoch = data.steps_per_epoch(config, sizes[0])
        steps, cost = config.epochs * per_epoch, costs.step_flops(config, flops)
        yield f"data               {sizes[0]:,} training and {sizes[1]:,} evaluation images{NOT_HERE * (not dataset)}"
        yield from (f"note               {line}" for line in (dataset.notes if dataset else ()))
        yield f"steps              {steps:,} ({config.epochs} epochs of {per_epoch:,}): {costs.hours(steps * cost)}"
    yield (
        f"passes per image   {forwards} forward, {image_backwards} backward to the image, "
        f"{parameter_backwards} backward to the parameters"
    )
    yield from (f"note               {line}" for line in methods.TABLE[config.method.name].notes(config))
    yield from costs.evaluation_costs(config, flops, sizes and sizes[1])[0]
    yield f"hours              {costs.ASSUMED}; an evaluation is faster where attacks succeed early"
    distorted = f"; DeepAugment's distortion of an image: {views:.4g}" if views else ""
    step = costs.step_flops(config, flops)
    yield f"FLOPs per step     {step:.3g} (one forward at {side} pixels: {flops:.4g}{distorted})"
    with costs.xla_convolutions():
        activations = costs.residual_bytes(model, variables, side) * trained
    copies = 4 + (config.accumulate > 1)  # one more: the sum of the parts' gradients
    total, state, kept = map(costs.gigabytes, (copies * size + activations, copies * size, activations))
    yield (
        f"memory             about {total} each: parameters, momentum, gradients and update {state}, activations of "
        f"{trained} images {kept}"
    )


def _report_evaluation(
    configs: Sequence[ConfigDict], dataset: data.Dataset | None, machine: accelerators.Machine | None
) -> None:
    """Prints what an evaluation of a run costs. configs: the run's, one for each result. dataset: None where it is not
    there. machine: where else, if given."""
    first, total = configs[0], 0.0
    num_eval = dataset.num_eval if dataset else data.PUBLISHED_SIZES.get(first.data.source, (None, None))[1]
    model = create_model(first.model)
    variables = models.abstract_variables(model, first.data.image_size)
    with costs.xla_convolutions():
        flops = costs.forward_flops(model, variables, first.data.image_size)
    if num_eval:
        print(f"data               {num_eval:,} evaluation images{NOT_HERE * (not dataset)}")
        print(*(f"note               {line}\n" for line in (dataset.notes if dataset else ())), sep="", end="")
    for config in configs:
        lines, cost = costs.evaluation_costs(config, flops, num_eval)
        total += cost
        print(*([f"{config.evaluation.name}:"] if len(configs) > 1 else []), *lines, sep="\n")
    if num_eval:
        early = "less for each image that an attack fools early"
        print(f"all                {costs.hours(total)} at most, {costs.ASSUMED}; {early}")
    if num_eval and machine:
        net = scale.measure(model, variables, first.data.image_size)
        print(f"on {machine}: {scale.evaluation_hours(first, net, total, machine):.3g} h at most")
