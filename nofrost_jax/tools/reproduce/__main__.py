"""The paper's tables and figures, or a study: many runs of main.py, one after the other.

    python -m nofrost_jax.tools.reproduce table1 --workdir=runs/paper                     on ImageNet: weeks
    python -m nofrost_jax.tools.reproduce table1 --workdir=runs/paper --dry_run           what is there, what it costs
                                                              (--device=8xh100: on such a machine, too)
    python -m nofrost_jax.tools.reproduce table1 figure2 --source=digits --workdir=DIR    on digits: minutes
    python -m nofrost_jax.tools.reproduce all --source=digits --workdir=DIR

For table1 to table7 and figure1 to figure7 it trains the nets that are missing, each with the paper's learning rate
(`runs/NET/seed_SEED`), evaluates each under the suites that they need, and makes DIR/report (`nofrost_jax.report`). On
digits and CIFAR-10 one small net stands for ResNet-26 and ResNet-50.

    python -m nofrost_jax.tools.reproduce digits --workdir=runs/study_digits
    python -m nofrost_jax.tools.reproduce cifar10 --workdir=runs/study_cifar10 --source=folder:PATH --rows=sat,nofrost
    python -m nofrost_jax.report.study runs/study_digits/study.json

A study first trains each row once with each learning rate, without some training images, and scores it on those
(`select/ROW/rate_RATE`); then each row trains on every seed with its best rate and all training images
(`runs/ROW/rate_RATE/seed_SEED`). Every row gets the same rates and the same rule. With one rate nothing is chosen.
`study.json` is written after every run. `--shift` then evaluates each trained net under common corruptions, too.

Every run is a process of its own. The same command continues what was stopped, killed or moved.

Exit codes: 0 done; 1 a run failed; 2 the command line is wrong, or a run refused its config or was not finite; 3 a dry
run found something missing; 75 stopped: run the same command again.
"""

import functools
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterable

from nofrost_jax import errors, lock
from nofrost_jax.errors import UserError
from nofrost_jax.progress import duration
from nofrost_jax.report import __main__ as report
from nofrost_jax.report.exhibits import EXHIBITS, PROTOCOLS, Suite
from nofrost_jax.signals import Stop
from nofrost_jax.tools.reproduce import child, files, paper, plan, study
from nofrost_jax.tools.reproduce.options import parse
from nofrost_jax.tools.reproduce.paper import Paper
from nofrost_jax.tools.reproduce.study import SELECTION, SHIFT, Study, Training, evaluation_arguments

ROOT = pathlib.Path(__file__).parents[3]
Asked = Study | Paper


def main(command_line: list[str] | None = None) -> None:
    with errors.exit_codes():
        asked, is_dry, machine = parse(command_line)
        code = plan.dry_run(asked, ROOT, machine) if is_dry and isinstance(asked, Paper) else reproduce(asked)
    sys.exit(code)


def reproduce(asked: Asked, root: pathlib.Path = ROOT) -> int:
    """Does the unfinished runs; returns the exit code. Raises Preempted after a signal. root: the folder of main.py."""
    if not os.path.exists(os.path.join(root, "main.py")):
        raise UserError(f"there is no main.py in {root}; run this command from a clone of the repository")
    alone = lock.hold(os.path.join(asked.workdir, "lock"), "a study")
    with errors.machine("finished runs are kept"), alone, Stop() as stop:
        call = functools.partial(child.call, root, os.path.join(asked.workdir, "compilation_cache"), stop)
        codes = make_exhibits(asked, call) if isinstance(asked, Paper) else make_study(asked, call)
    return min((2 if code == 2 else 1 for code in codes), default=0)  # a failure before a refusal


def make_study(asked: Study, call: Callable) -> list[int]:
    """Selects, trains and evaluates; returns the exit codes of what failed."""
    failed = {}
    write = functools.partial(files.write, asked, failed)
    train(asked, study.selection_runs(asked), call, failed, write)
    runs = study.final_runs(asked, files.chosen(asked))
    train(asked, runs, call, failed, write)
    broken = evaluate(asked, [(run, SHIFT) for run in runs] if asked.shift else [], call, write)
    summary = write()
    print(f"written: {asked.workdir}/study.json, {len(summary['runs'])} of {len(asked.rows) * len(asked.seeds)} cells")
    for cell in summary["missing"]:
        print(f"incomplete: {cell['row']} seed {cell['seed']}: {cell['reason']}")
    return [*broken, *(cell["code"] or 1 for cell in summary["missing"])]


def make_exhibits(asked: Paper, call: Callable) -> list[int]:
    """Trains and evaluates what the tables and figures need, and reports it; returns the exit codes of what failed."""
    failed, broken, write = {}, [], functools.partial(files.write_paper, asked)
    for name in asked.names:  # one after the other, so that the first is complete early
        print(f"{name}: {EXHIBITS[name].title}", flush=True)
        pairs = [pair for pair, names in asked.evaluations.items() if name in names]
        train(asked, [run for run in dict(pairs) if run not in failed], call, failed, write)
        broken += evaluate(asked, pairs, call, write)
        broken += make_report(asked)
    for name, lacking in plan.lacking(asked).items():
        print(f"incomplete: {name} lacks {', '.join(lacking)}" if lacking else f"complete: {name}")
    codes = [*broken, *(code or 1 for code, _ in failed.values())]
    return codes or [2] * any(plan.lacking(asked).values())  # a net that was not finite


