"""One image under every corruption, as a picture with labels."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nofrost_jax.corruptions import JPEG_QUALITY, NAMES, corrupt

_COLUMNS = 4
_LABEL, _GAP = 20, 4  # pixels
_LEAST_CELL = 160


def grid(
    image: np.ndarray, severity: int, seed: int = 0, textures=None, jpeg_quality: int = JPEG_QUALITY
) -> Image.Image:
    """The image itself, the 15 corruptions in mCE order.

    Args:
      image: uint8 [side, side, 3]; small ones are shown with magnified pixels.
      severity, seed, textures, jpeg_quality: see `corruptions.corrupt`.
    """
    panes, options = [("clean", image)], {"textures": textures, "jpeg_quality": jpeg_quality}
    for name in NAMES:
        panes.append((name, corrupt(image[None], name, severity, np.zeros(1, int), seed, **options)[0]))
    cell = len(image) * math.ceil(_LEAST_CELL / len(image))
    rows = math.ceil(len(panes) / _COLUMNS)
    size = (_COLUMNS * (cell + _GAP) + _GAP, rows * (cell + _LABEL + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    brush, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, (name, pane) in enumerate(panes):
        left = _GAP + place % _COLUMNS * (cell + _GAP)
        top = _GAP + place // _COLUMNS * (cell + _LABEL + _GAP)
        brush.text((left, top), name if name == "clean" else f"{name} {severity}", "black", font)
        sheet.paste(Image.fromarray(pane).resize((cell, cell), Image.Resampling.NEAREST), (left, top + _LABEL))
    return sheet
