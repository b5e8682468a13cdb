"""Metrics as (sum, count) pairs, and where they go: metrics.jsonl and TensorBoard (through clu)."""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from nofrost_jax import files


class Sums:
    """Running (sum, count) pairs in float64 on the host. `state` round-trips through JSON exactly, so that a resumed
    run continues a half-filled window."""

    def __init__(self, state: dict[str, list[float]] | None = None) -> None:
        self.state = {name: list(pair) for name, pair in (state or {}).items()}

    def add(self, metrics: Mapping[str, jax.Array | Sequence[float]]) -> list[str]:
        """Adds {name: float32 [2]} and returns the names whose sums are not finite."""
        host = jax.device_get(metrics)
        for name, (value, count) in host.items():
            pair = self.state.setdefault(name, [0.0, 0.0])
            pair[0] += float(value)
            pair[1] += float(count)
        return sorted(name for name, pair in host.items() if not np.all(np.isfinite(pair)))

    def means(self) -> dict[str, float]:
        """{name: sum / count} so far; starts a new window."""
        means = {name: value / count for name, (value, count) in self.state.items()}
        self.state = {}
        return means


def over_processes(counts: dict[str, list[float]]) -> dict[str, list[float]]:
    """{name: [integers below 2^31]} summed over all processes, which must all call this with the same names."""
    if jax.process_count() == 1:
        return counts
    gathered = multihost_utils.process_allgather({name: np.array(row, np.int32) for name, row in counts.items()})
    return {name: rows.sum(0).tolist() for name, rows in gathered.items()}


class Writer:
    """Writes scalars of a step to `metrics.jsonl` and TensorBoard, in the main process only (`active`).

    The JSON lines do not depend on the clock: two runs of one config write equal files. Speeds go to TensorBoard only.
    """

    def __init__(self, workdir: str, active: bool = True, tensorboard: bool = True) -> None:
        self.path = os.path.join(workdir, "metrics.jsonl")
        self._active = active
        self._size, self._hash = 0, hashlib.sha256()
        self._board = _summary_writer(workdir) if active and tensorboard else None
        self._lines = b""  # in a bucket: of the whole file, which is written anew with each line

    @property
    def written(self) -> dict[str, Any]:
        """What the file holds, for `rewind`; {} in other processes."""
        return {"bytes": self._size, "sha256": self._hash.hexdigest()} if self._active else {}

    def rewind(self, step: int, written: dict[str, Any] | None = None, drop_evaluation: bool = False) -> None:
        """Drops what came after a checkpoint, before a resumed run writes it again.

        step: the checkpoint's, 0: none; written: what the file held when it was saved. If it holds something else, a
        line says so, the file is kept as it was found, and its whole lines count, but none of later steps and with
        `drop_evaluation` no evaluation of `step`.
        """
        if not self._active:
            return
        try:
            found = files.read(self.path)
        except FileNotFoundError:
            found = b""
        kept = found[: written["bytes"]] if written else b""
        if not written or files.sha256(kept) != written["sha256"]:
            kept = _lines_before(found, step, drop_evaluation)
            if written:
                self._tell_damage(found)
        self._size, self._hash, self._lines = len(kept), hashlib.sha256(kept), kept
        if found:
            files.write(self.path, kept)

    def _tell_damage(self, found: bytes) -> None:
        damaged = f"{self.path}.damaged"
        if found and not files.exists(damaged):
            files.write(damaged, found)
        where = f"; as it was found it is {damaged}" * bool(found)
        print(f"note: {self.path} is not what was written: lines are missing or changed{where}", flush=True)

    def write(self, step: int, scalars: dict[str, float], speeds: dict[str, float] | None = None) -> None:
        """`scalars` {name: float} to both, `speeds` to TensorBoard only."""
        if not self._active:
            return
        line = json.dumps({"step": step, **{name: float(value) for name, value in scalars.items()}}) + "\n"
        if files.is_url(self.path):
            self._lines += line.encode()
            files.write(self.path, self._lines)
        else:
            with open(self.path, "a") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        self._size += len(line)
        self._hash.update(line.encode())
        if self._board:
            self._board.write_scalars(step, {**scalars, **(speeds or {})})

    def close(self) -> None:
        if self._board:
            self._board.close()


def _lines_before(content: bytes, step: int, drop_evaluation: bool) -> bytes:
    """The whole lines of steps up to `step`, with `drop_evaluation` without its evaluation."""

    def is_kept(line: bytes) -> bool:
        try:
            scalars = json.loads(line)
            again = drop_evaluation and any(name.startswith("eval/") for name in scalars)
            return scalars["step"] < step or (scalars["step"] == step and not again)
        except (ValueError, TypeError, LookupError):  # damaged
            return False

    return b"".join(line for line in content.splitlines(keepends=True) if line.endswith(b"\n") and is_kept(line))


def _summary_writer(workdir):
    """clu's TensorBoard writer, or None without TensorFlow and in a bucket, where TensorFlow needs a plug-in."""
    if files.is_url(workdir):
        print("no TensorBoard events in a bucket; metrics.jsonl has every number", flush=True)
        return None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # TensorFlow computes nothing here; this avoids its message
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's own deprecations at import
            from clu import metric_writers

            # Otherwise TensorFlow takes all memory of every visible GPU when the writer opens its file.
            sys.modules["tensorflow"].config.set_visible_devices([], "GPU")
            return metric_writers.SummaryWriter(workdir)
    except ImportError as error:
        print(f"no TensorBoard events ({error}); metrics.jsonl has every number", flush=True)
        return None


def write_overview(variables: dict[str, Any], workdir: str) -> None:
    """Writes `parameter_overview` to `WORKDIR/parameters.txt`."""
    files.write(os.path.join(workdir, "parameters.txt"), parameter_overview(variables) + "\n")


def parameter_overview(variables: dict[str, Any]) -> str:
    """A table of every parameter with its shape and size (clu's where installed), and the total."""
    try:
        from clu import parameter_overview as overview
    except ImportError:
        leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
        rows = [f"{jax.tree_util.keystr(path, simple=True, separator='/')}  {leaf.shape}" for path, leaf in leaves]
        return "\n".join([*rows, f"Total: {sum(leaf.size for _, leaf in leaves):,}"])
    return overview.get_parameter_overview(variables["params"], include_stats=False)
