"""Weather: snow, frost, fog and brightness.

Layers are drawn at 224 x 224 whatever the image's side, then fitted to it: the same weather at another resolution.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from nofrost_jax.corruptions.base import Arrays, Corruption, normal, nothing, plain, to_uint8, uniform, unit
from nofrost_jax.corruptions.constants import PUBLISHED, SIDE, published
from nofrost_jax.corruptions.kernels import both_axes, fit_matrix, motion, motion_weights, zoom_matrix


def fitted(layer: Array, side: int) -> Array:
    """float32 [224, 224] -> [side, side]."""
    return layer if side == SIDE else both_axes(jnp.asarray(fit_matrix(SIDE, side), jnp.float32), layer)


# snow

_REACH = int(2 * max(PUBLISHED["snow"]["radius"]))
_GREY = (0.299, 0.587, 0.114)


def _prepare_snow(severity: int, side: int) -> dict[str, np.ndarray]:
    constants = published("snow", severity)
    values = {
        name: np.array(constants[name], np.float32) for name in ("mean", "deviation", "threshold", "image_weight")
    }
    matrix = zoom_matrix(SIDE, constants["zoom"]).astype(np.float32)
    return {**values, "zoom": matrix, **motion_weights(constants["radius"], constants["sigma"], _REACH)}


def _draw_snow(key: Array, side: int, arrays: Arrays) -> tuple[Array, Array]:
    """(standard normal field [224, 224], angle in degrees)."""
    return normal(key, (SIDE, SIDE)), uniform(key, (), -135.0, -45.0)


def snow_layer(field: Array, angle: Array, arrays: Arrays) -> Array:
    """Flakes before they are fitted to the image: float32 [224, 224] in [0, 1], in steps of 1 / 255."""
    flakes = both_axes(arrays["zoom"], arrays["mean"] + arrays["deviation"] * field)
    flakes = to_uint8(jnp.where(flakes < arrays["threshold"], 0.0, flakes)).astype(jnp.float32)
    return motion(flakes[..., None], angle, arrays["weights"], arrays["count"], _REACH)[..., 0] / 255.0


def snow(image: Array, draws: Any, arrays: Arrays) -> Array:
    """A whitened image, and flakes on it twice, the second time turned by 180 degrees."""
    x, weight, (field, angle) = unit(image), arrays["image_weight"], draws
    layer = fitted(snow_layer(field, angle, arrays), len(image))[..., None]
    grey = jnp.sum(x * jnp.array(_GREY), -1, keepdims=True)
    x = weight * x + (1 - weight) * jnp.maximum(x, grey * 1.5 + 0.5)
    return to_uint8(x + layer + layer[::-1, ::-1])


# frost


def _prepare_frost(severity: int, side: int) -> dict[str, np.ndarray]:
    """table uint8 [256 * 256]: (value of the image, value of the ice) -> result, in float64 as the original."""
    constants, value = published("frost", severity), np.arange(256.0)
    mixed = constants["image_weight"] * value[:, None] + constants["frost_weight"] * value
    return {"table": np.clip(mixed, 0, 255).astype(np.uint8).reshape(-1)}


def _draw_frost(key: Array, side: int, arrays: Arrays) -> Array:
    """(which texture, row, column) of a window of 224 pixels, all uniform, int32 [3]."""
    which, down, right = uniform(key, (3,))
    which = jnp.floor(which * len(arrays["sizes"])).astype(jnp.int32)
    room = arrays["sizes"][which] - SIDE
    return jnp.concatenate([which[None], jnp.floor(jnp.stack([down, right]) * room).astype(jnp.int32)])


def frost(image: Array, window: Array, arrays: Arrays) -> Array:
    """Image and ice, weighted and added."""
    side = len(image)
    which, row, column = window
    ice = lax.dynamic_slice(arrays["textures"], (which, row, column, 0), (1, SIDE, SIDE, 3))[0]
    if side != SIDE:
        ice = jnp.stack([fitted(ice[..., channel].astype(jnp.float32), side) for channel in range(3)], -1)
    return arrays["table"][image.astype(jnp.int32) * 256 + jnp.round(ice).astype(jnp.int32)]


# fog

_PLASMA = 256
_LEVELS = 8


def _draw_fog(key: Array, side: int, arrays: Arrays) -> Array:
    """Uniform in [-1, 1): one number for every place of the plasma but the first, float32 [65535]."""
    return uniform(key, (_PLASMA**2 - 1,), -1.0, 1.0)


def plasma(draws: Any, decay: float | Array) -> Array:
    """Diamond-square noise that wraps around (Fournier, Fussell and Carpenter, 1982): float32 [256, 256] in [0, 1].

    Level by level the known places move apart: each gains a centre, from its four corners, and two edges, from two
    corners and two centres. The amplitude enters squared, as in the original.
    """
    known, amplitude, used = jnp.zeros((1, 1)), 100.0, 0
    for level in range(_LEVELS):
        side = 2**level
        noise = draws[used : used + 3 * side**2].reshape(3, side, side) * amplitude**2
        used, amplitude = used + 3 * side**2, amplitude / decay
        right, below = jnp.roll(known, -1, 1), jnp.roll(known, -1, 0)
        centre = (known + right + below + jnp.roll(right, -1, 0)) / 4 + noise[0]
        top = (known + right + centre + jnp.roll(centre, 1, 0)) / 4 + noise[1]
        left = (known + below + centre + jnp.roll(centre, 1, 1)) / 4 + noise[2]
        rows = [jnp.stack(pair, -1).reshape(side, 2 * side) for pair in ((known, top), (left, centre))]
        known = lax.optimization_barrier(jnp.stack(rows, 1).reshape(2 * side, 2 * side))
    known = known - known.min()
    return known / known.max()


def fog(image: Array, draws: Any, arrays: Arrays) -> Array:
    """Plasma added, then darkened so that the brightest value can stay."""
    x, strength = unit(image), arrays["strength"]
    brightest = x.max()
    x = x + strength * fitted(plasma(draws, arrays["decay"])[:SIDE, :SIDE], len(image))[..., None]
    return to_uint8(x * brightest / (brightest + strength))


# brightness


def _prepare_brightness(severity: int, side: int) -> dict[str, np.ndarray]:
    """table uint8 [256 * 256]: (value V of the pixel, a channel of it) -> that channel, in float64 as the original.

    In HSV a channel is V (1 - S t), and neither hue nor saturation changes, so it is proportional to V.
    """
    value = np.arange(256)[:, None] / 255
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(value > 0, (value - np.arange(256) / 255) / value, 0.0)
    brighter = np.clip(value + published("brightness", severity)["shift"], 0, 1) * (1 - lost)
    return {"table": (np.clip(brighter, 0, 1) * 255).astype(np.uint8).reshape(-1)}


def brightness(image: Array, draws: Any, arrays: Arrays) -> Array:
    """The value of HSV raised."""
    image = image.astype(jnp.int32)
    return arrays["table"][image.max(-1, keepdims=True) * 256 + image]


TABLE = {
    "snow": Corruption(_prepare_snow, _draw_snow, snow),
    "frost": Corruption(_prepare_frost, _draw_frost, frost),
    "fog": Corruption(plain("fog"), _draw_fog, fog),
    "brightness": Corruption(_prepare_brightness, nothing, brightness),
}
