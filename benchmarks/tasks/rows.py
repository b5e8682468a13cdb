"""A task that measures many rows of a table: the most wanted first, as many as fit, each kept."""

import gc
import time

from benchmarks.tasks import ceiling

START = 10  # seconds that a process may have lived before its task's clock began


def work_through(task, work):
    """Does `work`, {name of a figure: (measure, row)}, in order, as far as the time goes: `measure(task, row)` is the
    figure. True where all is there.

    What a task has already is left out. Too little memory is a figure; another failure is raised when the rest has had
    its turn.
    """
    errors, needed = [], {}  # needed: measure -> seconds that it took last
    for name, (measure, row) in work.items():
        if name in task.figures or task.left() < needed.get(measure, 0) + START:
            continue
        begun = time.perf_counter()
        try:
            task.record(name, measure(task, row))
        except RuntimeError as error:  # jax's and PyTorch's
            if is_out_of_memory(error):
                task.record(name, {"out_of_memory": str(error).splitlines()[0][:300]})
            else:
                errors.append(error)
                print(f"{name} failed: {str(error)[:500]}", flush=True)
        gc.collect()  # what the row held on the device
        needed[measure] = time.perf_counter() - begun
        print(f"{name}: {needed[measure]:.0f} s", flush=True)
    if errors:
        raise errors[-1]
    return not work.keys() - task.figures


def seconds_of(run, rehearse):
    """Seconds of each of five to twelve calls; two untimed ones first."""
    return ceiling.repeat(run, 0.1 if rehearse else 3.0, 12)


def is_out_of_memory(error):
    return any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory"))


def too_large(figures):
    """The end of a headline: what did not fit."""
    names = [name for name, figure in figures.items() if "out_of_memory" in figure]
    return [f"too large: {', '.join(names)}"] if names else []
