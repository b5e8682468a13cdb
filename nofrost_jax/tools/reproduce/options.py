"""The command line of a study; everything is checked before anything starts."""

import math
import os

from nofrost_jax import errors
from nofrost_jax.report.exhibits import METHODS
from nofrost_jax.tools.reproduce import files
from nofrost_jax.tools.reproduce.study import STUDIES, Study
from nofrost_jax.workdir import check_workdir

RESERVED = (  # the study's own
    *("seed", "optimizer.learning_rate", "evaluation.name", "start_from"),
    *(f"data.{name}" for name in ("source", "holdout", "train_split", "eval_split")),
)


def parse(arguments: list[str] | None = None) -> Study:
    """The Study of a command line. Raises UserError for whatever is wrong in it."""
    parser = errors.Parser("tools.reproduce", "Runs a study; the same command resumes it.")
    parser.add_argument("study", help=", ".join(STUDIES))
    parser.add_argument("--workdir", default="", help="folder of the study: all its runs, and study.json")
    parser.add_argument("--rows", help="rows of configs/methods.py, with commas; default: the study's")
    parser.add_argument("--seeds", help="with commas; default: the study's")
    parser.add_argument("--rates", help="learning rates to choose from, with commas; a single one is taken as it is")
    parser.add_argument("--source", default="", help="config.data.source of every run, e.g. folder:PATH")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="config.FIELD of every run")
    parser.add_argument("--shift", action="store_true", help="evaluate under common corruptions, too")
    options = parser.parse_args(arguments)
    if options.study not in STUDIES:
        raise errors.UserError(f"unknown study {options.study!r}; choose one of {', '.join(STUDIES)}")
    defaults, workdir = STUDIES[options.study], os.path.expanduser(options.workdir)
    check_workdir(workdir)
    settings = dict(_setting(text) for text in options.set)
    study = Study(
        name=options.study,
        defaults=defaults,
        workdir=os.path.abspath(workdir),
        rows=_items("rows", options.rows, defaults.rows, str),
        seeds=_items("seeds", options.seeds, defaults.seeds, int),
        rates=_items("rates", options.rates, defaults.rates, float),
        source=_source(options.source, settings),
        settings=settings,
        shift=options.shift,
    )
    _check(study)
    return study


def _items(name: str, text: str | None, default: tuple, kind: type) -> tuple:
    """The values of a comma-separated list, each once."""
    if text is None:
        return default
    try:
        return tuple(dict.fromkeys(kind(item.strip()) for item in text.split(",")))
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise errors.UserError(f"--{name}={text} must be {what} with commas between them") from error


def _setting(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not field or not equals:
        raise errors.UserError(f"--set {text} must be FIELD=VALUE, e.g. --set epochs=10")
    if field in RESERVED:
        raise errors.UserError(f"--set {text}: the study sets this field itself; use --seeds, --rates or --source")
    return field, value


def _source(source: str, settings: dict[str, str]) -> str:
    """With an absolute path of a folder: the runs start in the repository's root."""
    kind, _, path = source.partition(":")
    if kind == "folder" and path and "data.data_dir" not in settings:
        return f"folder:{os.path.abspath(os.path.expanduser(path))}"
    return source


def _check(study: Study) -> None:
    for row in study.rows:
        if row not in METHODS:
            raise errors.UserError(f"--rows: unknown row {row!r}; choose some of {', '.join(METHODS)}")
    if not all(0 <= seed < 2**31 for seed in study.seeds):
        raise errors.UserError(f"--seeds={','.join(map(str, study.seeds))} must be numbers from 0 to 2147483647")
    if not all(0 < rate < math.inf for rate in study.rates):
        raise errors.UserError(f"--rates={','.join(map(str, study.rates))} must be positive numbers")
    changed = files.changes(study)
    if changed:
        raise errors.UserError(f"--workdir={study.workdir} holds another study ({changed}); choose a new folder")
