"""A piece of a long, narrow image after Pillow's bilinear resize, without the rest of it.

A strip of 1 x 1,000 pixels whose short side is made 256 becomes 256 x 256,000, and only its centre is needed. Here the
same arithmetic, to the last bit, is done along the long side for the needed pixels alone; Pillow's own `resize(box=)`
differs by a level of 255. Only for images that grow: one that shrinks takes no more memory than before, and Pillow may
then begin with the columns.
"""

import numpy as np
from PIL import Image

LONGEST = 8  # times its short side: an image that grows longer than that is made in part
_BITS = 22  # of Pillow's fixed-point weights


def resized_piece(picture: Image.Image, height: int, width: int, top: int, left: int, size: int) -> Image.Image:
    """The square of `size` at (top, left) of an RGB picture as `resize((width, height), BILINEAR)` would make it."""
    across = Image.Resampling.BILINEAR
    if height >= width:  # Pillow resizes each row by itself first, then each column
        first, weights = _taps(picture.height, height, top, size)
        rows = range(int(first[0]), int(first[-1]) + weights.shape[1])
        part = picture.crop((0, rows.start, picture.width, min(rows.stop, picture.height)))
        pixels = np.asarray(part.resize((width, part.height), across))[:, left : left + size]
        return Image.fromarray(_summed(pixels, first - rows.start, weights))
    first, weights = _taps(picture.width, width, left, size)
    columns = range(int(first[0]), int(first[-1]) + weights.shape[1])
    part = picture.crop((columns.start, 0, min(columns.stop, picture.width), picture.height))
    pixels = _summed(np.asarray(part).swapaxes(0, 1), first - columns.start, weights).swapaxes(0, 1)
    whole = Image.fromarray(np.ascontiguousarray(pixels)).resize((size, height), across)
    return whole.crop((0, top, size, top + size))


def _taps(before: int, after: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """How Pillow makes pixels `start` to `start + count` of `after` from `before`: first pixel int [count], weights
    int64 [count, k] of it and the next ones. The order of operations is Pillow's (`precompute_coeffs`)."""
    scale = before / after
    support = max(scale, 1.0)
    center = (np.arange(start, start + count) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(int), 0)
    end = np.minimum((center + support + 0.5).astype(int), before)
    places = first[:, None] + np.arange((end - first).max())
    distance = np.abs((places - center[:, None] + 0.5) * (1.0 / support))
    weights = np.where((distance < 1) & (places < end[:, None]), 1.0 - distance, 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # summed from left to right
    return first, (0.5 + weights * (1 << _BITS)).astype(np.int64)


def _summed(pixels: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """uint8 [n, m, 3] -> [count, m, 3]."""
    total = np.full((len(first), *pixels.shape[1:]), 1 << (_BITS - 1), np.int64)
    for tap in range(weights.shape[1]):
        rows = np.minimum(first + tap, len(pixels) - 1)  # beyond the end the weight is zero
        total += weights[:, tap, None, None] * pixels[rows]
    return np.clip(total >> _BITS, 0, 255).astype(np.uint8)
