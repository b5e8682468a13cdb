"""Noise: gaussian_noise, shot_noise and impulse_noise. No lengths, any side."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from nofrost_jax.corruptions.base import Arrays, Corruption, bits, normal, plain, to_uint8, uniform, unit
from nofrost_jax.corruptions.constants import scaled

_LEVELS = 63  # of shot noise, at most: 60 photons and what six steps of a binary search can reach


def _normals(key: Array, side: int, arrays: Arrays) -> Array:
    return normal(key, (side, side, 3))


def _uniforms(key: Array, side: int, arrays: Arrays) -> Array:
    return uniform(key, (side, side, 3))


def _words(key: Array, side: int, arrays: Arrays) -> Array:
    return bits(key, (side, side, 3))


def gaussian(image: Array, draws: Any, arrays: Arrays) -> Array:
    """x + N(0, deviation) in every element."""
    return to_uint8(unit(image) + draws * arrays["deviation"])


def impulse(image: Array, draws: Any, arrays: Arrays) -> Array:
    """Every element by itself is replaced with probability `amount`, half of the time by 255, half by 0."""
    amount = arrays["amount"]
    return jnp.where(draws < amount / 2, 255, jnp.where(draws < amount, 0, image)).astype(jnp.uint8)


def _prepare_shot(severity: int, side: int) -> dict[str, np.ndarray]:
    """thresholds uint32 [256 * 64]: for each value x, the last word that means k photons; levels uint8 [64]: of k."""
    photons = scaled("shot_noise", severity, side)["photons"]
    rate = np.arange(256)[:, None] / 255 * photons
    count = np.arange(_LEVELS)
    log_factorial = np.array([math.lgamma(k + 1) for k in count])
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 log 0 = 0: no photons of a black pixel
        powers = np.where(count == 0, 0.0, count * np.log(rate))
    cumulative = np.minimum(np.cumsum(np.exp(powers - rate - log_factorial), axis=1), 1.0)
    thresholds = np.clip(np.ceil(cumulative * 2**32) - 1, 0, 2**32 - 1).astype(np.uint32)
    levels = (np.clip(np.arange(_LEVELS + 1) / photons, 0, 1) * 255).astype(np.uint8)
    return {"thresholds": np.pad(thresholds, ((0, 0), (0, 1)), mode="edge").reshape(-1), "levels": levels}


def shot(image: Array, draws: Any, arrays: Arrays) -> Array:
    """Poisson(x L) / L by inversion of the distribution function: exact to 2**-32.

    There are 256 distributions, one for each byte, and more than L photons are white, so a table of at most 61 counts
    each is enough. (`jax.random.poisson` takes a hundred times longer.)
    """
    start = image.astype(jnp.int32) * (_LEVELS + 1)
    count = jnp.zeros(image.shape, jnp.int32)
    for step in (32, 16, 8, 4, 2, 1):
        count = jnp.where(draws > arrays["thresholds"][start + count + step - 1], count + step, count)
    return arrays["levels"][count]


TABLE = {
    "gaussian_noise": Corruption(plain("gaussian_noise"), _normals, gaussian),
    "shot_noise": Corruption(_prepare_shot, _words, shot),
    "impulse_noise": Corruption(plain("impulse_noise"), _uniforms, impulse),
}
