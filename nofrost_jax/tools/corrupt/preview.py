"""One image under every corruption, as a picture with labels."""

import functools
import math

import numpy as np
from PIL import Image

from nofrost_jax import picture_grid
from nofrost_jax.corruptions import JPEG_QUALITY, NAMES, corrupt

_COLUMNS = 4
_LEAST_CELL = 160  # pixels


def grid(
    image: np.ndarray, severity: int, seed: int = 0, textures: str | None = None, jpeg_quality: int = JPEG_QUALITY
) -> Image.Image:
    """The image and the 15 corruptions in mCE order. image: uint8 [side, side, 3]; small ones are magnified. For the
    rest see `corruptions.corrupt`."""
    made = functools.partial(corrupt, textures=textures, jpeg_quality=jpeg_quality)
    cells = [picture_grid.Cell(image, "clean")]
    for name in NAMES:
        corrupted = made(image[None], name, severity, np.zeros(1, int), seed)[0]
        cells.append(picture_grid.Cell(corrupted, f"{name} {severity}"))
    rows = [cells[first : first + _COLUMNS] for first in range(0, len(cells), _COLUMNS)]
    return picture_grid.draw(rows, len(image) * math.ceil(_LEAST_CELL / len(image)))
