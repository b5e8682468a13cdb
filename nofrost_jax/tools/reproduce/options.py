"""The command line; everything is checked before anything starts."""

import argparse
import math
import os

from nofrost_jax import buckets, errors
from nofrost_jax.accelerators import Machine, machine
from nofrost_jax.report.exhibits import EXHIBITS, METHODS
from nofrost_jax.tools.reproduce import files
from nofrost_jax.tools.reproduce.paper import SCALES, Paper
from nofrost_jax.tools.reproduce.study import STUDIES, Study
from nofrost_jax.workdir import check_workdir

RESERVED = (  # the study's own
    *("seed", "optimizer.learning_rate", "evaluation.name", "start_from"),
    *(f"data.{name}" for name in ("source", "holdout", "train_split", "eval_split")),
)
KNOWN = "table1 to table7, figure1 to figure7"


def parse(arguments: list[str] | None = None) -> tuple[Study | Paper, bool, Machine | None]:
    """(what a command line asks for, whether only to say what it takes, and where else). Raises UserError for whatever
    is wrong."""
    parser = errors.Parser("tools.reproduce", "Makes tables and figures, or runs a study; the same command resumes it.")
    parser.add_argument("names", nargs="+", metavar="name", help=f"{KNOWN}, all, or a study: {', '.join(STUDIES)}")
    parser.add_argument("--workdir", default="", help="folder of all runs, and of what is made from them")
    parser.add_argument("--rows", help="rows of configs/methods.py, with commas; default: all that are needed")
    parser.add_argument("--seeds", help="with commas; default: those of the table, figure or study")
    parser.add_argument("--source", default="", help="config.data.source of every run, e.g. digits or folder:PATH")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="config.FIELD of every run")
    parser.add_argument(
        "--scale", choices=SCALES, help="the nets' configs; default: digits for that source, or imagenet"
    )
    parser.add_argument("--files", default="", help="folder of DeepAugment's images; default: Noise2Net makes them")
    parser.add_argument("--dry_run", action="store_true", help="say what is there, what is missing, and its cost")
    parser.add_argument("--device", default="", help="with --dry_run: the cost there, too, e.g. on 8xh100")
    parser.add_argument("--rates", help="of a study: learning rates to choose from; a single one is taken as it is")
    parser.add_argument("--shift", action="store_true", help="of a study: evaluate under common corruptions, too")
    options = parser.parse_args(arguments)
    options.names = [name.strip() for text in options.names for name in text.split(",")]
    workdir = os.path.expanduser(options.workdir)
    buckets.refuse(workdir, f"--workdir={workdir}")
    check_workdir(workdir)
    options.workdir = os.path.abspath(workdir)
    options.settings = dict(_setting(text) for text in options.set)
    options.source = _source(options.source, options.settings)
    asked = _study(options) if options.names[0] in STUDIES else _paper(options)
    _check(asked)
    if options.device and not options.dry_run:
        raise errors.UserError(
            "--device is for --dry_run, which costs the runs there; runs take the devices that are here"
        )
    return asked, options.dry_run, machine(options.device) if options.device else None


def _study(options: argparse.Namespace) -> Study:
    name, *others = options.names
    given = [flag for flag in ("scale", "files", "dry_run") if getattr(options, flag)]
    if others or given:
        what = f"--{given[0]}" if given else others[0]
        raise errors.UserError(f"{what} does not go with the study {name}; it is for tables and figures, e.g. table1")
    defaults = STUDIES[name]
    return Study(
        name=name,
        defaults=defaults,
        workdir=options.workdir,
        rows=_items("rows", options.rows, defaults.rows, str),
        seeds=_items("seeds", options.seeds, defaults.seeds, int),
        rates=_items("rates", options.rates, defaults.rates, float),
        source=options.source,
        settings=options.settings,
        shift=options.shift,
    )


def _paper(options: argparse.Namespace) -> Paper:
    names = tuple(EXHIBITS) if "all" in options.names else tuple(dict.fromkeys(options.names))
    for name in names:
        if name in STUDIES:
            raise errors.UserError(f"the study {name} does not go with tables and figures; give it alone")
        if name not in EXHIBITS:
            raise errors.UserError(f"unknown name {name!r}; choose {KNOWN}, all, or a study: {', '.join(STUDIES)}")
    rows = _items("rows", options.rows, (), str)
    if rows:
        known = {name: {net.row for net in EXHIBITS[name].nets} for name in names}
        names = tuple(name for name in names if known[name] & {*rows})
        if not names:
            listed = ", ".join(sorted(set.union(*known.values())))
            raise errors.UserError(f"--rows={options.rows}: nothing asked for has such a net; its rows are {listed}")
    for flag in ("rates", "shift"):
        if getattr(options, flag):
            raise errors.UserError(f"--{flag} is for a study, {' or '.join(STUDIES)}; leave it out")
    scale = options.scale or ("digits" if options.source == "digits" else "imagenet")
    if options.files and scale != "imagenet":
        raise errors.UserError(f"--files is for ImageNet, not for {scale}; leave it out")
    return Paper(
        names=names,
        workdir=options.workdir,
        scale=scale,
        rows=rows,
        seeds=_items("seeds", options.seeds, (), int),
        source=options.source,
        settings=options.settings,
        files=os.path.abspath(os.path.expanduser(options.files)) if options.files else "",
    )


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


def _check(asked: Study | Paper) -> None:
    for row in asked.rows:
        if row not in METHODS:
            raise errors.UserError(f"--rows: unknown row {row!r}; choose some of {', '.join(METHODS)}")
    if not all(0 <= seed < 2**31 for seed in asked.seeds):
        raise errors.UserError(f"--seeds={','.join(map(str, asked.seeds))} must be numbers from 0 to 2147483647")
    if isinstance(asked, Paper):
        changed = files.paper_changes(asked)
    else:
        changed = files.changes(asked)
        if not all(0 < rate < math.inf for rate in asked.rates):
            raise errors.UserError(f"--rates={','.join(map(str, asked.rates))} must be positive numbers")
    if changed:
        raise errors.UserError(f"--workdir={asked.workdir} holds other runs ({changed}); choose a new folder")
