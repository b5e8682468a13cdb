"""Whether a run on digits that is killed after its first checkpoint and resumed ends like an undisturbed one.

    python -m benchmarks.tasks.resume --output=FILE

deterministic: both under XLA_FLAGS=--xla_gpu_deterministic_ops=true. Without it a GPU's library chooses its algorithms
by their speed in every process, and sums some gradients in any order. usual, if there is time: without that flag, and
with a second undisturbed run as a control: if that differs as well, resuming is not the cause.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from benchmarks.tasks import common

RUN = {"epochs": 8, "evaluation.every_epochs": 0, "evaluation.only": "pgd_20", "checkpoint.every_steps": 40}
RUN |= {"log.every_steps": 20, "log.tensorboard": False}
SMALL_RUN = {"epochs": 3, "batch_size": 256, "model.stage_sizes": (1,), "model.width": 0.0625, "attack.steps": 2}
SMALL_RUN |= {"model.bn_group_size": "global", "evaluation.attacks.pgd_20.steps": 2, "checkpoint.every_steps": 4}
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def main() -> None:
    task = common.start("resume", __doc__)
    longest = 0.0
    for key, flag in (("deterministic", DETERMINISTIC), ("usual", "")):
        if key in task.figures or (key == "usual" and (task.rehearse or task.left() < 1.5 * longest + 5)):
            continue
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            task.record(key, killed_and_resumed(folder, flag, task.rehearse))
        longest = time.perf_counter() - begin
        print(f"{key}: {task.figures[key]}", flush=True)
    task.finish(headline(task.figures))


def killed_and_resumed(folder, flag, rehearse):
    """{"bitwise", "largest difference of a parameter", "metrics are equal", "saved steps when killed"} of two runs on
    digits; without a flag also "control": the same of a second undisturbed run."""
    begin, names = time.perf_counter(), ["undisturbed", "killed", *([] if flag else ["control"])]
    fields, environment = RUN | (SMALL_RUN if rehearse else {}), dict(os.environ)
    environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flag}".strip()
    if not rehearse:  # each run compiles for itself, as on another day
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

    running = {name: start(name) for name in names}
    killed = running.pop("killed")
    while killed.poll() is None and not saved(f"{folder}/killed"):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    was_killed = killed.wait() == -signal.SIGKILL
    steps = saved(f"{folder}/killed")
    finish("killed", start("killed"))
    for name, process in running.items():
        finish(name, process)
    found = {"was killed": was_killed, "saved steps when killed": steps, "XLA_FLAGS": environment["XLA_FLAGS"]}
    found |= compared(f"{folder}/undisturbed", f"{folder}/killed")
    if not flag:
        found["control"] = compared(f"{folder}/undisturbed", f"{folder}/control")
    return found | {"seconds": round(time.perf_counter() - begin, 1)}


def compared(left, right):
    """How two finished runs differ."""
    hashes = [common.read_json(f"{run}/evaluations/final.json")["checkpoint"]["params_sha256"] for run in (left, right)]
    lines = [open(f"{run}/metrics.jsonl", "rb").read() for run in (left, right)]  # noqa: SIM115
    return {
        "bitwise": hashes[0] == hashes[1],
        "largest difference of a parameter": apart(left, right),
        "metrics are equal": lines[0] == lines[1],
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
    """Bitwise or not, under the flag and as usual."""

    def verdict(row):
        return "bitwise" if row["bitwise"] else f"NOT bitwise ({row['largest difference of a parameter']:.1g} apart)"

    shown = f"with deterministic operations {verdict(figures['deterministic'])}"
    if "usual" in figures:
        usual = figures["usual"]
        shown += f"; without {verdict(usual)}, two undisturbed runs {verdict(usual['control'])}"
    return shown


if __name__ == "__main__":
    main()
