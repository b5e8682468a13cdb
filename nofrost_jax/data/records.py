"""Random access to the ArrayRecord files of a prepared tfds data set, without TensorFlow."""

import dataclasses
import functools
import os
from collections.abc import Sequence

import numpy as np

from nofrost_jax.data.sources import in_threads


@dataclasses.dataclass(frozen=True)
class Records:
    """A split, or a slice of one. rows: tfds's data source, a sequence of {feature: value}. name_feature: the feature
    that holds the file's name, "" if there is none. place: the folder of the files, for messages."""

    name: str
    rows: Sequence[dict]
    name_feature: str
    place: str
    images = labels = None

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
        """Labels, and file names if there are any; the first call reads all records. Raises OSError."""
        return self._listed

    @functools.cached_property
    def _listed(self) -> tuple[np.ndarray, list[str] | None]:
        def head(index: int) -> tuple[int, str]:
            row = self._row(index)
            return int(row["label"]), row[self.name_feature].decode() if self.name_feature else ""

        found = list(in_threads(head, self.size, f"reading the labels of {self.name}", os.cpu_count() or 1, 256))
        labels, names = zip(*found, strict=True)
        return np.array(labels, np.int32), list(names) if self.name_feature else None

    def where(self, index: int) -> str:
        """Data set, split, place and folder."""
        return f"{self.name} example {index} in {self.place}"

    def _row(self, index: int) -> dict:
        try:
            return self.rows[index]
        except RuntimeError as error:  # the file is missing, cut off, or does not match its checksums
            raise OSError(f"unreadable record ({' '.join(str(error).split())[:120]})") from error
