"""Outcomes on disk, one file for each chunk of images and attack, so that an evaluation continues where it was."""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

import nofrost_jax
from nofrost_jax import buckets, files
from nofrost_jax.errors import UserError
from nofrost_jax.models import convolutions

_OPTIONS: Any = jax.config  # its attributes are made at run time
FORMAT = 4  # of the files, and of what the attacks compute: raised when either changes


class Store:
    """A folder of `CHUNK.ATTACK.npz`, and of `CHUNK.ATTACK.partial.npz` for unfinished attacks. Files appear whole, by
    renaming."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = folder

    @classmethod
    def open(cls, parent: str | os.PathLike, identity: dict[str, Any]) -> "Store":
        """The store below `parent` of an identity: plain values, all that outcomes depend on apart from the attack."""
        text = json.dumps(identity, indent=2, sort_keys=True)
        store = cls(os.path.join(parent, files.sha256(text)[:16]))
        files.make_folder(store.folder)
        files.create(os.path.join(store.folder, "identity.json"), text)
        return store

    def load(
        self, chunk: int, attack: str, required: Iterable[str] = (), partial: bool = False
    ) -> dict[str, np.ndarray] | None:
        """{name: array} of an attack on a chunk, or None. Raises UserError where the file cannot be read, or lacks
        what is required."""
        path = self._path(chunk, attack, partial)
        try:
            with files.opened(path) as file, np.load(file) as arrays:
                found = dict(arrays)
            if missing := set(required) - found.keys():
                raise ValueError(f"without {', '.join(sorted(missing))}")
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            if buckets.has_failed(path, error):
                raise
            raise UserError(
                f"the saved outcomes {path} cannot be read ({error}); remove this file and run again"
            ) from error

    def save(self, chunk: int, attack: str, arrays: dict[str, np.ndarray], partial: bool = False) -> None:
        """Writes the arrays, whole or not at all; a complete file takes the place of a partial one."""
        files.write_npz(self._path(chunk, attack, partial), arrays)
        if not partial:
            with contextlib.suppress(FileNotFoundError):  # also where another evaluation shares it
                files.remove(self._path(chunk, attack, partial=True))

    def _path(self, chunk: int, attack: str, partial: bool) -> str:
        return os.path.join(self.folder, f"{chunk:06d}.{attack}{'.partial' if partial else ''}.npz")


def random_numbers() -> tuple[str, bool]:
    """JAX's (implementation of random numbers, whether they are the same for any partition of an array)."""
    return str(_OPTIONS.jax_default_prng_impl), bool(_OPTIONS.jax_threefry_partitionable)


def identity(params_sha256: str, net: dict[str, Any], images: Any, seed: int) -> dict[str, Any]:
    """All that an image's outcome under an attack depends on apart from the attack, and how the images are cut into
    chunks; plain values. net: what the net is apart from its parameters; images: a set (`runs.Split`). Raises UserError
    where the data cannot be read."""
    return {
        "params_sha256": params_sha256,
        **net,
        **images.identity(),
        "images": images.count,
        "chunk_size": images.chunk_size,
        "seed": seed,
        "jax": jax.__version__,
        "platform": jax.default_backend(),
        "rng": random_numbers(),
        "matmul_precision": str(_OPTIONS.jax_default_matmul_precision),  # of the net inside attacks
        "convolutions": convolutions.conv_implementation(),
        "nofrost_jax": nofrost_jax.__version__,
        "format": FORMAT,
    }
