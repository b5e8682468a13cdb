"""A study: every row of a table on several seeds, from the choice of learning rates to the file tables are made of.

    python -m nofrost_jax.tools.reproduce digits --workdir=runs/study_digits
    python -m nofrost_jax.tools.reproduce cifar10 --workdir=runs/study_cifar10 --source=folder:PATH --rows=sat,nofrost
    python -m nofrost_jax.report.study runs/study_digits/study.json

Every run is a process of its own, `main.py` of this repository. First each row trains once with each learning rate,
without some training images, and is scored on those (`select/ROW/rate_RATE`); then each row trains on every seed with
its best rate and all training images (`runs/ROW/rate_RATE/seed_SEED`). Every row gets the same rates and the same
rule. With one rate nothing is chosen. A study that was stopped goes on with the same command. After every run
`study.json` is written. `--shift` then looks at each trained net's evaluation images under common corruptions, too.

Exit codes: 0 done; 1 a run failed; 2 the command line is wrong, or a run refused its config or was not finite;
75 stopped: run the same command again.
"""

import itertools
import os
import pathlib
import resource
import sys
import time

from nofrost_jax import errors
from nofrost_jax.progress import duration
from nofrost_jax.tools.reproduce import files
from nofrost_jax.tools.reproduce.children import Children, exclusive
from nofrost_jax.tools.reproduce.options import parse
from nofrost_jax.tools.reproduce.study import SELECTION, arguments, final_runs, selection_runs, shift_arguments

ROOT = pathlib.Path(__file__).parents[3]
PREEMPTED = 75  # what main.py exits with after a signal


def main(command_line=None):
    with errors.exit_codes():
        code = reproduce(parse(command_line))
    sys.exit(code)


def reproduce(plan, root=ROOT):
    """Does all runs of the plan that are not done yet; returns the exit code. Raises Preempted after a signal.

    root: the folder of main.py.
    """
    if not os.path.exists(os.path.join(root, "main.py")):
        raise errors.UserError(f"there is no main.py in {root}; run this command from a clone of the repository")
    try:
        os.makedirs(plan.workdir, exist_ok=True)
    except OSError as error:
        raise errors.refused(f"--workdir={plan.workdir} cannot be made", error, "choose another folder") from error
    cache, failed, numbers = os.path.join(plan.workdir, "compilation_cache"), {}, itertools.count(1)
    kept = errors.machine("the runs that are done are kept")
    with kept, exclusive(plan.workdir) as lock, Children(root, cache, lock) as children:
        stage(plan, selection_runs(plan), numbers, children, failed)
        runs = final_runs(plan, files.chosen(plan))
        stage(plan, runs, numbers, children, failed)
        broken = look_at_corruptions(plan, runs, children) if plan.shift else []
        summary = files.write(plan, failed)
    cells = len(plan.rows) * len(plan.seeds)
    print(f"written: {plan.workdir}/study.json, {len(summary['runs'])} of {cells} cells")
    for cell in summary["missing"]:
        print(f"incomplete: {cell['row']} seed {cell['seed']}: {cell['reason']}")
    codes = [*broken, *(cell["code"] or 1 for cell in summary["missing"])]
    return min(codes, default=0)  # 1, a failure, before 2, a refusal


def stage(plan, runs, numbers, children, failed):
    """Does those of the runs that are not settled, one after the other; a line on the screen before and after each.

    numbers: counts the runs of all stages. failed: {run: (exit code, complaint)}, to which this adds.
    """
    waiting = [run for run in runs if not files.is_settled(plan, run)]
    if len(waiting) < len(runs):
        print(f"{len(runs) - len(waiting)} of {len(runs)} {runs[0].stage} runs are there already", flush=True)
    for run, number in zip(runs, numbers, strict=False):
        if run not in waiting:
            continue
        if children.heard:
            raise errors.Preempted(f"stopped by {children.name}; run the same command again to go on")
        place = f"[{number:{len(str(plan.total))}}/{plan.total}]"
        title = f"{place} {run.stage} {run.row}, seed {run.seed}, rate {run.rate:g}"
        print(f"{title}: {'goes on' if files.seconds(plan, run) else 'starts'}", flush=True)
        code, complaint = attempt(plan, run, children)
        if not files.is_settled(plan, run):
            if code == PREEMPTED or (children.heard and code < 0):  # below 0: before it listens, or at its very end
                raise errors.Preempted(f"{title}: stopped by {children.name}; run the same command again to go on")
            failed[run] = code, complaint
            if code == 2 and not files.anything_done(plan):
                raise errors.UserError(f"{title}: refused, and so would be the others: {complaint}")
        files.write(plan, failed)
        left = time_left(plan, runs, waiting[waiting.index(run) + 1 :])
        print(f"{title}: {outcome(plan, run, failed)}{left}", flush=True)


