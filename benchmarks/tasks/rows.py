"""A task that measures many rows of a table: the most important first, as many as fit; each is kept."""

import gc
import time
import traceback

from benchmarks.tasks import ceiling

ATTEMPTS = 2  # at a row that fails


def work_through(task, work):
    """Does `work`, {name of a figure: (measure, row)}, in order, as far as the time goes: `measure(task, row)` is the
    figure. Returns whether all figures exist.

    Figures that exist are skipped. Too little memory is a figure, too. So is another failure, which is raised after the
    other rows, and tried again once by the next attempt.
    """
    failed, needed = [], {}  # needed: seconds that a measure took last, for each program and for whichever
    for name, (measure, row) in work.items():
        expected = needed.get((measure, row.program), needed.get(measure, 0))
        if is_settled(task, name) or task.left() < expected:
            continue
        begun = time.perf_counter()
        try:
            task.record(name, measure(task, row))
        except RuntimeError as error:  # jax's and PyTorch's
            line = (str(error).splitlines() or [repr(error)])[0][:300]
            if is_out_of_memory(error):
                task.record(name, {"out_of_memory": line})
            else:
                traceback.print_exc()
                task.record(name, {"failed": line, "attempts": task.figures.get(name, {}).get("attempts", 0) + 1})
                failed += [] if is_settled(task, name) else [f"{name}: {line}"]
        gc.collect()  # what the row held on the device; the error, whose traceback held it, is gone
        needed[measure] = needed[measure, row.program] = time.perf_counter() - begun
        print(f"{name}: {needed[measure]:.0f} s", flush=True)
    if failed:
        raise RuntimeError("; ".join(failed))
    return all(is_settled(task, name) for name in work)


def is_settled(task, name):
    """Whether a figure exists; of a failure, the second."""
    return name in task.figures and task.figures[name].get("attempts", ATTEMPTS) >= ATTEMPTS


def seconds_of(run, rehearse):
    """Seconds of each of five to twelve calls; two untimed ones first."""
    return ceiling.repeat(run, 0.1 if rehearse else 3.0, 12)


def is_out_of_memory(error):
    return any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory"))


def shortfalls(figures):
    """The end of a headline: what did not fit, and what failed."""
    found = []
    for sign, what in (("out_of_memory", "too large"), ("failed", "failed")):
        names = [name for name, figure in figures.items() if sign in figure]
        found += [f"{what}: {', '.join(names)}"] if names else []
    return found
