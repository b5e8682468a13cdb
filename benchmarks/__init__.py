"""Measurements: each file is a program of its own, which prints a table and writes its result as JSON."""

import json
import pathlib

RESULTS = pathlib.Path(__file__).parent / "results"


def add_output(parser):
    """Adds the option --output to a benchmark's."""
    parser.add_argument("--output", default=str(RESULTS), help="folder of the result; default: benchmarks/results")


def save_result(output, name, result):
    """Writes a result as OUTPUT/NAME, makes the folder, and says so."""
    path = pathlib.Path(output).expanduser() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {path}", flush=True)


def command(name, options):
    """The command line of a benchmark with its parsed options, for its result."""
    sizes = {k: v for k, v in vars(options).items() if k not in ("output", "stage_sizes", "methods")}
    return f"python benchmarks/{name}.py " + " ".join(f"--{k}={v}" for k, v in sizes.items())


def stage_sizes(text):
    """ "1,1" as (1, 1): blocks of each stage of a net, for a trial of a benchmark in miniature."""
    return tuple(int(number) for number in text.split(",") if number)
