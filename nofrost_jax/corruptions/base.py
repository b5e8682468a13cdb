"""What a corruption is, and the random numbers and the last step that they share."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import random as threefry

from nofrost_jax.corruptions.constants import scaled

Arrays = dict[str, Array]  # of `prepare`, on a device
SLACK = 1e-6  # a 4,000th of a level


@dataclasses.dataclass(frozen=True)
class Corruption:
    """Three functions; drawing and applying are separate so that both can be tested.

    prepare: (severity, side) -> {name: NumPy array}, on the host, of the same shapes for all severities, so that they
    share a compiled program. draw: (key, side, arrays) -> pytree of random arrays. apply: (image uint8 [side, side, 3],
    draws, arrays) -> uint8 [side, side, 3].
    """

    prepare: Callable
    draw: Callable
    apply: Callable


def plain(name: str) -> Callable:
    """`prepare` of a corruption whose constants need no preparation."""
    return lambda severity, side: {
        key: np.array(value, np.float32) for key, value in scaled(name, severity, side).items()
    }


def nothing(key: Array, side: int, arrays: Arrays) -> tuple[()]:
    """The draws of a corruption without chance."""
    return ()


def bits(key: Array, shape: tuple[int, ...]) -> Array:
    """Random words, uint32 [shape], from a typed threefry key; each is a function of key and place. Counter mode like
    `jax.random.bits`, which hashes twice as much and is several times slower on a CPU."""
    count = int(np.prod(shape))
    return threefry.threefry_2x32(jax.random.key_data(key), jnp.arange(count, dtype=jnp.uint32)).reshape(shape)


def uniform(key: Array, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Array:
    """float32 in [low, high), from 23 random bits each."""
    ones = (bits(key, shape) >> 9) | jnp.uint32(0x3F800000)
    return jnp.maximum(low, (jax.lax.bitcast_convert_type(ones, jnp.float32) - 1.0) * (high - low) + low)


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal float32, by the inverse of the error function."""
    low = np.nextafter(np.float32(-1), np.float32(0))
    return jax.lax.erf_inv(uniform(key, shape, low, 1.0)) * np.float32(np.sqrt(2))


def unit(image: Array) -> Array:
    """uint8 -> float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def to_uint8(image: Array, slack: float = SLACK) -> Array:
    """Clip to [0, 1], times 255, truncate: the end of every corruption, as published.

    slack is added first: the originals compute in float64, where the whole values of flat areas mostly stay whole;
    float32's rounding must not take them to the next lower one.
    """
    return (jnp.clip(image + slack, 0.0, 1.0) * 255.0).astype(jnp.uint8)
