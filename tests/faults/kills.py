"""Kills programs at random moments, lets them finish in the end, and compares all that they wrote with an undisturbed
run of the same command."""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.conftest import ROOT, TINY, environment, overrides
from tests.resume.helpers import contents, result_of, without_times

MOST_KILLS = 3  # of one run
STOPPED = 75  # exit code after a signal
DEADLINE = 300  # seconds for a command that nobody kills
NET = {**TINY, "batch_size": 64, "epochs": 2, "log.every_steps": 1, "evaluation.batch_size": 8}
NET |= {"evaluation.chunk_size": 16, "evaluation.limit": 48, "evaluation.every_epochs": 1}
TRAIN = ["--config=configs/digits.py:sat"]
SUITE = ["--mode=evaluate", "--config=configs/eval/paper.py", "--config.evaluation.only=pgd_20,aa_fast_20"]
SUITE += ["--config.evaluation.limit=48", "--config.evaluation.chunk_size=8", "--config.evaluation.batch_size=8"]


@dataclasses.dataclass(frozen=True)
class Part:
    """What is killed. command: its arguments, of python or of launch/local.sh, for a folder; needs: the part whose
    folder it works in, "" for none; found: what it wrote; begun: a line of its output from which it may be killed."""

    name: str
    command: Callable[[pathlib.Path], list[str]]
    found: Callable[[pathlib.Path], Any]
    needs: str = ""
    begun: str = ""
    processes: tuple[int, ...] = (1, 2)


def _train(**fields: Any) -> Callable[[pathlib.Path], list[str]]:
    own = NET | {name.replace("__", "."): value for name, value in fields.items()}
    return lambda folder: ["main.py", *TRAIN, *overrides(own), f"--workdir={folder}/run"]


def _trained(folder: pathlib.Path) -> Any:
    return contents(folder / "run")


def _evaluated(folder: pathlib.Path) -> dict[str, Any]:
    """All results without times, and all outcomes."""
    found = {}
    for path in sorted(folder.glob("**/evaluations/*.json")):
        found[str(path.relative_to(folder))] = result_of(path)
    return found


def _reproduced(folder: pathlib.Path) -> dict[str, Any]:
    metrics = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("**/metrics.jsonl"))}
    study = without_times(json.loads((folder / "run/study.json").read_text()))
    return _evaluated(folder) | {"metrics": metrics, "study": study}


def _reported(folder: pathlib.Path) -> dict[str, Any]:
    """Every file, to the byte but for where the runs are; of PNGs and the page only that they are whole."""
    whole = {
        ".png": lambda content: content.endswith(b"IEND\xaeB`\x82"),
        ".html": lambda page: b"</html>" in page[-99:],
    }
    paths = sorted(path for path in (folder / "report").rglob("*") if path.is_file())
    found = {path: re.sub(rb"--workdir=\S+", b"", path.read_bytes()) for path in paths}
    return {str(path.relative_to(folder)): whole.get(path.suffix, bytes)(found[path]) for path in paths}


def _study(folder: pathlib.Path) -> list[str]:
    settings = [f"--set={field}={value}" for field, value in (NET | {"epochs": 1}).items()]
    study = ["digits", f"--workdir={folder}/run", "--rows=st,sat", "--seeds=0", "--rates=0.1", *settings]
    return ["-m", "nofrost_jax.tools.reproduce", *study]


PARTS = (
    Part("training", _train(checkpoint__every_steps=7), _trained, begun="compiling the training step"),
    Part("saving", _train(checkpoint__every_steps=1), _trained, begun="compiling the training step"),
    Part("evaluating", lambda folder: ["main.py", *SUITE, f"--workdir={folder}/run"], _evaluated, needs="training"),
    Part("reproducing", _study, _reproduced, processes=(1,)),
    Part(
        "reporting",
        lambda folder: ["-m", "nofrost_jax.report", f"{folder}/run", f"--output={folder}/report"],
        _reported,
        needs="reproducing",
        processes=(1,),
    ),
)


@dataclasses.dataclass
class Tally:
    """Of a part on a number of processes. lost: runs whose files differ in the end, or that did not finish."""

    part: str
    processes: int
    runs: int = 0
    kills: int = 0
    lost: int = 0


class Ran(NamedTuple):
    """A command: seconds from `begun` to its end, whether it was killed, its exit code, what it said."""

    seconds: float
    killed: bool
    code: int
    said: str


