"""`digits`: scikit-learn's 1,797 handwritten digits (Alpaydin and Kaynak, 1998), 8 x 8 grey; a demonstration.

The split is fixed: of each class's n images, in the order of the data set, those at floor((2 i + 1) n / 72), i =
0..35, are for evaluation. That is 36 of each class, evenly spaced: 360; the other 1,437 are for training.
"""

import dataclasses
import functools

import numpy as np
from PIL import Image

from nofrost_jax.data.sources import Listed, Source

NUM_CLASSES = 10
NATIVE_SIZE = 8
EVAL_PER_CLASS = 36


@dataclasses.dataclass(frozen=True)
class Digits(Listed):
    """A split: images uint8 [n, size, size, 3] with three equal channels, labels int32 [n]."""

    name: str
    images: np.ndarray
    labels: np.ndarray

    def load(self, index: int) -> np.ndarray:
        """uint8 [size, size, 3]."""
        return self.images[index]

    def where(self, index: int) -> str:
        """Split and position."""
        return f"digits {self.name} image {index}"


def eval_mask(labels: np.ndarray) -> np.ndarray:
    """bool [n]: which images are for evaluation, by the rule above."""
    mask = np.zeros(len(labels), bool)
    for label in range(NUM_CLASSES):
        members = np.flatnonzero(labels == label)
        mask[members[(2 * np.arange(EVAL_PER_CLASS) + 1) * len(members) // (2 * EVAL_PER_CLASS)]] = True
    return mask


@functools.cache
def _load(name: str, size: int) -> Digits:
    from sklearn.datasets import load_digits  # Slow to import, and only this source needs it.

    bunch = load_digits()
    keep = eval_mask(bunch.target) == (name == "evaluation")
    grey = np.rint(bunch.images[keep] * (255 / 16)).astype(np.uint8)
    if size != NATIVE_SIZE:
        resized = (Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in grey)
        grey = np.stack([np.asarray(image) for image in resized])
    images = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=-1))
    labels = bunch.target[keep].astype(np.int32)
    for array in (images, labels):  # Shared by all callers.
        array.setflags(write=False)
    return Digits(name, images, labels)


def open_source(size: int) -> Source:
    """Digits of `size` pixels a side; 8 is native, to other sizes they are resized (bilinear)."""
    train, evaluation = (functools.partial(_load, name, size) for name in ("train", "evaluation"))
    return Source(NUM_CLASSES, train, evaluation, fitted=True, eval_name="validation", side=size)
