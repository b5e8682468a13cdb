"""Image files that are there whole or not at all, so that a command that writes many can go on after a kill."""

import os
import uuid

import numpy as np
from PIL import Image

from nofrost_jax.errors import UserError


def save(path: str | os.PathLike, pixels: np.ndarray, kind: str, **options) -> None:
    """Writes uint8 [h, w, 3] as a file of the kind "JPEG" or "PNG", with Pillow's options of it, and its folders.

    Raises:
      UserError: it cannot be written.
    """
    head, tail = os.path.split(path)
    part = os.path.join(head, f".{tail}.{uuid.uuid4().hex}.part")  # hidden: no reader of a folder takes it for an image
    try:
        os.makedirs(head, exist_ok=True)
        Image.fromarray(pixels).save(part, kind, **options)
        os.replace(part, path)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot write ({why}); {path}; make room or choose another --output") from error
