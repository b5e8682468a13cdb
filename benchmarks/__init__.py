"""Measurements: each file is a program of its own, which prints a table and writes its result as JSON."""

import argparse
import importlib.metadata
import pathlib
from collections.abc import Iterable
from typing import Any

from nofrost_jax import files

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def parser(doc: str, output: bool = True) -> argparse.ArgumentParser:
    """A benchmark's command line, described by its module's text `doc`, with the option --output."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if output:
        made.add_argument("--output", default=str(RESULTS), help="folder of the result; default: benchmarks/results")
    return made


def add_net(parser: argparse.ArgumentParser, models: Iterable[str], default: str) -> None:
    """Adds the options of a net and a training batch: --model, --image_size, --batch_size, --rounds, --stage_sizes."""
    parser.add_argument("--model", default=default, choices=models)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stage_sizes", type=stage_sizes, default=(), help="blocks of each stage; default: the net's")


def save_result(output: str, name: str, result: Any) -> None:
    """Writes a result as OUTPUT/NAME, atomically, and prints the path."""
    path = pathlib.Path(output).expanduser() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, result)
    print(f"written: {path}", flush=True)


def command(name: str, options: argparse.Namespace) -> str:
    """The command line of a benchmark with its parsed options, for its result."""
    sizes = {k: v for k, v in vars(options).items() if k not in ("output", "stage_sizes", "methods")}
    return f"python benchmarks/{name}.py " + " ".join(f"--{k}={v}" for k, v in sizes.items())


def stage_sizes(text: str) -> tuple[int, ...]:
    """ "1,1" as (1, 1): blocks of each stage of a net, for a trial of a benchmark in miniature."""
    return tuple(int(number) for number in text.split(",") if number)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """{package: version}, without those that are not installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
