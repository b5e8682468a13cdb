"""Initializers in Flax's form, (key, shape, dtype) -> array, for kernels [..., in, out].

JAX compiles a random draw, and even a constant, for every shape, which takes many seconds for a whole network. These
draw chunks of one size and cut them on the host, so that only one draw is compiled; traced, they give the same numbers.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 2**17


@jax.jit
def _normal_chunk(key: jax.Array, index: jax.Array) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, index), (CHUNK,), jnp.float32)


@jax.jit
def _uniform_chunk(key: jax.Array, index: jax.Array) -> jax.Array:
    return jax.random.uniform(jax.random.fold_in(key, index), (CHUNK,), jnp.float32, -1.0, 1.0)


def _initializer(draw: Callable, scale: Callable) -> Callable:
    """An initializer of `draw`'s numbers times `scale(fan_in, fan_out)`."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32):
        size = math.prod(shape)
        chunks = [draw(key, index) for index in range(-(-size // CHUNK))]
        xp = jnp if isinstance(key, jax.core.Tracer) else np
        fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
        flat = xp.concatenate(chunks)[:size] * np.float32(scale(fan_in, fan_out))
        return flat.reshape(shape).astype(dtype)

    return init


def zeros(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> np.ndarray:
    """All 0."""
    return np.zeros(shape, dtype)


def ones(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> np.ndarray:
    """All 1."""
    return np.ones(shape, dtype)


lecun_normal = _initializer(_normal_chunk, lambda fan_in, _: fan_in**-0.5)
he_normal_fan_out = _initializer(_normal_chunk, lambda _, fan_out: (2 / fan_out) ** 0.5)


def normal(std: float) -> Callable:
    """Normal numbers of mean 0 and the given standard deviation."""
    return _initializer(_normal_chunk, lambda *_: std)


def symmetric_uniform(bound: float) -> Callable:
    """Uniform numbers between -bound and bound."""
    return _initializer(_uniform_chunk, lambda *_: bound)
