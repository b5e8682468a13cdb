"""`fake`: synthetic, learnable images of any size and number of classes, for tests and rehearsals.

A class is a colour and the direction of a stripe pattern; phase and noise differ from image to image. Image `i` of a
split is the same on every machine and in every run.
"""

import colorsys
import dataclasses
import functools
import math

import numpy as np

from nofrost_jax.data.sources import Listed, Source

_KEY = {"train": 0, "evaluation": 1}
_NOISE = 24  # Half width of the uniform pixel noise, of 255.
_STRIPE = 40.0  # Amplitude of the pattern, of 255.


@dataclasses.dataclass(frozen=True)
class Fake(Listed):
    """A split of `len(labels)` images of `shape` (height, width); labels run 0, 1, .., num_classes - 1, 0, ..."""

    name: str
    shape: tuple[int, int]
    labels: np.ndarray
    num_classes: int
    images = None

    def load(self, index: int) -> np.ndarray:
        """uint8 [height, width, 3]."""
        bits = np.random.Philox(key=[2022, _KEY[self.name]], counter=[0, 0, 0, index])
        rng = np.random.Generator(bits)
        label, (height, width) = int(self.labels[index]), self.shape
        # Multiples of the golden ratio spread any number of hues and directions evenly.
        turn = (label * 0.618033988749895) % 1.0
        colour = 255 * np.array(colorsys.hsv_to_rgb(turn, 0.6, 0.6), np.float32)
        angle, waves = math.pi * turn, 2 + label % 3
        y = np.arange(height, dtype=np.float32)[:, None] * (math.sin(angle) / height)
        x = np.arange(width, dtype=np.float32)[None, :] * (math.cos(angle) / width)
        stripes = _STRIPE * np.sin(2 * math.pi * (waves * (x + y) + rng.random(dtype=np.float32)))
        noise = rng.integers(-_NOISE, _NOISE + 1, (height, width, 3), dtype=np.int8)
        return np.clip(colour + stripes[..., None] + noise, 0, 255).astype(np.uint8)

    def where(self, index: int) -> str:
        """Split and position."""
        return f"fake {self.name} image {index}"


def open_source(num_train: int, num_eval: int, size: int, num_classes: int, larger: bool) -> Source:
    """Images of `num_classes` classes and `size` pixels a side. larger: training images are larger and oblong,
    so that cropping is rehearsed too."""
    shapes = {"train": (size + size // 4, size + size // 3) if larger else (size, size), "evaluation": (size, size)}
    counts = {"train": num_train, "evaluation": num_eval}

    def split(name: str) -> Fake:
        return Fake(name, shapes[name], np.arange(counts[name], dtype=np.int32) % num_classes, num_classes)

    return Source(num_classes, functools.partial(split, "train"), functools.partial(split, "evaluation"), fitted=True)
