"""Hashes and shapes of what is saved: of trees of arrays, and of a folder's files, which are kept next to them.

A checkpoint's hashes are compared before orbax reads it: on damaged files orbax fills the screen with tracebacks.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nofrost_jax import files
from nofrost_jax.errors import UserError

NAME = "files_sha256.json"


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
    """Raises UserError unless two {path: shape} are the same; what: the first of them."""
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if names:
        first, second = (f"{tree[names[0]]}" if names[0] in tree else "absent" for tree in (found, expected))
        raise UserError(
            f"{what} does not fit the config: {names[0]} is {first}, in the config {second}; give the config that made "
            "it, or another folder"
        )


def write(folder: str) -> None:
    """Writes the hash of every file below a folder."""
    names = [name for name in files.below(folder) if not files.is_temporary(os.path.basename(name)) and name != NAME]
    found = {name: files.file_sha256(os.path.join(folder, name)) for name in names}
    files.write_json(os.path.join(folder, NAME), found, indent=None)


def are_there(folder: str) -> bool:
    """Whether a folder has its file of hashes."""
    return files.exists(os.path.join(folder, NAME))


def replace(folder: str, name: str, content: str) -> None:
    """Replaces a file of a folder, and its hash. In between both contents are valid, so that a kill does no harm."""
    hashes, path = os.path.join(folder, NAME), os.path.join(folder, name)
    found, new = files.read_json(hashes), files.sha256(content)
    files.write_json(hashes, found | {name: [files.file_sha256(path), new]}, indent=None)
    files.write(path, content)
    files.write_json(hashes, found | {name: new}, indent=None)


def damage(folder: str, items: set[str]) -> str:
    """The first file that is missing or has another hash, as text; "" if there is none. items: the folders in `folder`
    to check, with the files that are in no folder."""
    try:
        found = files.read_json(os.path.join(folder, NAME))
        if found is None:
            return f"{NAME} is missing, as after an incomplete save"
        for name, digest in sorted(dict(found).items()):
            item, below, _ = name.partition(os.sep)
            allowed = digest if isinstance(digest, list) else [digest]
            if (item in items or not below) and files.file_sha256(os.path.join(folder, name)) not in allowed:
                return f"{name} is not what was saved: its hash differs"
        if lacking := sorted(items - {name.partition(os.sep)[0] for name in found}):
            return f"{lacking[0]} is missing"
    except FileNotFoundError as error:
        return f"{os.path.relpath(error.filename, folder)} is missing"
    except (ValueError, TypeError):
        return f"{NAME} is not what was saved"
    return ""


@contextlib.contextmanager
def quiet_if_it_fails() -> Iterator[None]:
    """Keeps hundreds of lines by the threads of a failed save off the screen."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda told: None if "Event loop is closed" in str(told.exc_value) else hook(told)
    yield
    sys.unraisablehook = hook  # not after a failure: the threads are still running
