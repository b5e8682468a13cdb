"""Digital: contrast, elastic_transform, pixelate and jpeg_compression."""

import concurrent.futures
import functools
import io
import os
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates
from PIL import Image

from nofrost_jax.corruptions.base import Arrays, Corruption, nothing, plain, to_uint8, uniform, unit
from nofrost_jax.corruptions.constants import SEVERITIES, SIDE, published, scaled
from nofrost_jax.corruptions.kernels import HIGHEST, both_axes, box_taps, gaussian_matrix
from nofrost_jax.corruptions.weather import fitted

# contrast


def contrast(image: Array, draws: Any, arrays: Arrays) -> Array:
    """Every channel drawn to its mean over the image."""
    mean = jnp.sum(image.astype(jnp.int32), (0, 1)).astype(jnp.float32) / image[..., 0].size
    return jnp.clip((image - mean) * arrays["factor"] + mean, 0, 255).astype(jnp.uint8)


# elastic_transform

_FIXED = 1024  # OpenCV's warps add coordinates in 1024ths of a pixel and keep 32nds


def _prepare_elastic(severity: int, side: int) -> dict[str, np.ndarray]:
    constants = scaled("elastic_transform", severity, side)
    matrix = gaussian_matrix(SIDE, constants["sigma"], 3.0, "symmetric").astype(np.float32)
    values = {name: np.array(constants[name], np.float32) for name in ("amplitude", "jitter")}
    return {**values, "matrix": matrix}


def _draw_elastic(key: Array, side: int, arrays: Arrays) -> tuple[Array, Array]:
    """(Displacements of three corners [3, 2], fields [2, 224, 224] of dx and dy), uniform in [-1, 1)."""
    numbers = uniform(key, (6 + 2 * SIDE * SIDE,), -1.0, 1.0)
    return numbers[:6].reshape(3, 2), numbers[6:].reshape(2, SIDE, SIDE)


def sample(image: Array, rows: Array, columns: Array, mode: str) -> Array:
    """Bilinear samples of float32 [H, W, C] at [H, W] places."""
    at = functools.partial(map_coordinates, coordinates=[rows, columns], order=1, mode=mode)
    return jax.vmap(at, in_axes=-1, out_axes=-1)(image)


def anchors(side: int) -> Array:
    """Three points (x, y) of the image, float32 [3, 2]: (186, 186), (186, 38) and (38, 38) at side 224."""
    low, high = side // 2 - side // 3, side // 2 + side // 3
    return jnp.array([[high, high], [high, low], [low, low]], jnp.float32)


def affine(image: Array, moved: Array) -> Array:
    """The affine map that takes the three `anchors` to `moved` [3, 2], in OpenCV's fixed point; mirrored border."""
    side = len(image)
    fixed = anchors(side)
    (a, b), (c, d) = moved[:2] - moved[2]
    inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    linear = jnp.matmul(inverse, fixed[:2] - fixed[2], precision=HIGHEST).T
    shift = fixed[2] - jnp.matmul(linear, moved[2], precision=HIGHEST)
    place = jnp.arange(side, dtype=jnp.float32)

    def coordinate(slope, other, start):
        along = jnp.round(slope * place * _FIXED).astype(int)
        across = jnp.round((other * place + start) * _FIXED).astype(int)
        return ((along + across[:, None] + 16) >> 5) / 32

    x, y = (coordinate(linear[i, 0], linear[i, 1], shift[i]) for i in (0, 1))
    return sample(image, y, x, "mirror")


def elastic(image: Array, draws: Any, arrays: Arrays) -> Array:
    """A random affine map, then a random smooth displacement; waves drawn at 224 and fitted, as the weather is."""
    corners, fields = draws
    side = len(image)
    x = affine(unit(image), anchors(side) + arrays["jitter"] * corners)
    dx, dy = (
        fitted(both_axes(arrays["matrix"], field) * arrays["amplitude"], side) * (side / SIDE) for field in fields
    )
    row, column = jnp.indices((side, side))
    return to_uint8(sample(x, row + dy, column + dx, "reflect"))


# pixelate


def _prepare_pixelate(severity: int, side: int) -> dict[str, np.ndarray]:
    """Pillow's way down and up again along one axis: up, every pixel copies one of the small image's."""
    small, *others = (max(1, int(side * published("pixelate", one)["factor"])) for one in (severity, *SEVERITIES))
    width = side // min(others) + 2
    sources, weights = box_taps(side, small, width)
    copied = box_taps(small, side, width)[0][:, 0]
    return {"sources": sources[copied], "weights": weights[copied]}


def pixelate(image: Array, draws: Any, arrays: Arrays) -> Array:
    """Pillow's BOX to a smaller side and back, in its fixed point: equal to the bit."""
    x = image.astype(jnp.int32)
    for axis in (1, 0):  # Pillow's order; 8 bits in between
        shape = [1, 1, 1]
        shape[axis] = -1
        x = sum(
            jnp.take(x, arrays["sources"][:, tap], axis) * arrays["weights"][:, tap].reshape(shape)
            for tap in range(arrays["weights"].shape[1])
        )
        x = jnp.clip((x + (1 << 21)) >> 22, 0, 255)
    return x.astype(jnp.uint8)


# jpeg_compression


def jpeg(images: Iterable[np.ndarray], quality: int, optimize: bool = False) -> np.ndarray:
    """Images uint8 [H, W, 3] after Pillow wrote them as JPEG (4:2:0) and read them again: uint8 [N, H, W, 3]. On the
    host, in threads, each as soon as `images` yields it."""

    def trip(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, optimize=optimize)
        return np.asarray(Image.open(file))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        return np.stack(list(threads.map(trip, images)))


TABLE = {
    "contrast": Corruption(plain("contrast"), nothing, contrast),
    "elastic_transform": Corruption(_prepare_elastic, _draw_elastic, elastic),
    "pixelate": Corruption(_prepare_pixelate, nothing, pixelate),
}
