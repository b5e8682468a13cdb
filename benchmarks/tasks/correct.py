"""Whether the device computes what a CPU computes in float64: nets, attacks, training steps; and a resumed run.

    python -m benchmarks.tasks.correct --output=FILE

For every case, how far the device is from float64 on the CPU of the same machine, and beside it how far float32 on
that CPU is, which is what rounding alone does: a ReLU that it turns over moves a gradient by far more than itself.
Differences of arrays are the largest and the median, as shares of float64's largest value; of attacks also how many of
the images have another outcome.

nets: logits and input gradients of four whole nets at 64 pixels; float32 at default and at highest precision of
matrix products, and bfloat16. attacks: the committed digits checkpoint under PGD, APGD-CE, APGD-T, FAB-T and Square.
steps: one training step of every row of configs/methods.py. resume: a run on digits, killed after its first
checkpoint and started again, against one that was left alone. Steps and resume need ml_collections, and are left out
without it.
"""

import functools
import importlib.util
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import jax
import numpy as np

from benchmarks.tasks import cases, common

ROWS = (
    *("sat", "mbnat", "sat_in", "nofrost", "pgdat", "st", "trades", "fat", "trades_fat", "fastat", "freeat"),
    *("deepaugment", "tda", "combine", "nofrost_star"),
)
RUN = {"epochs": 8, "evaluation.every_epochs": 0, "attacks": "pgd_20", "checkpoint.every_steps": 40}
RUN |= {"log.every_steps": 20, "log.tensorboard": False}
SMALL_RUN = {"epochs": 3, "batch_size": 256, "model.stage_sizes": (1,), "model.width": 0.0625, "attack.steps": 2}
SMALL_RUN |= {"model.bn_group_size": "global", "evaluation.attacks.pgd_20.steps": 2, "checkpoint.every_steps": 4}


def main():
    task = common.start("correct", __doc__)
    with_configs = importlib.util.find_spec("ml_collections") is not None
    wanted = [*chosen(task.rehearse, with_configs), *(["resume"] if with_configs else [])]
    waiting = [case for case in wanted if case not in task.figures]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a run out of time may still write
        failed = compare_all(task, waiting, folder)
    missing = [case for case in waiting if case not in task.figures and case not in failed]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(wanted)} comparisons failed: {failed}")
    if missing:
        print(f"out of time, without {', '.join(missing)}", flush=True)
    elif not with_configs:
        print("training steps and the resumed run are left out: they need ml_collections", flush=True)
    else:
        task.finish(headline(task.figures))


def chosen(rehearse, with_configs):
    """The cases, "KIND/NAME", the longest first; a rehearsal has one of each kind."""
    names = {"nets": [*cases.NETS], "attacks": [*cases.ATTACKS], "steps": [*ROWS] if with_configs else []}
    return [f"{kind}/{name}" for kind, some in names.items() for name in some[: 1 if rehearse else None]]


def compare_all(task, waiting, folder):
    """Records each comparison when it is done, in time; returns {case: complaint} of those that failed. Processes of
    their own share the tracing and compiling, which is most of the work."""
    failed, done, workers = {}, queue.SimpleQueue(), min(max((os.cpu_count() or 1) - 2, 1), 12)
    with multiprocessing.get_context("spawn").Pool(workers, cases.draw_in_float32) as pool:
        for case in waiting:
            if case == "resume":
                threading.Thread(target=resume_in_thread, args=(task, folder, done), daemon=True).start()
                continue
            put = functools.partial(lambda case, found: done.put((case, found)), case)
            pool.apply_async(cases.compare, (case, task.rehearse), callback=put, error_callback=put)
        for _ in waiting:
            try:
                case, found = done.get(timeout=max(task.left() - 5, 0.01))
            except queue.Empty:
                break
            if isinstance(found, Exception):
                traceback.print_exception(found)
                failed[case] = repr(found)
            else:
                task.record(case, found)
    return failed


def resume_in_thread(task, folder, done):
    """Puts what came of `killed_and_resumed` on the queue `done`, as the pool does."""
    try:
        done.put(("resume", killed_and_resumed(task, folder)))
    except Exception as error:
        done.put(("resume", error))


def killed_and_resumed(task, folder):
    """{"bitwise", "largest difference of a parameter", "metrics are equal", "killed at step"} of two runs on digits."""
    begin = time.perf_counter()
    fields, environment = RUN | (SMALL_RUN if task.rehearse else {}), dict(os.environ)
    if not task.rehearse:  # each run compiles for itself, as on another day
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def start(name):
        command = [sys.executable, "main.py", "--config=configs/digits.py:sat", f"--workdir={folder}/{name}"]
        command += [f"--config.{field}={value}" for field, value in fields.items()]
        with open(f"{folder}/{name}.log", "a") as log:
            return subprocess.Popen(command, cwd=common.ROOT, env=environment, stdout=log, stderr=log)

    def finish(name, process):
        if process.wait():
            with open(f"{folder}/{name}.log") as log:
                raise RuntimeError(f"the {name} run ended with {process.returncode}: {log.read()[-800:]}")

    undisturbed, killed = start("undisturbed"), start("killed")
    while killed.poll() is None and not saved(f"{folder}/killed"):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    was_killed = killed.wait() == -signal.SIGKILL
    steps = saved(f"{folder}/killed")
    finish("killed", start("killed"))
    finish("undisturbed", undisturbed)
    ends = [common.read_json(f"{folder}/{name}/evaluations/final.json") for name in ("undisturbed", "killed")]
    lines = [open(f"{folder}/{name}/metrics.jsonl", "rb").read() for name in ("undisturbed", "killed")]  # noqa: SIM115
    return {
        "was killed": was_killed,
        "saved steps when killed": steps,
        "bitwise": ends[0]["checkpoint"]["params_sha256"] == ends[1]["checkpoint"]["params_sha256"],
        "largest difference of a parameter": apart(f"{folder}/undisturbed", f"{folder}/killed"),
        "metrics are equal": lines[0] == lines[1],
        "seconds": round(time.perf_counter() - begin, 1),
    }


def saved(workdir):
    """Steps of the checkpoints in a work directory, ascending."""
    folder = os.path.join(workdir, "checkpoints")
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit()) if os.path.isdir(folder) else []


def apart(left, right):
    """The largest difference between two runs' final parameters."""
    import nofrost_jax

    params = [jax.device_get(nofrost_jax.load(path).variables["params"]) for path in (left, right)]
    pairs = zip(*map(jax.tree.leaves, params), strict=True)
    return max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs)


def headline(figures):
    """The worst of each kind, with float32 at highest precision, and at the default's in brackets."""

    def worst(kind, array):
        found = [value for case, value in figures.items() if case.startswith(f"{kind}/")]
        ways = [way for way in ("highest", "default") if way in found[0]]
        numbers = [max(value[way][array] for value in found) for way in ways]
        return " ".join(f"{number:.1g}" if not place else f"({number:.1g})" for place, number in enumerate(numbers))

    return (
        f"largest differences from float64: logits {worst('nets', 'logits')}, outcomes "
        f"{worst('attacks', 'robust, images that differ')}, steps {worst('steps', 'change of the parameters')}; "
        f"resumed {'' if figures['resume']['bitwise'] else 'NOT '}bitwise"
    )


if __name__ == "__main__":
    main()
