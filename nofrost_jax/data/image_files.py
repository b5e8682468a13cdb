"""Writes image files atomically, so that a command that writes many can continue after a kill."""

import os

import numpy as np
from PIL import Image

from nofrost_jax import files
from nofrost_jax.errors import UserError


def save(path: str | os.PathLike, pixels: np.ndarray, kind: str, **options) -> None:
    """Writes uint8 [h, w, 3] as a "JPEG" or "PNG" file with Pillow's options, and its folders. Raises UserError if it
    cannot be written."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with files.replacing(path, sync=False) as file:
            Image.fromarray(pixels).save(file, kind, **options)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot write ({why}); {path}; make room or choose another --output") from error
