"""A study: every row of a table on several seeds, from the choice of learning rates to the file tables are made of.

    python -m nofrost_jax.tools.reproduce digits --workdir=runs/study_digits
    python -m nofrost_jax.tools.reproduce cifar10 --workdir=runs/study_cifar10 --source=folder:PATH --rows=sat,nofrost
    python -m nofrost_jax.report.study runs/study_digits/study.json

Every run is a process of its own, `main.py` of this repository. First each row trains once with each learning rate,
without some training images, and is scored on those (`select/ROW/rate_RATE`); then each row trains on every seed with
its best rate and all training images (`runs/ROW/rate_RATE/seed_SEED`). Every row gets the same rates and the same rule.
With one rate nothing is chosen. The same command continues a study that was stopped. `study.json` is written after
every run. `--shift` then evaluates each trained net under common corruptions, too.

Exit codes: 0 done; 1 a run failed; 2 the command line is wrong, or a run refused its config or was not finite;
75 stopped: run the same command again.
"""

import functools
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from nofrost_jax import errors, lock
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.progress import duration
from nofrost_jax.signals import Stop
from nofrost_jax.tools.reproduce import files
from nofrost_jax.tools.reproduce.options import parse
from nofrost_jax.tools.reproduce.study import (
    SELECTION,
    Study,
    Training,
    arguments,
    final_runs,
    selection_runs,
    shift_arguments,
)

ROOT = pathlib.Path(__file__).parents[3]
PREEMPTED = 75  # what main.py exits with after a signal
POLL_SECONDS = 0.2  # between two looks for a signal during a run


def main(command_line: list[str] | None = None) -> None:
    with errors.exit_codes():
        code = reproduce(parse(command_line))
    sys.exit(code)


def reproduce(study: Study, root: pathlib.Path = ROOT) -> int:
    """Does the unfinished runs of the study; returns the exit code. Raises Preempted after a signal. root: the folder
    of main.py."""
    if not os.path.exists(os.path.join(root, "main.py")):
        raise UserError(f"there is no main.py in {root}; run this command from a clone of the repository")
    alone, failed = lock.hold(os.path.join(study.workdir, "lock"), "a study"), {}
    with errors.machine("finished runs are kept"), alone, Stop() as stop:
        call = functools.partial(_call, root, os.path.join(study.workdir, "compilation_cache"), stop)
        train(study, selection_runs(study), call, failed)
        runs = final_runs(study, files.chosen(study))
        train(study, runs, call, failed)
        broken = evaluate_corruptions(study, runs, call) if study.shift else []
        summary = files.write(study, failed)
    cells = len(study.rows) * len(study.seeds)
    print(f"written: {study.workdir}/study.json, {len(summary['runs'])} of {cells} cells")
    for cell in summary["missing"]:
        print(f"incomplete: {cell['row']} seed {cell['seed']}: {cell['reason']}")
    codes = [*broken, *(cell["code"] or 1 for cell in summary["missing"])]
    return min(codes, default=0)  # 1, a failure, before 2, a refusal


def train(study: Study, runs: list[Training], call: Callable, failed: files.Failed) -> None:
    """Does the unsettled runs, one after the other, with a line before and after each. call: see `_call`. failed: gets
    those that fail."""
    waiting = [run for run in runs if not files.is_settled(study, run)]
    if len(waiting) < len(runs):
        print(f"{len(runs) - len(waiting)} of {len(runs)} {runs[0].stage} runs exist already", flush=True)
    for number, run in enumerate(waiting, 1):
        title = f"[{number}/{len(waiting)}] {run.stage} {run.row}, seed {run.seed}, rate {run.rate:g}"
        print(f"{title}: {'continues' if files.record(study, run)['seconds'] else 'starts'}", flush=True)
        is_done, log = functools.partial(files.is_settled, study, run), files.path(study, run, "log.txt")
        with files.timed(study, run):
            code, complaint = call(title, arguments(study, run), log, is_done)
        if code == 2 and "not finite" in complaint:  # would happen again
            files.note(study, run, not_finite=complaint)
        if not is_done():
            failed[run] = code, complaint
            if code == 2 and not files.anything_done(study):
                raise UserError(f"{title}: refused, as all others would be: {complaint}")
        files.write(study, failed)
        print(f"{title}: {outcome(study, run, failed)}{time_left(study, runs, len(waiting) - number)}", flush=True)


