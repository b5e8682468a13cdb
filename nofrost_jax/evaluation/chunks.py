"""An evaluation set in chunks, which bound the memory: each process does its own, and all wait for what others do."""

import time
from typing import NamedTuple

import jax
import numpy as np

from nofrost_jax.errors import Preempted
from nofrost_jax.evaluation import flags

POLL_SECONDS = 1


class Chunk(NamedTuple):
    """Some of the images, uint8 [n, H, W, 3], with their labels and indices, int32 [n], in the order of the index.

    number: the chunk's, from 0 on. before: how many images come before it.
    """

    number: int
    image: np.ndarray
    label: np.ndarray
    index: np.ndarray
    before: int = 0

    def among_first(self, count):
        """How many of its images are among the first `count` of all: its own first ones."""
        return min(max(count - self.before, 0), len(self.index))

    def batch(self, rows, size):
        """`rows` of this chunk as a batch of `size`: zeros where there are fewer, and `active` False."""
        padding = [(0, size - len(rows))]
        batch = {name: getattr(self, name)[rows] for name in ("image", "label", "index")}
        batch["active"] = np.ones(len(rows), bool)
        return {name: np.pad(value, padding + [(0, 0)] * (value.ndim - 1)) for name, value in batch.items()}


def fill_all(images, stop, is_known, fill):
    """Calls `fill(chunk)`, in order, for each chunk of this process's share that is not known yet, and then waits until
    the other processes, which write to the same folder of outcomes, have done theirs.

    images: a set (`runs.Split`). is_known: of a chunk's number. stop: the StopSignal; unless it is local, it is checked
    between chunks. Raises Preempted once it is set.
    """
    process, processes, size = jax.process_index(), jax.process_count(), images.chunk_size
    numbers = range(-(-images.count // size))
    todo = {number for number in numbers if number % processes == process and not is_known(number)}
    batches = images.batches(size * processes, process, processes, lambda turn: turn * processes + process in todo)
    for turn in range(-(-len(numbers) // processes)):
        if not stop.local:
            check(stop)
        number = turn * processes + process
        if number in todo:
            fill(_without_padding(number, number * size, next(batches)))
    while not all(is_known(number) for number in numbers):
        if stop.local:
            check(stop)
        time.sleep(POLL_SECONDS)


def look(chunk, size, forward, columns, probe):
    """Runs a net over a chunk in batches of `size`: {column: [n]} for `columns`, and with `probe` also `flags.NOTES`.

    forward: (batch of `size`, rows of the chunk, times) -> a list of `times` answers to the same batch, each a dict of
    arrays, padding included; with more than one, "logits" is among them. probe: run the very first batch
    `flags.PROBES` times and compare.
    """
    parts, notes = [], dict.fromkeys(flags.NOTES, False) if probe else {}
    for first in range(0, len(chunk.index), size):
        rows = np.arange(first, min(first + size, len(chunk.index)))
        times = flags.PROBES if probe and chunk.number == first == 0 else 1
        answers = forward(chunk.batch(rows, size), rows, times)
        if times > 1:
            notes = flags.notes(np.stack([one["logits"][: len(rows)] for one in answers]), chunk.label[rows])
        parts.append({name: answers[0][name][: len(rows)] for name in columns})
    return {name: np.concatenate([part[name] for part in parts]) for name in columns} | notes


def check(stop):
    """Raises Preempted where the StopSignal says so."""
    if stop.requested():
        raise preempted(stop)


def preempted(stop):
    """The Preempted of a StopSignal that came within an evaluation."""
    return Preempted(
        f"stopped by {stop.name} during an evaluation; run the same command again to go on, nothing is lost"
    )


def _without_padding(number, before, batch):
    mask = batch["mask"]
    return Chunk(number, batch["image"][mask], batch["label"][mask], batch["index"][mask], before)
