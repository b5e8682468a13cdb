"""spatter, of the extra ones: drops of water with lit rims (severities 1 to 3) or stains of mud (4 and 5).

The rims are OpenCV's Canny edges, their chamfer distance, histogram equalization and an embossing kernel, all of them
in the integers that OpenCV uses. Drawn at 224 x 224, then fitted to the image.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax

from nofrost_jax.corruptions.base import Corruption, normal, to_uint8, unit
from nofrost_jax.corruptions.constants import SIDE, published
from nofrost_jax.corruptions.kernels import both_axes, gaussian_matrix
from nofrost_jax.corruptions.weather import fitted

_LOW, _HIGH = 50, 150  # Canny's thresholds
_TAN = 13573  # tan(22.5 degrees) in 32768ths
_FAR = 20  # pixels; greater distances count as this
_MOVES = ((1, 0, 65536), (1, 1, 91750), (1, 2, 143976))  # rows, columns, length in 65536ths: 1, 1.4 and 2.1969
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
_COLOURS = ((175, 238, 238), (63, 42, 20))  # pale turquoise, brown
_MUD_BLUR = 1.5


def _prepare(severity, side):
    constants = published("spatter", severity)
    values = {name: np.float32(constants[name]) for name in ("mean", "deviation", "threshold", "strength")}
    matrix = gaussian_matrix(SIDE, constants["sigma"]).astype(np.float32)
    return {**values, "matrix": matrix, "mud": np.bool_(constants["mud"])}


def _neighbours(image, mode):
    """{(rows, columns): `image` [n, n] as seen so far down and to the right} for -1, 0, 1; mode: as numpy.pad."""
    padded, side, places = jnp.pad(image, 1, mode=mode), len(image), (-1, 0, 1)
    return {(y, x): padded[1 + y : 1 + y + side, 1 + x : 1 + x + side] for y in places for x in places}


def _window(image, kernel, mode):
    """Correlation with a 3 x 3 kernel."""
    weights = {(y - 1, x - 1): weight for y, row in enumerate(kernel) for x, weight in enumerate(row)}
    near = _neighbours(image, mode)
    return lax.optimization_barrier(sum(weights[place] * near[place] for place in near if weights[place]))


def canny(image):
    """Edges of int32 [n, n] with values of bytes: bool [n, n]."""
    dx = _window(image, ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), "edge")
    dy = _window(image, ((-1, -2, -1), (0, 0, 0), (1, 2, 1)), "edge")
    size = abs(dx) + abs(dy)
    near = _neighbours(size, "constant")

    steep, flat = abs(dy) << 15, abs(dx) * _TAN
    level = (size > near[0, -1]) & (size >= near[0, 1])
    upright = (size > near[-1, 0]) & (size >= near[1, 0])
    falling = (size > near[-1, -1]) & (size > near[1, 1])
    rising = (size > near[-1, 1]) & (size > near[1, -1])
    slanted = jnp.where((dx ^ dy) < 0, rising, falling)
    ridge = jnp.where(steep < flat, level, jnp.where(steep > flat + (abs(dx) << 16), upright, slanted))
    weak, strong = ridge & (size > _LOW), ridge & (size > _HIGH)

    def grow(state):
        found = state[0]
        return functools.reduce(jnp.logical_or, _neighbours(found, "constant").values()) & weak, found

    return lax.while_loop(lambda state: jnp.any(state[0] != state[1]), grow, (strong, jnp.zeros_like(strong)))[0]


def distance(edges):
    """Length of the shortest way to an edge by moves of a 5 x 5 mask, at most 20: float32 [n, n], in pixels."""
    far = _FAR << 16
    moves = {
        (a * up, b * left, length)
        for rows, columns, length in _MOVES
        for a, b in ((rows, columns), (columns, rows))
        for up in (-1, 1)
        for left in (-1, 1)
    }

    def relax(_, found):
        padded = jnp.pad(found, 2, constant_values=far)
        ways = [
            padded[2 + rows : 2 + rows + found.shape[0], 2 + columns : 2 + columns + found.shape[1]] + length
            for rows, columns, length in sorted(moves)
        ]
        return functools.reduce(jnp.minimum, ways, found)

    return lax.fori_loop(0, _FAR, relax, jnp.where(edges, 0, far)).astype(jnp.float32) / 65536


def equalized(image):
    """Histogram equalization of int32 [n, n] in 0..20, to 0..255."""
    count = jnp.sum(image[..., None] == jnp.arange(_FAR + 1), (0, 1))
    total = jnp.cumsum(count)
    first = count[jnp.argmax(count > 0)]
    table = jnp.round((total - first) * (255.0 / jnp.maximum(image.size - first, 1)))
    return jnp.where(first == image.size, image, table[image].astype(jnp.int32))


def water(liquid, arrays):
    """Drops that are brightest at one side of their rims: float32 [224, 224] in [0, strength]."""
    liquid = (liquid * 255).astype(jnp.int32)
    ones = ((1, 1, 1),) * 3
    rim = equalized((_window(distance(canny(liquid)), ones, "reflect") / 9).astype(jnp.int32))
    rim = jnp.clip(_window(rim, _EMBOSS, "reflect"), 0, 255)
    drops = liquid * jnp.round(_window(rim, ones, "reflect") / 9)
    return drops / jnp.maximum(drops.max(), 1) * arrays["strength"]


def mud(liquid, arrays):
    """Opaque stains with slightly soft edges: float32 [224, 224] in [0, 1]."""
    stain = (liquid > arrays["threshold"]).astype(jnp.float32)
    stain = both_axes(jnp.asarray(gaussian_matrix(SIDE, _MUD_BLUR), jnp.float32), stain)
    return jnp.where(stain < 0.8, 0.0, stain)


def layer(field, arrays):
    """How much of a stain lies on every place, float32 [224, 224], from a standard normal field."""
    liquid = both_axes(arrays["matrix"], arrays["mean"] + arrays["deviation"] * field)
    liquid = jnp.where(liquid < arrays["threshold"], 0.0, liquid)
    return lax.cond(arrays["mud"], mud, water, liquid, arrays)


def spatter(image, field, arrays):
    """Water adds its colour, mud replaces the image's."""
    stain = fitted(layer(field, arrays), len(image))[..., None]
    colour = jnp.where(arrays["mud"], jnp.array(_COLOURS[1]), jnp.array(_COLOURS[0])) / 255
    return to_uint8(unit(image) * (1 - arrays["mud"] * stain) + colour * stain)


TABLE = {"spatter": Corruption(_prepare, lambda key, side, arrays: normal(key, (SIDE, SIDE)), spatter)}
