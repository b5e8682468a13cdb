"""Matrices and weights of linear filters, made on the host in float64, and their application to one image."""

import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

HIGHEST = lax.Precision.HIGHEST


def gaussian_matrix(
    side: int, sigma: float, truncate: float = 4.0, mode: Literal["edge", "symmetric"] = "edge"
) -> np.ndarray:
    """A Gaussian filter along an axis, cut off at `truncate` deviations as scipy has it: float64 [side, side].

    mode: of the border, "edge" (the last pixel repeated) or "symmetric" (mirrored, the last pixel included).
    """
    radius = int(truncate * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    rows = np.pad(np.eye(side), ((radius, radius), (0, 0)), mode=mode)
    shifted = (tap * rows[start : start + side] for start, tap in enumerate(taps / taps.sum()))
    return sum(shifted, np.zeros((side, side)))


def zoom_matrix(side: int, factor: float) -> np.ndarray:
    """The original's clipped zoom along an axis, float64 [side, side].

    The central ceil(side / factor) pixels are enlarged linearly with their end points kept, the central `side` taken.
    """
    crop = math.ceil(side / factor)
    top, size = (side - crop) // 2, round(crop * factor)
    place = ((size - side) // 2 + np.arange(side)) * (crop - 1) / max(size - 1, 1)
    low = np.clip(np.floor(place).astype(int), 0, max(crop - 2, 0))
    matrix = np.zeros((side, side))
    matrix[np.arange(side), top + low] = 1 - (place - low)
    if crop > 1:
        matrix[np.arange(side), top + low + 1] += place - low
    return matrix


def fit_matrix(size: int, side: int) -> np.ndarray:
    """Resizes an axis from `size` to `side` samples: mean over the covered length, linear where it grows."""
    if side > size:
        place = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        return np.clip(1 - abs(place[:, None] - np.arange(size)), 0, None)
    edges = np.arange(side + 1) * size / side
    covered = np.minimum(edges[1:, None], np.arange(size) + 1) - np.maximum(edges[:-1, None], np.arange(size))
    return np.clip(covered, 0, None) * side / size


def box_taps(size: int, side: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pillow's BOX resize of an axis from `size` to `side` in its fixed point (22 bits).

    Returns (sources, weights), both int32 [side, width]; weights beyond an output's window are 0.
    """
    scale = size / side
    support = 0.5 * max(scale, 1.0)
    sources, weights = np.zeros((2, side, width), np.int32)
    for place in range(side):
        centre = (place + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
        offset = (np.arange(first, last) - centre + 0.5) / max(scale, 1.0)
        inside = ((offset > -0.5) & (offset <= 0.5)).astype(float)
        sources[place, : last - first] = np.arange(first, last)
        weights[place, : last - first] = (inside / inside.sum() * (1 << 22) + 0.5).astype(int)
    return sources, weights


def both_axes(matrix: Array | np.ndarray, image: Array) -> Array:
    """matrix @ channel @ matrix.T for every channel: float32 [n, n] or [n, n, C] with matrix [m, n] -> [m, m(, C)]."""
    tall = jnp.tensordot(matrix, image, 1, precision=HIGHEST)
    if image.ndim == 2:
        return jnp.matmul(tall, matrix.T, precision=HIGHEST)
    return jnp.einsum("yxc,zx->yzc", tall, matrix, precision=HIGHEST)


def motion(image: Array, angle: Array, weights: Array, count: int | Array, reach: int) -> Array:
    """ImageMagick's motion blur of float32 [H, W, C] in 0..255: a one-sided trail of pixels at whole positions.

    out[y, x] = sum over i < count of weights[i] * image[y + ceil(i sin - 1/2), x + ceil(i cos - 1/2)], the border
    repeated; rounded to 16 bits, then cut to the upper 8, as ImageMagick 6 writes it: whole numbers in float32.

    angle: degrees. weights: float32 [reach + 1], of which the first `count` are used.
    """
    step = jnp.arange(reach + 1)
    direction = jnp.deg2rad(angle)
    down, right = (jnp.ceil(step * way - 0.5).astype(int) + reach for way in (jnp.sin(direction), jnp.cos(direction)))
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")

    def add(i, total):
        return total + weights[i] * lax.dynamic_slice(padded, (down[i], right[i], 0), image.shape)

    return jnp.floor(lax.fori_loop(0, count, add, jnp.zeros_like(image)) + 0.5 / 257)


def motion_weights(radius: float, sigma: float, reach: int) -> dict[str, np.ndarray]:
    """{"weights": float32 [reach + 1], "count": how many count} for `motion`."""
    count = int(2 * radius + 1)
    weights = np.exp(-0.5 * (np.arange(count) / max(sigma, 1e-6)) ** 2)
    return {
        "weights": np.pad(weights / weights.sum(), (0, reach + 1 - count)).astype(np.float32),
        "count": np.array(count, np.int32),
    }
