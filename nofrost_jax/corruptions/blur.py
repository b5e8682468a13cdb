"""Blur: defocus_blur, glass_blur, motion_blur and zoom_blur."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from nofrost_jax.corruptions.base import SLACK, Arrays, Corruption, nothing, to_uint8, uniform, unit
from nofrost_jax.corruptions.constants import PUBLISHED, SEVERITIES, SIDE, published, scaled
from nofrost_jax.corruptions.kernels import both_axes, gaussian_matrix, motion, motion_weights, zoom_matrix


def largest(name: str, constant: str, side: int) -> float:
    """The greatest value of a constant over the five severities at this side; shapes depend on it."""
    return max(scaled(name, severity, side)[constant] for severity in SEVERITIES)


# defocus_blur


def disk(radius: float, alias_sigma: float) -> np.ndarray:
    """The published kernel at side 224, float64 [n, n]: a disk, then a small Gaussian against its jagged edge."""
    half, reach = (8, 1) if radius <= 8 else (radius, 2)
    place = np.arange(-half, half + 1)
    kernel = (place**2 + place[:, None] ** 2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / alias_sigma) ** 2)
    taps /= taps.sum()
    for _ in range(2):
        padded = np.pad(kernel, ((reach, reach), (0, 0)), mode="reflect")
        kernel = sum(tap * padded[start : start + len(kernel)] for start, tap in enumerate(taps)).T
    return kernel


def _prepare_defocus(severity: int, side: int) -> dict[str, np.ndarray]:
    """The kernel's Fourier transform.

    Away from 224 the taps move by side / 224 and are shared among the nearest pixels, so that the blur grows with the
    severity at any side: a disk on the smaller grid would have no radius between 0 and 1.
    """
    kernel = disk(**published("defocus_blur", severity))
    half, scale, size, reach = len(kernel) // 2, side / SIDE, _transform_size(side), _defocus_reach(side)
    taps, place = np.arange(-half, half + 1) * scale, np.arange(-reach, reach + 1)
    share = np.clip(1 - abs(place[:, None] - taps) / max(1.0, scale), 0, None)
    share /= share.sum(0)
    centred = np.zeros((size, size))
    centred[: 2 * reach + 1, : 2 * reach + 1] = share @ kernel @ share.T
    return {"transform": np.fft.rfft2(np.roll(centred, (-reach, -reach), (0, 1))).astype(np.complex64)}


def _defocus_reach(side: int) -> int:
    """Pixels from a kernel's centre to its edge, the same for all severities."""
    return math.ceil(max(PUBLISHED["defocus_blur"]["radius"]) * side / SIDE)


def _transform_size(side: int) -> int:
    """The padded image's side, rounded up to a product of small factors, for fast Fourier transforms."""
    sizes = (2**two * 3**three * 5**five for two in range(14) for three in range(3) for five in range(3))
    return min(size for size in sizes if size >= side + 2 * _defocus_reach(side))


