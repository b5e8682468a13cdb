"""Kills training, saving, evaluating, reproducing and reporting at random moments, and damages each file of a run.

    python -m tests.faults --n=100               # kills; about 20 s each on two cores
    python -m tests.faults --n=20 --signal=TERM  # preempts instead
    python -m tests.faults --n=0 --flips=1       # only the files; half an hour

Prints what was tried and what was lost. Exit codes: 0 nothing lost, no wrong result in silence; 1 otherwise.
"""

import argparse
import os
import pathlib
import signal
import sys
import tempfile
import time

os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
from tests import conftest  # noqa: F401, I001  as all tests: eight devices, of which a started process gets its own

from absl import logging
from nofrost_jax.progress import duration
from tests.faults import fuzz, kills


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100, help="kills, over all parts and numbers of processes")
    parser.add_argument(
        "--flips", type=int, default=2, help="random bits flipped in each file, one at a time; 0: no files"
    )
    parser.add_argument("--parts", default=",".join(part.name for part in kills.PARTS))
    parser.add_argument("--signal", default="KILL", help="instead, e.g. TERM: each command must save and stop")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    logging.set_verbosity(logging.FATAL)
    root, wrong = pathlib.Path(tempfile.mkdtemp(prefix="faults_")), 0
    if options.n:
        tallies = kill(root, options.n, options.parts.split(","), options.seed, signal.Signals[f"SIG{options.signal}"])
        wrong += sum(tally.lost for tally in tallies)
        print("\n| part | processes | runs | kills | lost |\n|---|---|---|---|---|")
        for one in tallies:
            print(f"| {one.part} | {one.processes} | {one.runs} | {one.kills} | {one.lost} |")
    if options.flips:
        counts = fuzz.fuzz(root, options.flips, log)
        wrong += sum(
            count for found in counts.values() for verdict, count in found.items() if verdict not in fuzz.RIGHT
        )
        print(f"\n| run, reader | {' | '.join(fuzz.VERDICTS)} |\n|---|{'---|' * len(fuzz.VERDICTS)}")
        for reader, found in counts.items():
            print(f"| {reader} | {' | '.join(str(found[verdict]) for verdict in fuzz.VERDICTS)} |")
    print(f"\n{wrong} wrong; folders are in {root}" if wrong else "\nnothing lost")
    return 1 if wrong else 0


def kill(root: pathlib.Path, n: int, names: list[str], seed: int, number: int) -> list[kills.Tally]:
    """Kills in turn the parts, on each of their numbers of processes, until there are n kills."""
    trials, begin = kills.Trials(root, seed, log, number), time.monotonic()
    tallies = [kills.Tally(part.name, count) for part in kills.PARTS if part.name in names for count in part.processes]
    parts = {part.name: part for part in kills.PARTS}
    while (done := sum(tally.kills for tally in tallies)) < n:
        tally = min(tallies, key=lambda one: one.kills)
        if tally.runs > 3 * n:
            raise RuntimeError(f"{tally.part} ends before it can be killed")
        left = (time.monotonic() - begin) / done * (n - done) if done else 0
        log(f"{done}/{n} kills, {tally.part} on {tally.processes}" + f", {duration(left)} left" * bool(done))
        trials.disturbed(parts[tally.part], tally.processes, tally)
    return tallies


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
