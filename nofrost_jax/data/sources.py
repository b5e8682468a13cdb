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

    size: int
    images: np.ndarray | None  # uint8 [n, h, w, 3] where all of them lie in memory, else None

    def load(self, index: int) -> bytes | np.ndarray:
        """The encoded image, or uint8 [h, w, 3]. Called from several threads. Raises OSError."""

    def example(self, index: int) -> tuple[bytes | np.ndarray, int]:
        """The image and its label. Called from several threads. Raises OSError."""

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """Labels, int32 [size], and file names, "NAME" or "CLASS/NAME", if there are any, of all examples; where these
        are only known by reading every example, that is done once. Raises OSError."""

    def where(self, index: int) -> str:
        """What to call this example in a message, e.g. its path."""


class Listed:
    """A split with random access whose labels are known at once: `labels`, int32 [n]."""

    labels: np.ndarray

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.labels)

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


class Sequential(Protocol):
    """A split that can only be read in the order of its files. `size` examples."""

    size: int

    def train(self, seed: int, epoch: int, skip: int, local: int, process: tuple[int, int]) -> Iterator[Examples]:
        """Full parts of `local` shuffled examples of process (index, count), after skipping `skip` parts."""

    def evaluation(self, local: int, process: tuple[int, int], places: np.ndarray) -> Iterator[Examples]:
        """The process's parts of `local` of the examples at `places`, ascending; the last may be short or missing."""

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

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.places)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """int32 [n]; no such attribute where `whole` has none."""
        return self.whole.labels[self.places]

    @functools.cached_property
    def images(self) -> np.ndarray | None:
        """As `whole` has them."""
        return None if self.whole.images is None else self.whole.images[self.places]

    def load(self, index: int) -> bytes | np.ndarray:
        """As `whole` has it. Raises OSError."""
        return self.whole.load(int(self.places[index]))

    def example(self, index: int) -> tuple[bytes | np.ndarray, int]:
        """As `whole` has it. Raises OSError."""
        return self.whole.example(int(self.places[index]))

    def where(self, index: int) -> str:
        """What `whole` calls it."""
        return self.whole.where(int(self.places[index]))

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """As `whole` has it. Raises OSError."""
        labels, names = self.whole.listing()
        return labels[self.places], None if names is None else [names[place] for place in self.places]


def whole_of(split: RandomAccess | Sequential) -> RandomAccess | Sequential:
    """The split that a Subset is of; any other split itself."""
    return split.whole if isinstance(split, Subset) else split


def is_random(split: RandomAccess | Sequential) -> bool:
    """Whether its examples can be had in any order."""
    return hasattr(split, "load")


def find_eval_split(configured: str, available) -> str | None:
    """The configured split (or slices and sums of splits, as tfds has them) if there, otherwise an alias that is."""
    if all(part.partition("[")[0].strip() in available for part in configured.split("+")):
        return configured
    return next((name for name in EVAL_ALIASES if name in available), None)