def defocus(image: Array, draws: Any, arrays: Arrays) -> Array:
    """Correlation with the symmetric kernel, the border mirrored (the edge pixel not repeated)."""
    side = image.shape[0]
    reach, size = _defocus_reach(side), _transform_size(side)
    padded = jnp.pad(unit(image), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    spectrum = jnp.fft.rfft2(jnp.moveaxis(padded, -1, 0), (size, size)) * arrays["transform"]
    blurred = jnp.fft.irfft2(spectrum, (size, size))[:, reach : reach + side, reach : reach + side]
    # The published float32 kernels of severities 1 to 3 sum to just less than 1: flat areas do lose a level.
    return to_uint8(jnp.moveaxis(blurred, 0, -1), -SLACK)


# glass_blur

_ITERATIONS = int(max(PUBLISHED["glass_blur"]["iterations"]))


def _prepare_glass(severity: int, side: int) -> dict[str, np.ndarray]:
    constants = scaled("glass_blur", severity, side)
    whole = {name: np.array(constants[name], np.int32) for name in ("reach", "iterations")}
    return {"matrix": gaussian_matrix(side, constants["sigma"]).astype(np.float32), **whole}


def _draw_glass(key: Array, side: int, arrays: Arrays) -> Array:
    """Offsets (dx, dy), int32 [iterations, side, side, 2], uniform in -reach..reach - 1."""
    reach = arrays["reach"]
    return jnp.floor(uniform(key, (_ITERATIONS, side, side, 2)) * (2 * reach)).astype(jnp.int32) - reach


def scatter(image: Array, offsets: Array, reach: int | Array) -> Array:
    """One pass of glass_blur over an image [side, side, C]: pixels take the value of a pixel near by, in place.

    The original visits rows and columns from side - reach down to reach + 1, so that a value already replaced may be
    taken again. Here every pixel points to the pixel that it copies. If that one is visited earlier, it has its own
    pointer; the chains are followed by doubling.
    """
    side = image.shape[0]
    row, column = jnp.indices((side, side))

    def visited(y, x):
        return (jnp.minimum(y, x) > reach) & (jnp.maximum(y, x) <= side - reach)

    here = row * side + column
    y, x = row + offsets[..., 1], column + offsets[..., 0]
    source = jnp.where(visited(row, column), y * side + x, here).reshape(-1)
    earlier = (source > here.reshape(-1)) & visited(source // side, source % side)
    follow = jnp.where(earlier, source, here.reshape(-1))

    def step(state):
        before = state[0]
        return before[before], before

    root, _ = lax.while_loop(lambda state: jnp.any(state[0] != state[1]), step, (follow[follow], follow))
    return image.reshape(side * side, -1)[source[root]].reshape(image.shape)


def glass(image: Array, draws: Any, arrays: Arrays) -> Array:
    """A Gaussian to 8 bits, pixels scattered `iterations` times, the Gaussian again."""
    image = to_uint8(both_axes(arrays["matrix"], unit(image)))
    scattered = lax.fori_loop(
        0, arrays["iterations"], lambda i, image: scatter(image, draws[i], arrays["reach"]), image
    )
    return to_uint8(both_axes(arrays["matrix"], unit(scattered)))


# motion_blur


def _prepare_motion(severity: int, side: int) -> dict[str, np.ndarray]:
    reach = int(2 * largest("motion_blur", "radius", side))
    return motion_weights(**scaled("motion_blur", severity, side), reach=reach)


def motion_blur(image: Array, angle: Array, arrays: Arrays) -> Array:
    """ImageMagick's motion blur at a random angle."""
    reach = len(arrays["weights"]) - 1
    return motion(image.astype(jnp.float32), angle, arrays["weights"], arrays["count"], reach).astype(jnp.uint8)


# zoom_blur


def zoom_factors(severity: int) -> np.ndarray:
    """The published factors; the first severity's include 1.11 by a rounding error of `arange`."""
    constants = published("zoom_blur", severity)
    return np.arange(1, constants["stop"], constants["step"])


_FACTORS = max(len(zoom_factors(severity)) for severity in SEVERITIES)


def _prepare_zoom(severity: int, side: int) -> dict[str, np.ndarray]:
    factors = zoom_factors(severity)
    matrices = np.zeros((_FACTORS, side, side), np.float32)
    matrices[: len(factors)] = [zoom_matrix(side, factor) for factor in factors]
    return {"matrices": matrices, "count": np.array(len(factors), np.int32)}


def zoom(image: Array, draws: Any, arrays: Arrays) -> Array:
    """The mean of the image and of its enlargements by all factors, the first of which is 1."""
    x = unit(image)

    def add(i, total):
        return total + both_axes(arrays["matrices"][i], x)

    total = lax.fori_loop(0, arrays["count"], add, x)
    return to_uint8(total / (arrays["count"] + 1))


TABLE = {
    "defocus_blur": Corruption(_prepare_defocus, nothing, defocus),
    "glass_blur": Corruption(_prepare_glass, _draw_glass, glass),
    "motion_blur": Corruption(_prepare_motion, lambda key, side, arrays: uniform(key, (), -45.0, 45.0), motion_blur),
    "zoom_blur": Corruption(_prepare_zoom, nothing, zoom),
}


def vanishes(name: str, severity: int, side: int) -> bool:
    """Whether a blur changes no value by more than one level of 255, because its weight is in the centre."""
    if name == "defocus_blur":
        centre = np.fft.irfft2(_prepare_defocus(severity, side)["transform"])[0, 0]
    elif name == "motion_blur":
        centre = _prepare_motion(severity, side)["weights"][0]
    else:
        return False
    return bool(centre > 1 - 1 / 255)
