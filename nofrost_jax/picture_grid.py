"""Images side by side in one picture, for the eye. Pillow only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, GOOD, BAD = (30, 30, 30), (255, 255, 255), (20, 110, 50), (180, 30, 30)
_GAP = 8  # pixels


class Cell(NamedTuple):
    """An image, uint8 [h, w, 3], with a text below it."""

    pixels: np.ndarray
    label: str = ""
    ink: tuple[int, int, int] = INK


def draw(rows: Sequence[Sequence[Cell]], side: int, title: str = "", names: Sequence[str] = ()) -> Image.Image:
    """Rows of images, all drawn as large as the first, whose longer side gets `side` pixels; names: of the rows, to
    their left. Small images keep their pixels, as squares."""
    height, width = rows[0][0].pixels.shape[:2]
    width, height = (max(1, round(length * side / max(height, width))) for length in (width, height))
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    labels = _fitting([cell.label for row in rows for cell in row], width)
    left = _GAP + max((int(small.getlength(name)) + 2 * _GAP for name in names), default=0)
    steps = [height + _GAP + (labels.size + _GAP) * any(cell.label for cell in row) for row in rows]
    top = _GAP + 28 * bool(title)
    whole = max(left + max(map(len, rows)) * (width + _GAP), int(font.getlength(title)) + 2 * _GAP)
    picture = Image.new("RGB", (whole, top + sum(steps)), PAPER)
    brush = ImageDraw.Draw(picture)
    brush.text((_GAP, _GAP), title, INK, font=font)
    for name, row, step in zip(names or [""] * len(rows), rows, steps, strict=True):
        brush.text((_GAP, top + height // 2), name, INK, font=small, anchor="lm")
        for column, cell in enumerate(row):
            place = left + column * (width + _GAP)
            pixels = Image.fromarray(np.asarray(cell.pixels))
            resampling = Image.Resampling.NEAREST if width >= pixels.width else Image.Resampling.LANCZOS
            picture.paste(pixels.resize((width, height), resampling), (place, top))
            brush.text((place + width // 2, top + height + 3), cell.label, cell.ink, font=labels, anchor="mt")
        top += step
    return picture


def _fitting(texts, width):
    """The font, up to 13 pixels, in which all texts are within a cell's width."""
    fonts = (ImageFont.load_default(size) for size in range(13, 7, -1))
    return next((font for font in fonts if max(map(font.getlength, texts)) <= width), ImageFont.load_default(8))
