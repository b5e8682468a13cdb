"""The queue of everything that needs an accelerator: one command for some minutes on one.

    python benchmarks/accelerator.py --minutes=9 --data=cifar10_jpeg.tar.gz
    python benchmarks/accelerator.py --minutes=9 --only=correct,attacks --output=DIR
    python benchmarks/accelerator.py --rehearse                  every task in miniature, on a CPU

Runs TASKS in order, each in a process of its own with a limit in seconds; a task that fails or hangs does not stop the
queue. Each updates one file, DIR/DEVICE/NAME.json (DIR: benchmarks/results/accelerator), with the reason if it failed.
A task with a complete result for the same kind of device, in DIR or in benchmarks/results/accelerator, does not run
again; one that was cut short or failed continues, with three times its limit. A task that does not fit the minutes left
gets fewer seconds if that is enough for it; otherwise it waits for the next time. Ends with a table; exit code 1 if a
task failed. `python -m nofrost_jax.report.accelerator
--into=RESULTS.md` makes tables of the files.

Needs requirements.txt without TensorFlow, tfds, tensorboard and clu; for comparisons timm, PyTorch with CUDA and
pyautoattack. CONTRIBUTING.md has the recipe for a machine without a network.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import ROOT, parser
from benchmarks.tasks.common import RESULTS, read_json, write_json
from nofrost_jax import signals
from nofrost_jax.tables import aligned

COMPILED = os.path.join(tempfile.gettempdir(), "nofrost_jax_compiled")  # where tasks find each other's programs
GRACE = 8  # seconds between asking a task to stop and killing it
STUDY_ROWS = ("sat", "mbnat", "nofrost", "pgdat", "pgdat_nf", "st", "trades", "sat_in")


@dataclasses.dataclass(frozen=True)
class Task:
    """name: of its result file. seconds: its first limit. least: seconds that it needs to be useful. module: default:
    benchmarks.tasks.NAME. arguments: additional ones for its command line. needs: packages. data: whether it needs
    --data. kind: another name for it in --only."""

    name: str
    seconds: int
    least: int
    module: str = ""
    arguments: tuple = ()
    needs: tuple = ()
    data: bool = False
    kind: str = ""


def study(row: str, seed: int) -> Task:
    """One row of the study on CIFAR-10."""
    return Task(
        name=f"study_{row}_seed{seed}",
        seconds=420,
        least=180,  # two compilations, and some training
        module="benchmarks.tasks.study",
        arguments=(f"--row={row}", f"--seed={seed}"),
        data=True,
        kind="study",
    )


TASKS = (
    Task("train_step", 150, 60),
    Task("torch_step", 90, 40, needs=("torch", "timm")),
    Task("options", 110, 50),
    Task("correct", 100, 60),
    Task("profile", 40, 30),  # of the program that train_step compiled
    Task("ceiling", 30, 15),  # these six take nine minutes
    Task("attacks", 90, 50),
    Task("resume", 150, 60),
    *(study(row, seed) for seed in range(3) for row in STUDY_ROWS),
)


def main() -> None:
    line = parser(__doc__, output=False)
    line.add_argument("--minutes", type=float, default=9.0, help="it ends by then")
    line.add_argument("--only", default="", help="names of tasks with commas between them; study: all its rows")
    line.add_argument("--output", default="", help="folder of the results; default: benchmarks/results/accelerator")
    line.add_argument("--data", default="", help="CIFAR-10: a folder of JPEGs, or a .tar.gz of one")
    line.add_argument("--rehearse", action="store_true", help="in miniature, on a CPU; one row of the study")
    options = line.parse_args()
    if options.data and not os.path.exists(options.data):
        line.error(f"--data={options.data} does not exist; give CIFAR-10 as a folder of JPEGs, or a .tar.gz of one")
    names = [name for name in options.only.split(",") if name]
    for name in names:
        if not any(name in (task.name, task.kind) for task in TASKS):
            line.error(f"--only={name}: no such task; choose some of {', '.join(task.name for task in TASKS)}, study")
    with contextlib.ExitStack() as stack, signals.raising():
        if options.rehearse and not options.output:
            options.output = stack.enter_context(tempfile.TemporaryDirectory())
        sys.exit(Queue(options).run(chosen(names, options.rehearse)))


def chosen(names: list[str], rehearse: bool) -> list[Task]:
    """The tasks of --only, in the order of TASKS."""
    if rehearse and not names:
        return [task for task in TASKS if task.kind != "study" or task.name == f"study_{STUDY_ROWS[0]}_seed0"]
    return [task for task in TASKS if not names or task.name in names or task.kind in names]


class Queue:
    """One command's work. rows: (task, state, seconds, headline) of the table."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.deadline = time.monotonic() + 60 * options.minutes
        self.output = pathlib.Path(options.output or RESULTS).absolute()
        self.environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
        self.environment.setdefault("JAX_COMPILATION_CACHE_DIR", COMPILED)
        self.environment.setdefault(
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0"
        )  # a net begins with many small ones
        if options.rehearse:
            self.environment |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        self.rows = []

    def run(self, tasks: Sequence[Task]) -> int:
        """Does the tasks, prints the table, returns the exit code: 1 if a task failed."""
        try:
            kind = self.device_kind()
            self.folder = self.output / folder_name(kind)
            print(f"{kind}: {len(tasks)} tasks, {self.options.minutes:g} minutes; results in {self.folder}", flush=True)
            for task in tasks:
                self.rows.append((task.name, *self.do(task)))
                print("  ".join(str(cell) for cell in self.rows[-1] if cell), flush=True)
        except KeyboardInterrupt:
            print("stopped; run the same command again to continue", flush=True)
            return 75
        finally:
            if self.rows:
                rows = [("task", "state", "seconds", ""), *(tuple(map(str, row)) for row in self.rows)]
                print(*aligned(rows, "<<><"), sep="\n", flush=True)
        return int(any(state == "failed" for _, state, _, _ in self.rows))

    def device_kind(self) -> str:
        """The device's name, from a process of its own: this one must not take the accelerator."""
        code = "import jax; device = jax.devices()[0]; print(device.platform, device.device_kind, sep='|')"
        command, own = [sys.executable, "-c", code], self.environment
        try:
            done = subprocess.run(command, env=own, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"error: jax does not start here: {last_line(error.stderr or str(error))}", file=sys.stderr)
            sys.exit(1)
        platform, kind = done.stdout.strip().splitlines()[-1].split("|")
        if platform == "cpu" and not self.options.rehearse:
            print("error: jax sees no accelerator here; --rehearse runs every task in miniature", file=sys.stderr)
            sys.exit(2)
        return kind

    def do(self, task: Task) -> tuple[str, float | str, str]:
        """(state, seconds, headline) of a task: done, kept (from before), partial, failed, or left."""
        path = self.folder / f"{task.name}.json"
        kept = RESULTS / self.folder.name / path.name
        for old in (path, kept):
            found = read_json(old)
            if found and found["complete"]:
                return "kept", found["seconds"], found["headline"]
        missing = [name for name in task.needs if not importlib.util.find_spec(name)]
        if missing:
            return "left", "", f"needs {', '.join(missing)}"
        if task.data and not self.options.data and not self.options.rehearse:
            return "left", "", "needs --data"
        limit = task.seconds * (5 if self.options.rehearse else 1)  # a rehearsal's CPU may be a busy one
        if path.exists() or kept.exists():  # it ran out of time: one part of its work may take longer than its limit
            limit *= 3
        seconds = min(limit, int(self.deadline - time.monotonic()) - GRACE)
        if seconds < min(task.least, task.seconds):
            return "left", "", f"needs {task.least} s, {max(seconds, 0)} are left"
        if kept != path:  # continues a partial one
            for old in kept.parent.glob(f"{task.name}.*"):
                if not (self.folder / old.name).exists():
                    self.folder.mkdir(parents=True, exist_ok=True)
                    shutil.copy(old, self.folder / old.name)
        return self.attempt(task, path, seconds)

    def attempt(self, task: Task, path: pathlib.Path, seconds: int) -> tuple[str, float, str]:
        """Runs a task in a process group of its own, until its limit."""
        if "failure" in (old := read_json(path) or {}):  # of an earlier attempt
            write_json(path, {name: value for name, value in old.items() if name != "failure"})
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()  # of one clock for all processes: a task's imports count
        command = [sys.executable, "-m", task.module or f"benchmarks.tasks.{task.name}"]
        command += [f"--seconds={seconds}", f"--begun={begun}", f"--output={path}", *task.arguments]
        command += [f"--data={os.path.abspath(self.options.data)}"] if self.options.data else []
        command += ["--rehearse"] if self.options.rehearse else []
        print(f"{task.name}: at most {seconds} s", flush=True)
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
            try:
                reason = wait(process, seconds)
            finally:
                kill(process)
            log.seek(0)
            tail = log.read().splitlines()[-40:]
        spent, found = round(time.monotonic() - begun, 1), read_json(path)
        if found and found["complete"]:
            return "done", spent, found["headline"]
        if not reason and found:  # it ended by itself, having no time for the rest
            return "partial", spent, f"{len(found['figures'])} figures so far"
        reason = reason or "it ended without a result"
        found = found or {"task": task.name, "complete": False, "headline": "", "seconds": 0, "figures": {}}
        write_json(path, found | {"failure": {"reason": reason, "seconds": spent, "output": tail}})
        state = "partial" if found["figures"] and reason.startswith("killed at") else "failed"
        return state, spent, f"{reason}: {tail[-1] if tail else 'no output'}"[:100]


def wait(process: subprocess.Popen, seconds: int) -> str:
    """Waits for a process, asks it to stop after `seconds`, and kills its group soon after. Why it failed, or ""."""
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return "" if process.wait(GRACE - 2) == 0 else f"killed at its limit of {seconds} s"
        return f"killed at its limit of {seconds} s"
    return f"exit code {code}" if code else ""


def kill(process: subprocess.Popen) -> None:
    """Ends what is left of a process's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def folder_name(kind: str) -> str:
    """A device's name with letters, digits, '.', '_' and '-' alone."""
    return re.sub(r"[^\w.-]+", "_", kind, flags=re.ASCII).strip("_")


def last_line(text: str | bytes) -> str:
    text = text.decode(errors="replace") if isinstance(text, bytes) else text  # of a command that took too long
    return (text.strip().splitlines() or ["no output"])[-1]


if __name__ == "__main__":
    main()
