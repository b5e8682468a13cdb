"""From a source to batches: which examples a batch holds, and the threads that decode them."""

import dataclasses
import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from nofrost_jax.data import preprocess, views
from nofrost_jax.data.preprocess import ImageError
from nofrost_jax.data.rng import PERMUTATION, generator
from nofrost_jax.data.skips import Skips
from nofrost_jax.data.sources import size
from nofrost_jax.data.views import Views
from nofrost_jax.errors import UserError

AHEAD = 2  # Batches that are decoded while the caller works on one.
_Make = Callable[[], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A batch before decoding. `choose(row, attempt)` tells index and label of the example for a row and how to make
    its images, in a thread; after `attempt` examples that could not be read, the next one in turn."""

    empty: Callable[[int, int], dict[str, np.ndarray]]  # What `make` fills, by rows and side; see `Views.empty`.
    rows: int  # Real examples; the others of `size` are padding.
    size: int
    label: np.ndarray
    index: np.ndarray
    choose: Callable[[int, int], tuple[int, int, _Make]]
    where: Callable[[int], str]
    skips: Skips | None = None  # None: an unreadable image is an error.


def _local(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(
            f"a batch of {batch_size} cannot be shared by {process_count} processes; config; choose a multiple"
        )
    return batch_size // process_count


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of the n examples in an epoch: int64 [n]."""
    return generator(seed, PERMUTATION, epoch).permutation(n)


def train_batches(dataset, start_step: int, process_index: int = 0, process_count: int = 1) -> Iterator[dict]:
    """See `Dataset.train_batches`."""
    config, split, wanted = dataset.config, dataset.train, dataset.views
    epoch_steps = dataset.steps_per_epoch
    local = _local(config.batch_size, process_count)
    process = (process_index, process_count)
    if getattr(split, "images", None) is not None and dataset.geometry.augmentation == "none":
        return _gathered(config, split, wanted, _epochs(config, split, start_step, epoch_steps, local, process), local)
    make = _random_access_plans if hasattr(split, "labels") else _sequential_plans
    skips = Skips() if config.data.on_error == "skip" else None
    plans = make(config, wanted, split, start_step, epoch_steps, local, process, skips)
    return _decoded(config, plans, masked=False, skips=skips)


def _epochs(config, split, start_step, epoch_steps, local, process) -> Iterator[tuple[int, int, np.ndarray]]:
    """(epoch, first position, the epoch's order [n]) of every step from `start_step` on; random-access splits."""
    epoch = -1
    for step in itertools.count(start_step):
        if step // epoch_steps != epoch:
            epoch = step // epoch_steps
            order = permutation(config.seed, epoch, size(split))
        first = step % epoch_steps * config.batch_size + process[0] * local
        yield epoch, first, order


def _gathered(config, split, wanted: Views, epochs, local: int) -> Iterator[dict]:
    """Batches that are plain rows of an array in memory, every view the same: no decoding, no threads."""
    _check_labels(config, split.labels, split.where)
    for epoch, first, order in epochs:
        index = order[first : first + local]
        images = dict.fromkeys(map(views.batch_name, wanted.names), split.images[index])
        if "augmented" in wanted.names:
            positions = range(first, first + local)
            images["is_deepaugment"] = np.array([wanted.flip_coin(config.seed, epoch, place) for place in positions])
        yield images | {"label": split.labels[index], "index": index.astype(np.int32)}


def _random_access_plans(config, wanted: Views, split, start_step, epoch_steps, local, process, skips):
    """An iterator of plans. An unreadable image is replaced by the next readable one of the epoch's order."""
    for epoch, first, order in _epochs(config, split, start_step, epoch_steps, local, process):

        def choose(row: int, attempt: int, epoch=epoch, first=first, order=order) -> tuple[int, int, _Make]:
            example = int(order[(first + row + attempt) % len(order)])
            make = functools.partial(_load_and_make, wanted, split, example, config.seed, epoch, first + row)
            return example, int(split.labels[example]), make

        index = order[first : first + local]
        yield _Plan(wanted.empty, local, local, split.labels[index], index.astype(np.int32), choose, split.where, skips)


def _load_and_make(wanted: Views, split, example: int, *position) -> dict[str, np.ndarray]:
    return wanted.make(split.load(example), example, *position)


def _sequential_plans(config, wanted: Views, split, start_step, epoch_steps, local, process, skips):
    """An iterator of plans. An unreadable image is replaced by the next readable one of the process's share."""
    step = start_step
    while True:
        epoch, done = divmod(step, epoch_steps)
        chunks = split.train(config.seed, epoch, done, local, process)
        for chunk in itertools.islice(chunks, epoch_steps - done):
            first = step % epoch_steps * config.batch_size + process[0] * local

            def choose(row: int, attempt: int, epoch=epoch, first=first, chunk=chunk) -> tuple[int, int, _Make]:
                other = (row + attempt) % local
                index = int(chunk.index[other])
                make = functools.partial(wanted.make, chunk.images[other], index, config.seed, epoch, first + row)
                return index, int(chunk.labels[other]), make

            label, index = chunk.labels.copy(), chunk.index.copy()  # `chunk` stays what was read.
            yield _Plan(wanted.empty, local, local, label, index, choose, split.where, skips)
            step += 1


def eval_batches(
    dataset, batch_size: int, process_index: int = 0, process_count: int = 1, wanted=None
) -> Iterator[dict]:
    """See `Dataset.eval_batches`."""
    split, places = dataset.evaluation, dataset.places
    local = _local(batch_size, process_count)
    process = (process_index, process_count)
    make = _random_access_chunks if hasattr(split, "labels") else _sequential_chunks
    plans = make(dataset.geometry, split, local, process, places)
    # Every process yields this many, also one that has run out of examples: collective operations wait for all.
    numbered = enumerate(itertools.islice(plans, -(-len(places) // batch_size)))
    return _decoded(
        dataset.config, (plan for number, plan in numbered if wanted is None or wanted(number)), masked=True
    )


def _random_access_chunks(geometry, split, local, process, places) -> Iterator[_Plan]:
    for first in itertools.count(process[0] * local, process[1] * local):
        index = places[first : first + local]
        yield _eval_plan(
            geometry, split, local, split.labels[index], index, lambda row, i=index: split.load(int(i[row]))
        )


def _sequential_chunks(geometry, split, local, process, places) -> Iterator[_Plan]:
    for chunk in split.evaluation(local, process, places):
        yield _eval_plan(geometry, split, local, chunk.labels, chunk.index, chunk.images.__getitem__)
    nothing = np.zeros(0, np.int32)
    while True:
        yield _eval_plan(geometry, split, local, nothing, nothing, None)


def _eval_plan(geometry, split, local, labels, index, fetch) -> _Plan:
    label, padded = np.zeros(local, np.int32), np.full(local, -1, np.int32)
    label[: len(index)], padded[: len(index)] = labels, index

    def choose(row: int, attempt: int) -> tuple[int, int, _Make]:
        return int(index[row]), int(labels[row]), lambda: {"image": preprocess.eval_image(fetch(row), geometry)}

    return _Plan(_empty, len(index), local, label, padded, choose, split.where)


_empty = Views(("clean",), {}).empty


def _check_labels(config, labels: np.ndarray, where: Callable[[int], str], index: np.ndarray | None = None) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= config.model.num_classes))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"label {labels[row]} is outside the {config.model.num_classes} classes of the model; "
            f"{where(row if index is None else int(index[row]))}; mend the data or config.model.num_classes"
        )


def _fill(config, plan: _Plan, rows: range, out: dict[str, np.ndarray]) -> None:
    for row in rows:
        for attempt in itertools.count():
            index, label, make = plan.choose(row, attempt)
            try:
                made = make()
                break
            except (ImageError, OSError) as error:
                where = plan.where(index)
                if plan.skips is None:
                    raise UserError(f"{error}; {where}; replace this image or remove it from the data") from error
                plan.skips.note(error, where, attempt + 1)
        if plan.skips is not None:
            out["replaced"][row] = attempt > 0
        if attempt:
            _check_labels(config, np.array([label]), plan.where, np.array([index]))
            plan.label[row], plan.index[row] = label, index
        for name, image in made.items():
            out[name][row] = image


def _decoded(config, plans: Iterator[_Plan], masked: bool, skips: Skips | None = None) -> Iterator[dict]:
    """Runs the plans in a pool of threads, `AHEAD` batches in advance, and yields them in order, `masked` or full."""
    workers = config.data.workers or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers, thread_name_prefix="data")
    pending: deque[tuple[dict, list[Future]]] = deque()

    def finish() -> dict:
        batch, futures = pending.popleft()
        for future in futures:
            future.result()
        return batch if masked else {name: value for name, value in batch.items() if name != "mask"}

    try:
        for plan in plans:
            pending.append(_submit(config, pool, workers, plan))
            if len(pending) > AHEAD:
                yield finish()
        while pending:
            yield finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if skips is not None:
            skips.close()


def _submit(config, pool: ThreadPoolExecutor, workers: int, plan: _Plan) -> tuple[dict, list[Future]]:
    _check_labels(config, plan.label[: plan.rows], plan.where, plan.index)
    images = plan.empty(plan.size, config.data.image_size)
    if plan.skips is not None:
        images["replaced"] = np.zeros(plan.size, bool)
    mask = np.arange(plan.size) < plan.rows
    # Some images a task: small ones cost less than a task's overhead, and the pool must still share a batch evenly.
    share = max(1, plan.rows // (4 * workers))
    futures = [
        pool.submit(_fill, config, plan, range(first, min(first + share, plan.rows)), images)
        for first in range(0, plan.rows, share)
    ]
    return images | {"label": plan.label, "index": plan.index, "mask": mask}, futures