class Trials:
    """Runs of parts in folders below `root`. number: the signal; log: is told what was lost."""

    def __init__(self, root: pathlib.Path, seed: int, log: Callable[[str], None], number: int = signal.SIGKILL) -> None:
        self.root, self._log, self._chance, self._number = root, log, random.Random(seed), number
        self._undisturbed: dict[tuple[str, int], tuple[pathlib.Path, Any, float]] = {}

    def undisturbed(self, part: Part, processes: int) -> tuple[pathlib.Path, Any, float]:
        """(folder, what was found, seconds from `begun` to the end) of the part, done once."""
        key = part.name, processes
        if key not in self._undisturbed:
            folder = self._fresh(part, processes, f"{part.name}_{processes}")
            self._run(part, folder, processes, None)  # compiles for all others
            ran = self._run(part, self._fresh(part, processes, folder.name), processes, None)
            if ran.code or not (found := part.found(folder)):
                raise RuntimeError(
                    f"{part.name} on {processes} fails with {ran.code} though nobody kills it: {ran.said}"
                )
            self._undisturbed[key] = folder, found, ran.seconds
        return self._undisturbed[key]

    def disturbed(self, part: Part, processes: int, tally: Tally) -> None:
        """One run that is killed up to MOST_KILLS times."""
        _, expected, seconds = self.undisturbed(part, processes)
        folder = self._fresh(part, processes, "disturbed")
        tally.runs += 1
        for _ in range(MOST_KILLS):
            ran = self._run(part, folder, processes, self._chance.uniform(0, seconds))
            tally.kills += ran.killed
            if not ran.killed:
                break
        else:
            ran = self._run(part, folder, processes, None)
        said = ran.said
        try:
            is_equal = not ran.code and part.found(folder) == expected
        except (OSError, ValueError, KeyError) as error:
            is_equal, said = False, f"{said}\n{error!r}"
        if not is_equal:
            tally.lost += 1
            kept = shutil.copytree(folder, self.root / f"lost_{part.name}_{processes}_{tally.runs}", dirs_exist_ok=True)
            self._log(f"lost: {part.name} on {processes}, see {kept}: {said[-2000:]}")

    def _fresh(self, part: Part, processes: int, name: str) -> pathlib.Path:
        """A folder as the part finds it."""
        folder = self.root / name
        _kill_all_in(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if part.needs:
            (before,) = (one for one in PARTS if one.name == part.needs)
            source, _, _ = self.undisturbed(before, processes if processes in before.processes else 1)
            return pathlib.Path(shutil.copytree(source, folder))
        folder.mkdir()
        return folder

    def _run(self, part: Part, folder: pathlib.Path, count: int, after: float | None) -> Ran:
        """Runs the part's command, and kills it `after` seconds; None: never."""
        log = self.root / "output.txt"
        with log.open("w") as file:
            process = self._start(part.command(folder), count, file)
            try:
                begin = _wait(process, log, part.begun)
                killed = after is not None and _ends_not_within(process, after) and self._kill(process, count)
                process.wait(DEADLINE)
            finally:
                _kill_group(process)
        return Ran(time.monotonic() - begin, bool(killed), process.returncode, log.read_text(errors="replace"))

    def _start(self, command: list[str], count: int, output: Any) -> subprocess.Popen:
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.root / "compiled"), "TMPDIR": str(self.root)}
        cache["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        program = [sys.executable, *command] if count == 1 else ["bash", "launch/local.sh", str(count), *command[1:]]
        variables = environment(1, **cache)
        return subprocess.Popen(
            program, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )

    def _kill(self, process: subprocess.Popen, count: int) -> bool:
        """One process of the run by chance, or all at once as when a machine loses its power. Another signal goes to
        the command, which must end by itself."""
        if self._number != signal.SIGKILL:
            process.send_signal(self._number)
            return process.wait(DEADLINE) in (STOPPED, -self._number)  # the last: while it imports
        victims = [*descendants(process.pid)] if count > 1 else [process.pid, *descendants(process.pid)]
        if not victims or self._chance.random() < 0.5:
            _kill_group(process)
        else:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self._chance.choice(victims), signal.SIGKILL)
        return True


def _ends_not_within(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _wait(process: subprocess.Popen, log: pathlib.Path, begun: str) -> float:
    """The time at which a process has printed `begun`, or has ended."""
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and begun not in log.read_text(errors="replace") and time.monotonic() < deadline:
        time.sleep(0.02)
    return time.monotonic()


def _kill_group(process: subprocess.Popen) -> None:
    """Kills a process with all that it started, and waits for it."""
    for pid in [*descendants(process.pid), process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _kill_all_in(folder: pathlib.Path) -> None:
    """Kills what a killed program has left at work in a folder."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/".encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that these have started."""
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)
