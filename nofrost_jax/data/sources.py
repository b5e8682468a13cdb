"""What a data source is: its splits, by random access or in sequence."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

#: Splits that may serve as the evaluation split where the configured one does not exist, in order of preference.
EVAL_ALIASES = ("val", "validation", "test")


class RandomAccess(Protocol):
    """A split whose examples can be had in any order; example `i` is the i-th of a fixed order."""

    labels: np.ndarray  # int32 [n]
    images: np.ndarray | None  # uint8 [n, h, w, 3] where all of them lie in memory, else None

    def load(self, index: int) -> bytes | np.ndarray:
        """The encoded image, or uint8 [h, w, 3]. Called from several threads. Raises OSError."""

    def where(self, index: int) -> str:
        """What to call this example in a message, e.g. its path."""

    def file_names(self) -> list[str] | None:
        """The files' names, "NAME" or "CLASS/NAME", or None where examples have none (or no such method)."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Consecutive examples of a sequential split, still encoded."""

    images: list[bytes]
    labels: np.ndarray  # int32 [n]
    index: np.ndarray  # int32 [n]


class Sequential(Protocol):
    """A split that can only be read in the order of its files. `size` examples."""

    size: int

    def train(self, seed: int, epoch: int, skip: int, local: int, process: tuple[int, int]) -> Iterator[Chunk]:
        """Full chunks of `local` shuffled examples of process (index, count), after skipping `skip` chunks."""

    def evaluation(self, local: int, process: tuple[int, int], places: np.ndarray) -> Iterator[Chunk]:
        """The process's chunks of `local` of the examples at `places`, ascending; the last may be short or missing."""

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """Labels, int32 [size], and file names, if there are any, of all examples; reads all of them once."""

    def where(self, index: int) -> str:
        """What to call this example in a message."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set: two splits, each opened once, when first needed.

    Attributes:
      num_classes: of the data's label space.
      fitted: the images are made for `image_size`, so that evaluation neither resizes nor crops.
      eval_name: what the evaluation split is called at the source; "" if it has no name of its own.
      class_names: of the classes in the order of their labels; () where they have none.
      version: what tells this data set from another of its name; "" where there is nothing of the kind.
      side: pixels of a side, where all images are known to be squares of one size; otherwise 0.
      notes: what a user should know of it, a line each.
    """

    num_classes: int
    open_train: Callable[[], RandomAccess | Sequential]
    open_evaluation: Callable[[], RandomAccess | Sequential]
    fitted: bool = False
    eval_name: str = ""
    class_names: tuple[str, ...] = ()
    version: str = ""
    side: int = 0
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def train(self) -> RandomAccess | Sequential:
        """The training split. Raises UserError where it is not there, or broken."""
        return self.open_train()

    @functools.cached_property
    def evaluation(self) -> RandomAccess | Sequential:
        """The evaluation split. Raises UserError where it is not there, or broken."""
        return self.open_evaluation()


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some examples of a random-access split, in its order: example `i` is `whole`'s example `places[i]`."""

    whole: RandomAccess
    places: np.ndarray  # int64 [n], ascending
    labels: np.ndarray  # int32 [n]
    images: np.ndarray | None

    @classmethod
    def of(cls, whole: RandomAccess, places: np.ndarray) -> "Subset":
        """The examples at `places`."""
        return cls(whole, places, whole.labels[places], None if whole.images is None else whole.images[places])

    def load(self, index: int) -> bytes | np.ndarray:
        """As `whole` has it. Raises OSError."""
        return self.whole.load(int(self.places[index]))

    def where(self, index: int) -> str:
        """What `whole` calls it."""
        return self.whole.where(int(self.places[index]))

    def file_names(self) -> list[str] | None:
        """As `whole` has them."""
        names = listing(self.whole)[1]
        return None if names is None else [names[place] for place in self.places]


def whole_of(split: RandomAccess | Sequential) -> RandomAccess | Sequential:
    """The split that a Subset is of; any other split itself."""
    return split.whole if isinstance(split, Subset) else split


def size(split: RandomAccess | Sequential) -> int:
    """Number of examples."""
    return split.size if hasattr(split, "size") else len(split.labels)


def listing(split: RandomAccess | Sequential) -> tuple[np.ndarray, list[str] | None]:
    """(labels int32 [n], file names or None) of all examples. Raises OSError where they cannot be read."""
    if not hasattr(split, "labels"):
        return split.listing()
    return split.labels, split.file_names() if hasattr(split, "file_names") else None


def find_eval_split(configured: str, available) -> str | None:
    """The configured split (or slices and sums of splits, as tfds has them) if there, otherwise an alias that is."""
    if all(part.partition("[")[0].strip() in available for part in configured.split("+")):
        return configured
    return next((name for name in EVAL_ALIASES if name in available), None)