def look_at_corruptions(plan, runs, children):
    """Evaluates those trained runs under corruptions that are not yet; [exit codes] of what failed."""
    codes, waiting = [], [run for run in runs if files.result(plan, run) and not files.corruptions(plan, run)]
    for number, run in enumerate(waiting, 1):
        title = f"[{number}/{len(waiting)}] corruptions {run.row}, seed {run.seed}"
        log = files.path(plan, run, "log.txt")
        code, complaint = (PREEMPTED, "") if children.heard else children.call(shift_arguments(plan, run), log)
        found = files.corruptions(plan, run)
        if found:
            print(f"{title}: {found['name']} {found['mean_accuracy']:.1%}", flush=True)
        elif code == PREEMPTED or (children.heard and code < 0):
            raise errors.Preempted(f"{title}: stopped by {children.name}; run the same command again to go on")
        else:
            print(f"{title}: FAILED with exit code {code}: {complaint or 'see'} {log}", flush=True)
            codes.append(code or 1)
        files.write(plan, {})
    return codes


def attempt(plan, run, children):
    """Starts main.py for a run and waits for it: (exit code, its last line of error).

    A run that ended because it is no longer finite is noted as such, and is not started again: it would end so again.
    """
    os.makedirs(files.path(plan, run), exist_ok=True)
    spent, cpu, clock = files.seconds(plan, run), files.cpu_seconds(plan, run), time.perf_counter()
    files.note(plan, run, {"seconds": spent, "started": time.time()})  # a kill leaves no count of CPU seconds
    before = cpu_seconds_of_children()
    code, complaint = children.call(arguments(plan, run), files.path(plan, run, "log.txt"))
    record = {"seconds": round(spent + time.perf_counter() - clock, 3)}
    if cpu is not None:
        record["cpu_seconds"] = round(cpu + cpu_seconds_of_children() - before, 3)
    if code == 2 and "not finite" in complaint:
        record["not_finite"] = complaint
    files.note(plan, run, record)
    return code, complaint


def cpu_seconds_of_children():
    """CPU seconds of all ended child processes; unlike wall time, other work on the machine hardly changes it."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def outcome(plan, run, failed):
    """What came of a run: "93 s  clean 97.8%  pgd_20 3.3%", or why nothing did."""
    spent = duration(files.seconds(plan, run))
    if run in failed:
        code, complaint = failed[run]
        return f"FAILED with exit code {code} after {spent}: {complaint or 'see'} {files.path(plan, run, 'log.txt')}"
    found = files.result(plan, run)
    if not found:
        counts = ", counts as 0 %" if run.stage == SELECTION else ""
        return f"{spent}  NOT FINITE{counts}: {files.not_finite(plan, run)}"
    shown = [("clean", found["clean"]["accuracy"])]
    shown += [(entry["name"], entry["robust_accuracy"]) for entry in found["attacks"]]
    return "  ".join([spent, *(f"{name} {share:.1%}" for name, share in shown)])


def time_left(plan, runs, waiting):
    """ "  (1 h 05 min left)": the waiting runs of a stage at the mean of its finished ones; "" where none is known."""
    spent = [files.seconds(plan, run) for run in runs if files.result(plan, run)]
    if not waiting or not spent:
        return ""
    of = " of the selection" if runs[0].stage == SELECTION else ""
    return f"  ({duration(len(waiting) * sum(spent) / len(spent))} left{of})"


if __name__ == "__main__":
    main()
