"""What a data source is, and the table of them."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from nofrost_jax.errors import UserError

SOURCES = ("digits", "fake", "tfds:NAME", "folder:PATH")
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
    """

    num_classes: int
    train: Callable[[], RandomAccess | Sequential]
    evaluation: Callable[[], RandomAccess | Sequential]
    fitted: bool = False
    eval_name: str = ""


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
    """The configured split (or slice of a split, as tfds has them) if available, otherwise the first alias that is."""
    names = (configured, *EVAL_ALIASES)
    return next((name for name in names if name.partition("[")[0] in available), None)


def open_source(config) -> Source:
    """The source named by `config.data.source`. Raises UserError where it is unknown or its data is not there."""
    name = config.data.source
    if not is_known(name):
        raise UserError(f"unknown data source {name!r}; config.data.source; use one of {', '.join(SOURCES)}")
    kind, _, rest = name.partition(":")
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
