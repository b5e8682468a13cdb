"""Batches of a Dataset: which examples a batch holds, and the threads that decode them."""

import dataclasses
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from nofrost_jax.data import preprocess, views
from nofrost_jax.data.preprocess import ImageError
from nofrost_jax.data.rng import PERMUTATION, generator
from nofrost_jax.data.skips import Skips
from nofrost_jax.data.sources import Examples, RandomAccess, Sequential, Split
from nofrost_jax.data.views import ViewMaker
from nofrost_jax.errors import UserError

AHEAD = 2  # batches that are decoded while the caller uses one
_NONE_LEFT = Examples([], np.zeros(0, np.int32), np.zeros(0, np.int32))


@dataclasses.dataclass(frozen=True)
class Share:
    """A process's rows of a batch, not decoded yet: `count` examples of an order, from place `first` on.

    source: a split, or what a sequential one has read, which is an order by itself. order: index of each example, int
    [n]. epoch, position: of the first row in training.
    """

    split: Split
    source: RandomAccess | Examples
    order: np.ndarray
    first: int
    count: int
    epoch: int = 0
    position: int = 0

    def example(self, place: int) -> tuple[bytes | np.ndarray, int]:
        """The image at a place of the order, still encoded, and its label. Raises OSError."""
        if isinstance(self.source, Examples):
            return self.source.images[place], int(self.source.labels[place])
        return self.source.example(int(self.order[place]))


def train_batches(dataset: Any, start_step: int, process_index: int = 0, process_count: int = 1) -> Iterator[dict]:
    """See `Dataset.train_batches`."""
    local = _local(dataset.config.batch_size, process_count)
    shares = _training(dataset, start_step, (process_index, process_count), local)
    if getattr(dataset.train, "images", None) is not None and dataset.geometry.augmentation == "none":
        return _gathered(dataset, dataset.view_maker, shares)
    return _decoded(dataset, dataset.view_maker, shares, local)


def eval_batches(
    dataset: Any,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    wanted: Callable[[int], bool] | None = None,
) -> Iterator[dict]:
    """See `Dataset.eval_batches`."""
    local = _local(batch_size, process_count)
    shares = _evaluation(dataset.evaluation, dataset.places, (process_index, process_count), local, wanted)
    return _decoded(dataset, None, shares, local)


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of the n examples in an epoch: int64 [n]."""
    return generator(seed, PERMUTATION, epoch).permutation(n)


def _local(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(
            f"a batch of {batch_size} cannot be shared by {process_count} processes; config; choose a multiple"
        )
    return batch_size // process_count


def _training(dataset, start_step: int, process: tuple[int, int], local: int) -> Iterator[Share]:
    """The process's share of every step from `start_step` on."""
    split, config, per_epoch = dataset.train, dataset.config, dataset.steps_per_epoch
    epoch, order, parts = -1, np.zeros(0, int), iter(())
    for step in itertools.count(start_step):
        is_new = step // per_epoch != epoch
        epoch, done = divmod(step, per_epoch)
        position = done * config.batch_size + process[0] * local
        if isinstance(split, Sequential):
            parts = split.train(config.seed, epoch, done, local, process) if is_new else parts
            examples = next(parts)
            yield Share(split, examples, examples.index, 0, local, epoch, position)
        else:
            order = permutation(config.seed, epoch, split.size) if is_new else order
            yield Share(split, split, order, position, local, epoch, position)


