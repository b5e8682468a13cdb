"""What all tasks of the accelerator queue share: command line, result file, clock.

A task is a module with a `main()`, run as

    python -m benchmarks.tasks.NAME --seconds=90 --output=FILE [--data=FOLDER] [--rehearse]

    def main():
        task = common.start("ceiling", __doc__)
        for size in sizes:
            if f"matmul_{size}" not in task.figures and task.left() > 10:
                task.record(f"matmul_{size}", measure(size))
        task.finish("790 TFLOP/s")

Every `record` rewrites the file atomically, so a killed task leaves what it had; the next attempt finds it in
`task.figures` and continues. Only `finish` makes the result complete. A task that runs out of time returns without it,
and the next queue continues it.
"""

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import ROOT, parser, versions
from nofrost_jax import files

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "timm")
RESULTS = ROOT / "benchmarks" / "results" / "accelerator"
PREDICTED = ROOT / "benchmarks" / "results" / "gpu_program_h100.json"
CHECKPOINT = ROOT / "notebooks" / "digits_nofrost"


class Task:
    """One task's options and the figures that it has so far.

    options: seconds, output, data, rehearse, and what the task added. figures: {key: plain value}, with those of an
    earlier attempt on the same kind of device with the same versions.
    """

    def __init__(self, name, options, device, versions):
        self.name, self.options, self.device, self.versions = name, options, device, versions
        self.started = vars(options).get("begun") or time.monotonic()
        old = read_json(options.output) or {}
        same = old.get("device") == device and old.get("versions") == versions
        self.figures = old.get("figures", {}) if same else {}
        self.spent = old.get("seconds", 0.0) if same else 0.0

    @property
    def rehearse(self) -> bool:
        return self.options.rehearse

    def left(self) -> float:
        """Seconds until the task should have ended."""
        return self.options.seconds - (time.monotonic() - self.started)

    def record(self, key: str, value: Any) -> None:
        """Keeps a figure, a plain value, also on disk."""
        self.figures[key] = value
        self._write(complete=False, headline="")

    def finish(self, headline: str) -> None:
        """Marks the result as complete. headline: the table's one short line."""
        self._write(complete=True, headline=headline)
        print(f"{self.name}: {headline}", flush=True)

    def _write(self, complete: bool, headline: str) -> None:
        write_json(
            self.options.output,
            {
                "task": self.name,
                "device": self.device,
                "versions": self.versions,
                "commit": commit(),
                "rehearsal": self.options.rehearse,
                "seconds": round(self.spent + time.monotonic() - self.started, 1),
                "complete": complete,
                "headline": headline,
                "figures": self.figures,
            },
        )


def start(name: str, doc: str, arguments: Iterable[tuple[str, Any]] = ()) -> Task:
    """The Task of this process's command line. arguments: [(flag, default), ...] in addition to the usual ones; a
    task with some is called NAME_VALUE_..., like its file."""
    line = parser(doc, output=False)
    line.add_argument("--seconds", type=float, default=600.0, help="it ends by then, with what it has")
    line.add_argument("--begun", type=float, help="time.monotonic() of its clock's start; default: after its imports")
    line.add_argument("--output", required=True, help="its result file")
    line.add_argument("--data", default="", help="CIFAR-10: a folder of JPEGs, or a .tar.gz of one")
    line.add_argument("--rehearse", action="store_true", help="in miniature, on a CPU")
    for flag, default in arguments:
        line.add_argument(flag, type=type(default), default=default)
    options = line.parse_args()
    options.output = os.path.abspath(options.output)
    import jax

    found = {"python": ".".join(map(str, sys.version_info[:3])), **versions(PACKAGES)}
    return Task(name, options, jax.devices()[0].device_kind, found)


@functools.cache
def commit() -> str | None:
    """The checkout's commit, None without git or a checkout."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return None


def timed(function: Callable, repeats: int = 1) -> list[float]:
    """Seconds of each of `repeats` calls, including the wait for what they return."""
    import jax

    seconds = []
    for _ in range(repeats):
        before = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - before)
    return seconds


def predicted_seconds(program: str) -> float | None:
    """The bound on an H100 of "NET DTYPE BATCH PROGRAM" (`benchmarks/gpu_program.py`); None if there is none."""
    return ((read_json(PREDICTED) or {}).get(program) or {}).get("seconds")


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError):
        return None


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes JSON atomically, and its folder."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, value, indent=1)
