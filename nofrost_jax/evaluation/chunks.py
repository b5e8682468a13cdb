"""An evaluation set in chunks, which bound the memory: each process does its own, and then waits for the others."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from nofrost_jax.errors import Preempted

POLL_SECONDS = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Some images, uint8 or float32 [n, H, W, C], with their labels and indices, int32 [n], in the order of the index.
    number: the chunk's, from 0."""

    number: int
    image: np.ndarray
    label: np.ndarray
    index: np.ndarray

    def batch(self, rows: np.ndarray, size: int) -> dict[str, np.ndarray]:
        """`rows` of this chunk as a batch of `size`: zeros where there are fewer, and `active` False."""
        batch = {name: getattr(self, name)[rows] for name in ("image", "label", "index")}
        return {name: padded(value, size) for name, value in (batch | {"active": np.ones(len(rows), bool)}).items()}


def padded(values: np.ndarray, size: int) -> np.ndarray:
    """`values` [n, ...] and zeros after them, [size, ...]."""
    return np.pad(values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1))


def share(count: int, size: int) -> int:
    """How many of `count` images, in chunks of `size`, are this process's."""
    firsts = range(jax.process_index() * size, count, jax.process_count() * size)
    return sum(min(size, count - first) for first in firsts)


def fill_all(images: Any, stop: Any, is_known: Callable[[int], bool], fill: Callable[[Chunk], None]) -> None:
    """Calls `fill(chunk)`, in order, for each chunk of this process's share that is not known yet. Then waits until the
    other processes, which write to the same folder of outcomes, have done theirs.

    images: a set (`runs.Split`). is_known: of a chunk's number. stop: the StopSignal; unless it is local, it is checked
    between chunks. Raises Preempted once it is set.
    """
    process, processes, size = jax.process_index(), jax.process_count(), images.chunk_size
    numbers = range(-(-images.count // size))
    todo = {number for number in numbers if number % processes == process and not is_known(number)}
    batches = images.batches(size * processes, process, processes, lambda turn: turn * processes + process in todo)
    for first in range(0, len(numbers), processes):
        if not stop.local:
            check(stop)
        if first + process in todo:
            batch = next(batches)
            fill(Chunk(first + process, *(batch[name][batch["mask"]] for name in ("image", "label", "index"))))
    while not all(map(is_known, numbers)):
        if stop.local:
            check(stop)
        time.sleep(POLL_SECONDS)


def check(stop: Any) -> None:
    """Raises Preempted where the StopSignal says so."""
    if stop.requested():
        raise Preempted(
            f"stopped by {stop.name} during an evaluation; run the same command again to continue; "
            "only work since the last save is done again"
        )
