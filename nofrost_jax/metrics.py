"""Metrics as (sum, count) pairs, and where they go: metrics.jsonl, TensorBoard (through clu), the screen."""

import json
import math
import os
import sys
import time
import warnings

import jax
import numpy as np

from nofrost_jax import files


class Sums:
    """Running (sum, count) pairs in float64 on the host. `state` round-trips through JSON exactly, so a resumed run
    continues a half-filled window as if nothing had happened."""

    def __init__(self, state=None):
        self.state = {name: list(pair) for name, pair in (state or {}).items()}

    def add(self, metrics):
        """Adds {name: float32 [2]} and returns the names whose sums are not finite."""
        host = jax.device_get(metrics)
        for name, (value, count) in host.items():
            pair = self.state.setdefault(name, [0.0, 0.0])
            pair[0] += float(value)
            pair[1] += float(count)
        return sorted(name for name, pair in host.items() if not np.all(np.isfinite(pair)))

    def means(self):
        """{name: sum / count} so far; the window starts anew."""
        means = {name: value / count for name, (value, count) in self.state.items()}
        self.state = {}
        return means


class Writer:
    """Writes scalars of a step to `metrics.jsonl` and TensorBoard. Only the main process's writer writes.

    The JSON lines hold results alone, nothing that depends on the clock: two runs of one config write equal files.
    Speeds go to TensorBoard and the screen.
    """

    def __init__(self, workdir, active=True, tensorboard=True):
        self.path = os.path.join(workdir, "metrics.jsonl")
        self._active = active
        self._board = _summary_writer(workdir) if active and tensorboard else None

    def rewind(self, step, drop_evaluation=False):
        """Drops the lines of later steps, and `step`'s own evaluation if told so: the resumed run writes them again."""
        if not self._active or not os.path.exists(self.path):
            return

        def keep(line):
            scalars = json.loads(line)
            again = drop_evaluation and any(name.startswith("eval/") for name in scalars)
            return scalars["step"] < step or (scalars["step"] == step and not again)

        with open(self.path) as file:
            lines = [line for line in file if line.endswith("\n") and keep(line)]
        files.write(self.path, "".join(lines))

    def write(self, step, scalars, speeds=None):
        """`scalars` {name: float} to both, `speeds` to TensorBoard only."""
        if not self._active:
            return
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, **{name: float(value) for name, value in scalars.items()}}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._board:
            self._board.write_scalars(step, {**scalars, **(speeds or {})})

    def close(self):
        if self._board:
            self._board.close()


def _summary_writer(workdir):
    """clu's TensorBoard writer; without TensorFlow the run goes on with metrics.jsonl alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # no arithmetic here; otherwise TensorFlow announces it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's own deprecations at import
            from clu import metric_writers

            # clu brings TensorFlow, which would take all memory of every GPU it sees when the writer opens its file.
            sys.modules["tensorflow"].config.set_visible_devices([], "GPU")
            return metric_writers.SummaryWriter(workdir)
    except ImportError as error:
        print(f"no TensorBoard events ({error}); metrics.jsonl has every number", flush=True)
        return None


def parameter_overview(variables):
    """A table of every parameter with its shape and size (clu's where installed), and the total."""
    try:
        from clu import parameter_overview as overview
    except ImportError:
        leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
        rows = [f"{jax.tree_util.keystr(path, simple=True, separator='/')}  {leaf.shape}" for path, leaf in leaves]
        return "\n".join([*rows, f"Total: {sum(leaf.size for _, leaf in leaves):,}"])
    return overview.get_parameter_overview(variables["params"], include_stats=False)


class Progress:
    """Screen lines with the step, the epoch, a few metrics, images/s and the time left; compile time is left out."""

    def __init__(self, total_steps, steps_per_epoch, batch_size, start_step, active=True):
        self._total, self._per_epoch, self._batch = total_steps, steps_per_epoch, batch_size
        self._last_step, self._last_time, self._waited = start_step, time.perf_counter(), 0.0
        self._active = active

    def pause(self, seconds):
        """Time that was no training: compiling, evaluating, saving."""
        self._last_time += seconds

    def wait(self, seconds):
        """Time that the step stood waiting for its input."""
        self._waited += seconds

    def line(self, step, means):
        """Prints the line of `step` and returns the speeds as scalars."""
        now = time.perf_counter()
        seconds = max(now - self._last_time, 1e-9)
        per_second = (step - self._last_step) / seconds
        speeds = {"speed/images_per_second": per_second * self._batch, "speed/input_wait": self._waited / seconds}
        self._last_step, self._last_time, self._waited = step, now, 0.0
        if self._active and per_second > 0:
            shown = ("loss", "clean_accuracy", "adversarial_accuracy")
            values = [f"{name.replace('_accuracy', '')} {means[name]:.3f}" for name in shown if name in means]
            left = format_seconds((self._total - step) / per_second)
            print(
                f"step {step}/{self._total}  epoch {step / self._per_epoch:.1f}  {'  '.join(values)}  "
                f"{speeds['speed/images_per_second']:.0f} images/s  {left} left",
                flush=True,
            )
        return speeds


def format_seconds(seconds):
    """ "2 d 3 h", "1 h 05 min", "3 min 20 s" or "12 s"."""
    seconds = math.ceil(seconds)
    if seconds >= 86400:
        return f"{seconds // 86400} d {seconds % 86400 // 3600} h"
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"
