"""What a data source is, and the table of them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from nofrost_jax.errors import UserError

SOURCES = ("digits", "fake", "tfds:NAME", "folder:PATH")
#: As `config.data.eval_split`: the training images that `config.data.holdout` keeps out of training.
HOLDOUT = "holdout"
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

    def evaluation(self, local: int, process: tuple[int, int], limit: int) -> Iterator[Chunk]:
        """The process's chunks of `local` examples in file order; the last may be short or missing."""

    def where(self, index: int) -> str:
        """What to call this example in a message."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set: two splits, opened when first needed.

    Attributes:
      num_classes: of the data's label space.
      fitted: the images are made for `image_size`, so that evaluation neither resizes nor crops.
      eval_name: what the evaluation split is called at the source; "" if it has no name of its own.
      class_names: of the classes in the order of their labels; () where they have none.
      version: what tells this data set from another of its name; "" where there is nothing of the kind.
      side: pixels of a side, where all images are known to be squares of one size; otherwise 0.
    """

    num_classes: int
    train: Callable[[], RandomAccess | Sequential]
    evaluation: Callable[[], RandomAccess | Sequential]
    fitted: bool = False
    eval_name: str = ""
    class_names: tuple[str, ...] = ()
    version: str = ""
    side: int = 0


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


def holdout_mask(n: int, holdout: int) -> np.ndarray:
    """bool [n]: the `holdout` < n examples that are kept out of training, those at floor((2 i + 1) n / (2 holdout))."""
    mask = np.zeros(n, bool)
    mask[(2 * np.arange(holdout) + 1) * n // (2 * max(holdout, 1))] = True
    return mask


def size(split: RandomAccess | Sequential) -> int:
    """Number of examples."""
    return split.size if hasattr(split, "size") else len(split.labels)


def is_known(source: str) -> bool:
    """Whether `source` has the form of one of `SOURCES`, e.g. "digits" or "tfds:cifar10"."""
    kind, colon, rest = source.partition(":")
    if colon:
        return bool(rest) and any(known.startswith(f"{kind}:") for known in SOURCES)
    return kind in SOURCES


def eval_split(configured: str, available) -> str | None:
    """The configured split (or slices and sums of splits, as tfds has them) if there, otherwise an alias that is."""
    if all(part.partition("[")[0].strip() in available for part in configured.split("+")):
        return configured
    return next((name for name in EVAL_ALIASES if name in available), None)


def open_source(config) -> Source:
    """The source named by `config.data.source`, its training split without the images that `config.data.holdout` keeps.

    Raises UserError where it is unknown, its data is not there, or it cannot keep so many images.
    """
    name, holdout = config.data.source, config.data.get("holdout", 0)
    if not is_known(name):
        raise UserError(f"unknown data source {name!r}; config.data.source; use one of {', '.join(SOURCES)}")
    wanted = config.data.eval_split == HOLDOUT
    if name.startswith("tfds:") and (holdout or wanted) and config.data.get("access") == "sequential":
        raise UserError(
            f"{name} is read in sequence and cannot keep single images out of training; config.data.holdout = "
            f"{holdout}, config.data.eval_split = {config.data.eval_split}; set config.data.access = random, or use "
            'slices: config.data.holdout = 0, config.data.train_split = "train[:90%]", eval_split = "train[90%:]"'
        )
    if wanted and not holdout:
        raise UserError(
            "config.data.eval_split = holdout, but no images are held out; config.data.holdout = 0; set it to a number "
            "of training images"
        )
    source = _open_named(config, *name.partition(":")[::2])
    if not holdout:
        return source
    kept, held = (functools.partial(_split_holdout, source.train, holdout, name, which) for which in (False, True))
    if wanted:
        return dataclasses.replace(source, train=kept, evaluation=held, eval_name=HOLDOUT)
    return dataclasses.replace(source, train=kept)


def _split_holdout(open_train: Callable[[], RandomAccess], holdout: int, name: str, which: bool) -> Subset:
    """The training examples that are held out (`which`), or all the others."""
    split = open_train()
    if holdout >= size(split):
        raise UserError(
            f"the training split has {size(split)} images, so {holdout} cannot be held out; {name}; lower "
            "config.data.holdout"
        )
    return Subset.of(split, np.flatnonzero(holdout_mask(size(split), holdout) == which))


def _open_named(config, kind: str, rest: str) -> Source:
    if kind == "digits":
        from nofrost_jax.data import digits

        return digits.open_source(config)
    if kind == "fake":
        from nofrost_jax.data import fake

        return fake.open_source(config)
    if kind == "folder":
        from nofrost_jax.data import folder

        return folder.open_source(config, rest)
    from nofrost_jax.data import tfds_source

    return tfds_source.open_source(config, rest)