def make_report(asked: Paper) -> list[int]:
    """Writes DIR/report of all results so far; returns exit codes. A report that fails does not stop the runs."""
    try:
        report.report(asked.workdir, os.path.join(asked.workdir, "report"))
    except UserError as error:
        print(f"no report: {error}", flush=True)
    except Exception:
        traceback.print_exc()
        return [1]
    return []


def train(asked: Asked, runs: list[Training], call: Callable, failed: files.Failed, write: Callable) -> None:
    """Does the unsettled runs, one after the other, with a line before and after each. call: `child.call`. failed: gets
    those that fail. write: called after each."""
    waiting = [run for run in runs if not files.is_settled(asked, run)]
    if len(waiting) < len(runs):
        print(f"{len(runs) - len(waiting)} of {len(runs)} {runs[0].stage} runs exist already", flush=True)
    for number, run in enumerate(waiting, 1):
        title = f"[{number}/{len(waiting)}] {run.stage} {run}"
        print(f"{title}: {'continues' if files.record(asked, run)['seconds'] else 'starts'}", flush=True)
        is_done, log = functools.partial(files.is_settled, asked, run), files.path(asked, run, "log.txt")
        arguments = paper.arguments(asked, run) if isinstance(asked, Paper) else study.arguments(asked, run)
        with files.timed(asked, run):
            code, complaint = call(title, arguments, log, is_done)
        if code == 2 and "not finite" in complaint:  # would happen again
            files.note(asked, run, not_finite=complaint)
        if not is_done():
            failed[run] = code, complaint
            if code == 2 and not files.anything_done(asked):
                files.forget(asked, run)
                raise UserError(f"{title}: refused, as all others would be: {complaint}")
        write()
        print(f"{title}: {outcome(asked, run, failed)}{time_left(asked, runs, len(waiting) - number)}", flush=True)


def evaluate(asked: Asked, pairs: Iterable[tuple[Training, Suite]], call: Callable, write: Callable) -> list[int]:
    """Evaluates the trained runs under suites if that is not done; returns the exit codes of failures."""
    waiting = [pair for pair in pairs if files.result(asked, pair[0]) and not files.evaluated(asked, *pair)]
    codes = []
    for number, (run, suite) in enumerate(waiting, 1):
        title = f"[{number}/{len(waiting)}] {suite.name} {run}"
        find, log = functools.partial(files.evaluated, asked, run, suite), files.path(asked, run, "log.txt")
        print(f"{title}: starts", flush=True)
        code, complaint = call(title, evaluation_arguments(asked.workdir, run, suite), log, find)
        if found := find():
            print(f"{title}: {said(found)}", flush=True)
        else:
            print(f"{title}: FAILED with exit code {code}: {complaint}{'; ' * bool(complaint)}see {log}", flush=True)
            codes.append(code or 1)
        write()
    return codes


def said(results: list[dict]) -> str:
    """What a suite found, in a few words."""
    if corrupted := results[-1].get("corruptions"):
        return f"{corrupted['name']} {corrupted['mean_accuracy']:.1%}"
    if len(results) > 1:
        return f"{len(results)} results"
    shown = [("clean", results[0]["clean"]["accuracy"])]
    shown += [(one["name"], one["robust_accuracy"]) for one in results[0]["attacks"] if one["name"] in PROTOCOLS]
    return "  ".join(f"{name} {share:.1%}" for name, share in shown)


def outcome(asked: Asked, run: Training, failed: files.Failed) -> str:
    """A run's outcome: "93 s  clean 97.8%  pgd_20 3.3%", or why there is none."""
    record = files.record(asked, run)
    spent, found = duration(record["seconds"]), files.result(asked, run)
    if run in failed:
        code, complaint = failed[run]
        log = files.path(asked, run, "log.txt")
        return f"FAILED with exit code {code} after {spent}: {complaint}{'; ' * bool(complaint)}see {log}"
    if not found:
        counts = ", counts as 0 %" if run.stage == SELECTION else ""
        return f"{spent}  NOT FINITE{counts}: {record['not_finite']}"
    shown = [("clean", found["clean"]["accuracy"])]
    shown += [(entry["name"], entry["robust_accuracy"]) for entry in found["attacks"]]
    return "  ".join([spent, *(f"{name} {share:.1%}" for name, share in shown)])


def time_left(asked: Asked, runs: list[Training], waiting: int) -> str:
    """ "  (1 h 05 min left)": `waiting` runs of a stage at the mean time of its finished ones, or ""."""
    spent = [files.record(asked, run)["seconds"] for run in runs if files.result(asked, run)]
    if not waiting or not spent:
        return ""
    of = " of the selection" if runs[0].stage == SELECTION else ""
    return f"  ({duration(waiting * sum(spent) / len(spent))} left{of})"


if __name__ == "__main__":
    main()
