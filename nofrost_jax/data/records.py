"""Random access to the ArrayRecord files of a prepared tfds data set, without TensorFlow."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nofrost_jax import progress

BLOCK = 256  # examples that are handed to the threads at once


class RecordError(OSError):
    """A record cannot be read."""


@dataclasses.dataclass(frozen=True)
class Records:
    """A split or a slice of one. rows: tfds's data source, a sequence of {feature: value}; name_feature: the feature
    that holds a file's name, "" if there is none; place: where the files lie, for messages."""

    name: str
    rows: Any
    name_feature: str
    place: str
    images = None

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.rows)

    def load(self, index: int) -> bytes:
        """The encoded image. Raises OSError."""
        return self._row(index)["image"]

    def example(self, index: int) -> tuple[bytes, int]:
        """The encoded image and its label. Raises OSError."""
        row = self._row(index)
        return row["image"], int(row["label"])

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """Labels, and file names where there are any; the first call reads all records. Raises OSError."""
        return self._listed

    @functools.cached_property
    def _listed(self) -> tuple[np.ndarray, list[str] | None]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(progress.shown(self._heads(pool), self.size, f"reading the labels of {self.name}", "images"))
        labels, names = zip(*found, strict=True)
        return np.array(labels, np.int32), list(names) if self.name_feature else None

    def _heads(self, pool: ThreadPoolExecutor) -> Iterator[tuple[int, str]]:
        """(label, file name) of every example, in order."""

        def head(index: int) -> tuple[int, str]:
            row = self._row(index)
            return int(row["label"]), row[self.name_feature].decode() if self.name_feature else ""

        for first in range(0, self.size, BLOCK):
            yield from pool.map(head, range(first, min(first + BLOCK, self.size)))

    def where(self, index: int) -> str:
        """Data set, split, place and folder."""
        return f"{self.name} example {index} in {self.place}"

    def _row(self, index: int) -> dict:
        try:
            return self.rows[index]
        except RuntimeError as error:  # of a file that is gone, cut off, or not as its checksums say
            raise RecordError(f"unreadable record ({' '.join(str(error).split())[:120]})") from error
