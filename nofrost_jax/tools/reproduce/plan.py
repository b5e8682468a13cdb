"""What tables and figures still need, and what that costs: `--dry_run`."""

import ast
import importlib
import pathlib
import sys
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax import config, costs, data, models
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


def dry_run(paper: Paper, root: pathlib.Path) -> int:
    """Prints which trainings and evaluations are there, which are missing, and what they cost; returns the exit code.

    root: the folder of main.py. Raises UserError for a config or data that the runs would refuse.
    """
    lacks = lacking(paper)
    for name, what in lacks.items():
        print(f"{name:8} {EXHIBITS[name].title}: {f'lacks {len(what)}' if what else 'complete'}")
    if not any(lacks.values()):
        return 0
    rows, totals, absent = [("net", "", "training", "evaluations")], [0.0, 0.0], []
    for run in paper.trainings:
        suites_left = [
            suite for one, suite in paper.evaluations if one == run and not files.evaluated(paper, run, suite)
        ]
        is_trained = files.is_settled(paper, run)
        training, evaluations, missing = _operations(paper, run, suites_left, root)
        cells = [suite.name + f" {costs.hours(spent)}" * bool(spent) for suite, spent in evaluations.items()]
        rows.append(
            (run.row, f"seed {run.seed}", "there" if is_trained else costs.hours(training), ", ".join(cells) or "there")
        )
        totals = [totals[0] + training * (not is_trained), totals[1] + sum(evaluations.values())]
        absent += missing
    print("", *aligned(rows, "<<><"), "", sep="\n")
    print(f"all      training {costs.hours(totals[0])}, evaluations at most {costs.hours(totals[1])} {costs.ASSUMED};")
    print("         evaluations are faster where attacks succeed early; shift is not counted")
    print(*(f"missing: {line}\n" for line in dict.fromkeys(absent)), sep="", end="")
    return MISSING


def _operations(
    paper: Paper, run: Training, wanted: list[Suite], root: pathlib.Path
) -> tuple[float, dict[Suite, float], list[str]]:
    """(floating-point operations of a training, of each suite at most, lines about missing data)."""
    own = config.for_training(_config(arguments(paper, run), root))
    absent, dataset = data.examine(own)
    sizes = (dataset.num_train, dataset.num_eval) if dataset else data.PUBLISHED_SIZES.get(own.data.source, (0, 0))
    model = create_model(own.model)
    with costs.convolutions("xla"):
        flops = costs.forward_flops(model, models.abstract_variables(model, own.data.image_size), own.data.image_size)
    steps = own.epochs * data.steps_per_epoch(own, sizes[0]) if sizes[0] else 0
    spent = {}
    for suite in wanted:
        given = _config(evaluation_arguments(paper.workdir, run, suite), root)
        if suites.is_suite(given):
            spent[suite] = 0.0
            continue
        evaluation = config.prepare(config.for_evaluation(own, given)[0])
        each = sweep.configs(evaluation).values() or [evaluation]
        spent[suite] = sum(costs.evaluation_costs(one, flops, sizes[1])[1] for one in each)
    return steps * costs.step_flops(own, flops), spent, absent


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
