"""What a data source is: its splits, with random access or read in sequence."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from nofrost_jax.progress import shown

#: Splits that may serve as the evaluation split if the configured one does not exist, in order of preference.
EVAL_ALIASES = ("val", "validation", "test")
READERS = 16  # threads that read file headers; they mostly wait for the disk
Found = TypeVar("Found")


class RandomAccess(Protocol):
    """A split whose examples can be read in any order; example `i` is the i-th of a fixed order."""

    @property
    def size(self) -> int:
        """Number of examples."""

    @property
    def images(self) -> np.ndarray | None:
        """uint8 [size, h, w, 3] if all of them are in memory, else None."""

    @property
    def labels(self) -> np.ndarray | None:
        """int32 [size] if they are known at once, else None."""

    def load(self, index: int) -> bytes | np.ndarray:
        """The encoded image, or uint8 [h, w, 3]. Called from several threads. Raises OSError."""

    def example(self, index: int) -> tuple[bytes | np.ndarray, int]:
        """The image and its label. Called from several threads. Raises OSError."""

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """Labels, int32 [size], and file names, "NAME" or "CLASS/NAME", if there are any. Reads every example once
        if it must. Raises OSError."""

    def where(self, index: int) -> str:
        """A name of this example for messages, e.g. its path."""


class Listed:
    """A split with random access whose `labels`, int32 [n], are known at once."""

    labels: np.ndarray

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.labels)

    def load(self, index: int) -> bytes | np.ndarray:
        """See `RandomAccess`."""
        raise NotImplementedError

    def example(self, index: int) -> tuple[bytes | np.ndarray, int]:
        """The image and its label. Raises OSError."""
        return self.load(index), int(self.labels[index])

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """Labels, and no file names."""
        return self.labels, None


@dataclasses.dataclass(frozen=True)
class Examples:
    """Consecutive examples of a sequential split, still encoded."""

    images: list[bytes]
    labels: np.ndarray  # int32 [n]
    index: np.ndarray  # int32 [n]


@runtime_checkable
class Sequential(Protocol):
    """A split that can only be read in the order of its files."""

    @property
    def size(self) -> int:
        """Number of examples."""

    def train(self, seed: int, epoch: int, skip: int, local: int, process: tuple[int, int]) -> Iterator[Examples]:
        """Shuffled examples of process (index, count), `local` at a time, without the first `skip` times `local`."""

    def evaluation(self, local: int, process: tuple[int, int], places: np.ndarray) -> Iterator[Examples]:
        """The process's share of the examples at `places`, ascending, `local` at a time; the last may be short."""

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """As for `RandomAccess`; reads all examples once."""

    def where(self, index: int) -> str:
        """A name of this example for messages."""


Split = RandomAccess | Sequential


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set: two splits, each opened once, when it is first used.

    num_classes: of the data's label space. fitted: the images already have `image_size`, so evaluation neither resizes
    nor crops. eval_name: the source's own name of the evaluation split, "" if it has none. class_names: in the order of
    the labels, () if there are none. version: identifies the data set among others of its name, or "". side: the side
    in pixels if all images are squares of one size, else 0. notes: what a user should know, one line each.
    """

    num_classes: int
    open_train: Callable[[], Split]
    open_evaluation: Callable[[], Split]
    fitted: bool = False
    eval_name: str = ""
    class_names: tuple[str, ...] = ()
    version: str = ""
    side: int = 0
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def train(self) -> Split:
        """The training split. Raises UserError if it is missing or broken."""
        return self.open_train()

    @functools.cached_property
    def evaluation(self) -> Split:
        """The evaluation split. Raises UserError if it is missing or broken."""
        return self.open_evaluation()


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some examples of a random-access split, in its order: example `i` is example `places[i]` of `whole`."""

    whole: RandomAccess
    places: np.ndarray  # int64 [n], ascending

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.places)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """As in `whole`."""
        return None if self.whole.labels is None else self.whole.labels[self.places]

    @functools.cached_property
    def images(self) -> np.ndarray | None:
        """As in `whole`."""
        return None if self.whole.images is None else self.whole.images[self.places]

    def load(self, index: int) -> bytes | np.ndarray:
        """As in `whole`. Raises OSError."""
        return self.whole.load(int(self.places[index]))

    def example(self, index: int) -> tuple[bytes | np.ndarray, int]:
        """As in `whole`. Raises OSError."""
        return self.whole.example(int(self.places[index]))

    def where(self, index: int) -> str:
        """As in `whole`."""
        return self.whole.where(int(self.places[index]))

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """As in `whole`. Raises OSError."""
        labels, names = self.whole.listing()
        return labels[self.places], None if names is None else [names[place] for place in self.places]


def whole_of(split: Split) -> Split:
    """The split that a Subset is taken from; any other split itself."""
    return split.whole if isinstance(split, Subset) else split


def find_eval_split(configured: str, available: Collection[str]) -> str | None:
    """The configured split (or tfds's slices and sums of splits) if available, otherwise an alias that is."""
    if all(part.partition("[")[0].strip() in available for part in configured.split("+")):
        return configured
    return next((name for name in EVAL_ALIASES if name in available), None)


def in_threads(
    function: Callable[[int], Found], count: int, what: str, workers: int = READERS, block: int = 1024
) -> Iterator[Found]:
    """function(0), function(1), ... function(count - 1) for images, in order, `block` at a time in threads; the
    progress of `what` goes to stderr."""
    with ThreadPoolExecutor(workers) as pool:
        blocks = (range(first, min(first + block, count)) for first in range(0, count, block))
        yield from shown((found for one in blocks for found in pool.map(function, one)), count, what, "images")