def evaluate_corruptions(study: Study, runs: list[Training], call: Callable) -> list[int]:
    """Evaluates the trained runs under corruptions if that is not done; returns the exit codes of failures."""
    codes, waiting = [], [run for run in runs if files.result(study, run) and not files.corruptions(study, run)]
    for number, run in enumerate(waiting, 1):
        title = f"[{number}/{len(waiting)}] corruptions {run.row}, seed {run.seed}"
        find, log = functools.partial(files.corruptions, study, run), files.path(study, run, "log.txt")
        code, complaint = call(title, shift_arguments(study, run), log, find)
        if found := find():
            print(f"{title}: {found['name']} {found['mean_accuracy']:.1%}", flush=True)
        else:
            print(f"{title}: FAILED with exit code {code}: {complaint or 'see'} {log}", flush=True)
            codes.append(code or 1)
        files.write(study, {})
    return codes


def _call(
    root: pathlib.Path, cache: str, stop: Stop, title: str, given: list[str], log: str, is_done: Callable
) -> tuple[int, str]:
    """Runs `main.py GIVEN` and appends its output to the file `log`; passes signals on as SIGTERM.

    Returns (exit code, the text of its last line that begins with "error: ", or ""). Raises Preempted after a signal,
    unless is_done() nevertheless.
    """
    stopped = f"{title}: stopped by {{}}; run the same command again to continue"
    folder = pathlib.Path(log).parent
    for path in (*folder.glob("lock"), *folder.glob("evaluations/*.lock")):
        _wait_for_another(path, title, stop)
    if stop.heard:
        raise Preempted(stopped.format(stop.name))
    if is_done():  # by the other process
        return 0, ""
    folder.mkdir(parents=True, exist_ok=True)
    with open(log, "a+", errors="replace") as file:
        file.write(f"$ python main.py {' '.join(given)}\n")
        file.flush()
        first, code, terminated = file.tell(), None, False
        child = subprocess.Popen(
            [sys.executable, "main.py", *given],
            cwd=root,
            env={"JAX_COMPILATION_CACHE_DIR": cache} | os.environ,  # the seeds of a row share its compiled programs
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process only
        )
        while code is None:
            if stop.heard and not terminated:
                child.terminate()
                terminated = True
            try:
                code = child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        file.seek(first)
        complaints = [line.removeprefix("error: ").strip() for line in file if line.startswith("error: ")]
    # A negative code: it did not listen to the signal yet, or no longer.
    if not is_done() and (code == PREEMPTED or (terminated and code < 0)):
        raise Preempted(stopped.format(stop.name))
    return code, complaints[-1] if complaints else ""


def _wait_for_another(path: pathlib.Path, title: str, stop: Stop) -> None:
    """Waits until no process, such as one left by a killed study, holds a run's lock file, or until a signal."""
    own, said = lock.Lock(path, "a study"), False
    while holder := own.take():
        if not said:
            print(f"{title}: waiting for {holder} ({path})", flush=True)
            said = True
        if stop.heard:
            return
        time.sleep(POLL_SECONDS)
    own.give_back()


def outcome(study: Study, run: Training, failed: files.Failed) -> str:
    """A run's outcome: "93 s  clean 97.8%  pgd_20 3.3%", or why there is none."""
    record = files.record(study, run)
    spent, found = duration(record["seconds"]), files.result(study, run)
    if run in failed:
        code, complaint = failed[run]
        return f"FAILED with exit code {code} after {spent}: {complaint or 'see'} {files.path(study, run, 'log.txt')}"
    if not found:
        counts = ", counts as 0 %" if run.stage == SELECTION else ""
        return f"{spent}  NOT FINITE{counts}: {record['not_finite']}"
    shown = [("clean", found["clean"]["accuracy"])]
    shown += [(entry["name"], entry["robust_accuracy"]) for entry in found["attacks"]]
    return "  ".join([spent, *(f"{name} {share:.1%}" for name, share in shown)])


def time_left(study: Study, runs: list[Training], waiting: int) -> str:
    """ "  (1 h 05 min left)": `waiting` runs of a stage at the mean time of its finished ones, or ""."""
    spent = [files.record(study, run)["seconds"] for run in runs if files.result(study, run)]
    if not waiting or not spent:
        return ""
    of = " of the selection" if runs[0].stage == SELECTION else ""
    return f"  ({duration(waiting * sum(spent) / len(spent))} left{of})"


if __name__ == "__main__":
    main()
