"""Whether the device computes what a CPU computes in float64: nets, attacks, training steps.

    python -m benchmarks.tasks.correct --output=FILE

For every case, how far the device is from float64 on the CPU of the same machine, and how far float32 on that CPU is.
The latter is the effect of rounding alone: a ReLU that flips changes a gradient by much more than the rounding itself.
Differences of arrays are the largest and the median, as shares of float64's largest value; of attacks also how many of
the images have another outcome.

nets: logits and input gradients of four whole nets at 64 pixels; float32 at default and at highest precision of
matrix products, and bfloat16. attacks: the committed digits checkpoint under PGD, APGD-CE, APGD-T, FAB-T and Square.
steps: one training step of every row of configs/methods.py.
"""

import multiprocessing
import os
import queue

from benchmarks.tasks import cases, common

ROWS = (
    *("sat", "mbnat", "sat_in", "nofrost", "pgdat", "st", "trades", "fat", "trades_fat", "fastat", "freeat"),
    *("deepaugment", "tda", "combine", "nofrost_star"),
)


def main() -> None:
    task = common.start("correct", __doc__)
    wanted = chosen(task.rehearse)
    failed = compare_all(task, [case for case in wanted if missing(task, case)])
    rest = [case for case in wanted if missing(task, case) and case not in failed]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(wanted)} comparisons failed: {failed}")
    if rest:
        print(f"out of time, without {', '.join(rest)}", flush=True)
    else:
        task.finish(headline(task.figures))


def chosen(rehearse):
    """The cases, "KIND/NAME", the longest first; a rehearsal has one of each kind."""
    names = {"nets": [*cases.NETS], "attacks": [*cases.ATTACKS], "steps": [*ROWS]}
    return [f"{kind}/{name}" for kind, some in names.items() for name in some[: 1 if rehearse else None]]


def missing(task, case):
    """The ways of a case that are not compared yet."""
    return [way for way in cases.ways(case, task.rehearse) if way not in task.figures.get(case, {})]


def compare_all(task, waiting):
    """Records each way of each case when it is done, in time; returns {case: complaint} of those that failed. Processes
    of their own share the tracing and compiling, which is most of the work."""
    failed, workers, context = {}, min(max((os.cpu_count() or 1) - 2, 1), 12), multiprocessing.get_context("spawn")
    done, left = context.Queue(), len(waiting)
    with context.Pool(workers, cases.begin, (done,)) as pool:
        for case in waiting:
            pool.apply_async(cases.compare_and_send, (case, missing(task, case), task.rehearse))
        while left:
            try:
                case, way, found = done.get(timeout=max(task.left() - 5, 0.01))
            except queue.Empty:
                break
            if way:
                task.record(case, task.figures.get(case, {}) | {way: found})
                continue
            left -= 1
            if found:
                print(found, flush=True)
                failed[case] = found.splitlines()[-1]
    return failed


def headline(figures):
    """The worst of each kind, with float32 at highest precision, and at the default's in brackets."""

    def worst(kind, array):
        found = [value for case, value in figures.items() if case.startswith(f"{kind}/")]
        ways = [way for way in ("highest", "default") if way in found[0]]
        numbers = [max(value[way][array] for value in found) for way in ways]
        return " ".join(f"{number:.1g}" if not place else f"({number:.1g})" for place, number in enumerate(numbers))

    return (
        f"largest differences from float64: logits {worst('nets', 'logits')}, outcomes "
        f"{worst('attacks', 'robust, images that differ')}, steps {worst('steps', 'change of the parameters')}"
    )


if __name__ == "__main__":
    main()