def _evaluation(
    split: Split,
    places: np.ndarray,
    process: tuple[int, int],
    local: int,
    wanted: Callable[[int], bool] | None,
) -> Iterator[Share]:
    """The process's share of every wanted batch. Every process has as many, even one without examples left, because
    collective operations wait for all."""
    batch_size = local * process[1]
    parts = split.evaluation(local, process, places) if isinstance(split, Sequential) else iter(())
    for number in range(-(-len(places) // batch_size)):
        first = number * batch_size + process[0] * local
        count = min(max(len(places) - first, 0), local)
        if isinstance(split, Sequential):
            examples = next(parts) if count else _NONE_LEFT
            share = Share(split, examples, examples.index, 0, count)
        else:
            share = Share(split, split, places, first, count)
        if wanted is None or wanted(number):
            yield share


def _check_labels(dataset, share: Share, index: np.ndarray, labels: np.ndarray) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= dataset.config.model.num_classes))
    if len(wrong):
        raise UserError(
            f"label {labels[wrong[0]]} is outside the {dataset.config.model.num_classes} classes of the model; "
            f"{share.split.where(int(index[wrong[0]]))}; correct the data or config.model.num_classes"
        )


def _gathered(dataset, maker: ViewMaker, shares: Iterator[Share]) -> Iterator[dict]:
    """Batches that are plain rows of an array in memory, the same for every view: no decoding, no threads."""
    split = dataset.train
    for share in shares:
        index = share.order[share.first : share.first + share.count].astype(np.int32)
        labels = split.labels[index]
        _check_labels(dataset, share, index, labels)
        batch = dict.fromkeys(map(views.batch_name, maker.names), split.images[index])
        if "augmented" in maker.names:
            positions = range(share.position, share.position + share.count)
            coins = [maker.flip_coin(dataset.config.seed, share.epoch, position) for position in positions]
            batch["is_deepaugment"] = np.array(coins)
        yield batch | {"label": labels, "index": index}


def _decoded(dataset, maker: ViewMaker | None, shares: Iterator[Share], size: int) -> Iterator[dict]:
    """Batches of `size` in order, `AHEAD` of them decoded in advance by threads, which end with the iterator.

    maker: of the views of training images; None for evaluation, which gets a mask and never skips.
    """
    config = dataset.config
    workers = config.data.workers or os.cpu_count() or 1
    skips = Skips() if maker and config.data.on_error == "skip" else None
    pending: deque[tuple[dict, list[Future]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="data")
    try:
        for share in shares:
            batch = (maker or ViewMaker(("clean",), {})).empty(size, config.data.image_size)
            batch |= {"label": np.zeros(size, np.int32), "index": np.full(size, -1, np.int32)}
            batch |= {} if maker else {"mask": np.arange(size) < share.count}
            batch |= {"replaced": np.zeros(size, bool)} if skips else {}
            # Several images a task: small ones cost less than a task's overhead, but the pool must still share evenly.
            step = max(1, share.count // (4 * workers))
            parts = (range(first, min(first + step, share.count)) for first in range(0, share.count, step))
            pending.append((batch, [pool.submit(_fill, dataset, maker, share, rows, batch, skips) for rows in parts]))
            if len(pending) > AHEAD:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if skips:
            skips.close()


def _finished(batch: dict, futures: list[Future]) -> dict:
    for future in futures:
        future.result()
    return batch


def _fill(dataset, maker: ViewMaker | None, share: Share, rows: range, batch: dict, skips: Skips | None) -> None:
    """Decodes some rows of a batch. With `skips` the next readable example of the order replaces an unreadable one,
    with its own label and index; the random numbers stay those of the row."""
    for row in rows:
        for attempt in itertools.count():
            place = (share.first + row + attempt) % len(share.order)
            index = int(share.order[place])
            try:
                image, label = share.example(place)
                if maker:
                    made = maker.make(image, index, dataset.config.seed, share.epoch, share.position + row)
                else:
                    made = {"image": preprocess.eval_image(image, dataset.geometry)}
                break
            except (ImageError, OSError) as error:
                where = share.split.where(index)
                if skips is None:
                    why = getattr(error, "strerror", None) or error
                    raise UserError(f"{why}; {where}; replace this image or remove it from the data") from error
                skips.note(error, where, attempt + 1)
        batch["label"][row], batch["index"][row] = label, index
        if attempt:
            batch["replaced"][row] = True
        for name, value in made.items():
            batch[name][row] = value
    part = slice(rows.start, rows.stop)
    _check_labels(dataset, share, batch["index"][part], batch["label"][part])
