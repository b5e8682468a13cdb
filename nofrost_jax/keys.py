"""Random keys: one seed, and named `fold_in`s of (purpose, step, image). No key is stored or used twice."""

import zlib

import jax
import numpy as np


def named(key: jax.Array, name: str) -> jax.Array:
    """Key for one purpose, e.g. `named(key, "attack")`. `key` is a typed key, or an array of them (one per image)."""
    fold = lambda single: jax.random.fold_in(single, number(name))  # noqa: E731
    for _ in range(key.ndim):
        fold = jax.vmap(fold)
    return fold(key)


def number(name: str) -> np.uint32:
    """What `named` folds in for a name, where it is an argument of a program."""
    return np.uint32(zlib.crc32(name.encode()))


def per_image(key: jax.Array, indices: jax.Array | np.ndarray) -> jax.Array:
    """One key for each of `indices` (int array [N]); an image's key depends on nothing but `key` and its own index."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
