"""Trees of arrays as {path: leaf}: their hash, their shapes, and whether two are of the same net."""

from typing import Any

import jax
import numpy as np

from nofrost_jax import files
from nofrost_jax.errors import UserError


def tree_sha256(tree: Any) -> str:
    """Hex SHA-256 of all leaves with their paths, types and shapes; the same on any number of devices."""
    leaves = sorted(flatten(tree).items())
    return files.sha256(*(part for path, leaf in leaves for part in (f"{path}:{leaf.dtype}:{leaf.shape};", leaf)))


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """{path: NumPy array} of all leaves, paths with / between the names."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def shapes(tree: Any) -> dict[str, list[int]]:
    """{path: shape} of all leaves, shapes as lists."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(key, simple=True, separator="/"): list(leaf.shape) for key, leaf in leaves}


def require_fit(what: str, found: dict[str, list[int]], expected: dict[str, list[int]]) -> None:
    """Raises UserError unless two {path: shape} are the same."""
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if names:
        first, second = (f"{tree[names[0]]}" if names[0] in tree else "absent" for tree in (found, expected))
        raise UserError(
            f"{what} does not fit the config: {names[0]} is {first}, the config's {second}; give the config that made "
            "it, or another folder"
        )
