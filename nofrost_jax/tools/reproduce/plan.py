"""What tables and figures still need, and what that costs: `--dry_run`."""

import ast
import dataclasses
import importlib
import pathlib
import sys
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax import config, costs, data, models, scale
from nofrost_jax.accelerators import Machine
from nofrost_jax.classifier import create_model
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import sweep
from nofrost_jax.report.exhibits import EXHIBITS, Suite
from nofrost_jax.shift import suites
from nofrost_jax.tables import aligned
from nofrost_jax.tools.reproduce import files
from nofrost_jax.tools.reproduce.paper import Paper, arguments
from nofrost_jax.tools.reproduce.study import Training, evaluation_arguments

MISSING = 3  # exit code


def lacking(paper: Paper) -> dict[str, list[str]]:
    """{table or figure: what it lacks}, in words."""
    found = {name: [] for name in paper.names}
    for (run, suite), names in paper.evaluations.items():
        if not files.evaluated(paper, run, suite):
            why = files.record(paper, run)["not_finite"]
            what = f"{suite.name} of {run}" if files.result(paper, run) else f"{run}{': ' * bool(why)}{why}"
            for name in names:
                found[name] += [what] if what not in found[name] else []
    return found


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a training, and of an evaluation under each suite, at most. operations: floating-point; hours: on a machine, 0
    if none is given; missing: lines about data."""

    training: tuple[float, float]  # operations, hours
    suites: dict[Suite, tuple[float, float]]
    missing: list[str]


def dry_run(paper: Paper, root: pathlib.Path, machine: Machine | None = None) -> int:
    """Prints which trainings and evaluations are there, which are missing, and what they cost, also on `machine`;
    returns the exit code.

    root: the folder of main.py. Raises UserError for a config or data that the runs would refuse.
    """
    lacks = lacking(paper)
    for name, what in lacks.items():
        print(f"{name:8} {EXHIBITS[name].title}: {f'lacks {len(what)}' if what else 'complete'}")
    if not any(lacks.values()):
        return 0
    rows, trainings, evaluations, absent = [("net", "", "training", "evaluations")], [], [], []
    for run in paper.trainings:
        suites_left = [
            suite for one, suite in paper.evaluations if one == run and not files.evaluated(paper, run, suite)
        ]
        is_trained = files.is_settled(paper, run)
        cost = _cost(paper, run, suites_left, root, machine)
        cells = [suite.name + f" {costs.hours(spent)}" * bool(spent) for suite, (spent, _) in cost.suites.items()]
        cell = "there" if is_trained else costs.hours(cost.training[0])
        rows.append((run.row, f"seed {run.seed}", cell, ", ".join(cells) or "there"))
        trainings += [] if is_trained else [cost.training]
        evaluations += cost.suites.values()
        absent += cost.missing
    (training, hours), (evaluation, evaluation_hours) = _total(trainings), _total(evaluations)
    print("", *aligned(rows, "<<><"), "", sep="\n")
    print(f"all      training {costs.hours(training)}, evaluations at most {costs.hours(evaluation)} {costs.ASSUMED};")
    if machine:
        print(f"         on {machine} training {hours:.3g} h, evaluations at most {evaluation_hours:.3g} h;")
    print("         evaluations are faster where attacks succeed early; shift is not counted")
    print(*(f"missing: {line}\n" for line in dict.fromkeys(absent)), sep="", end="")
    return MISSING


def _total(found: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(operations for operations, _ in found), sum(hours for _, hours in found)


def _cost(paper: Paper, run: Training, wanted: list[Suite], root: pathlib.Path, machine: Machine | None) -> Cost:
    own = config.for_training(_config(arguments(paper, run), root))
    absent, dataset = data.examine(own)
    sizes = (dataset.num_train, dataset.num_eval) if dataset else data.PUBLISHED_SIZES.get(own.data.source, (0, 0))
    model = create_model(own.model)
    variables = models.abstract_variables(model, own.data.image_size)
    with costs.xla_convolutions():
        flops = costs.forward_flops(model, variables, own.data.image_size)
    net = scale.measure(model, variables, own.data.image_size) if machine else None
    steps = own.epochs * data.steps_per_epoch(own, sizes[0]) if sizes[0] else 0
    hours = steps * scale.step_on(own, net, machine).seconds / 3600 if net and machine else 0.0
    spent: dict[Suite, tuple[float, float]] = {}
    for suite in wanted:
        given = _config(evaluation_arguments(paper.workdir, run, suite), root)
        if suites.is_suite(given):
            spent[suite] = 0.0, 0.0
            continue
        evaluation = config.prepare(config.for_evaluation(own, given)[0])
        each = sweep.configs(evaluation).values() or [evaluation]
        operations = sum(costs.evaluation_costs(one, flops, sizes[1])[1] for one in each)
        there = scale.evaluation_hours(evaluation, net, operations, machine) if net and machine else 0.0
        spent[suite] = operations, there
    return Cost((steps * costs.step_flops(own, flops), hours), spent, absent)


def _config(given: list[str], root: pathlib.Path) -> ConfigDict:
    """The config of main.py's arguments. Raises UserError where it would refuse them."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    (first,) = (one for one in given if one.startswith("--config="))
    file, _, word = first.removeprefix("--config=").partition(":")
    get_config = importlib.import_module(file.removesuffix(".py").replace("/", ".")).get_config
    found = get_config(word) if word else get_config()
    for one in given:
        name, _, text = one.partition("=")
        field = name.removeprefix("--config.")
        if field == name:
            continue
        try:
            is_text = isinstance(config.get(found, field), str)
            found.update_from_flattened_dict({field: text if is_text else _value(text)})
        except (TypeError, ValueError) as error:
            raise UserError(f"config.{field}={text}: {error}") from error
    return found


def _value(text: str) -> Any:
    """The plain value that a text is, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
