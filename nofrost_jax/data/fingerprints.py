"""What tells the images of one set from those of another, wherever they lie."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nofrost_jax.data.folder import Folder
from nofrost_jax.data.sources import RandomAccess, Sequential, Source, whole_of
from nofrost_jax.data.views import Tree
from nofrost_jax.errors import UserError
from nofrost_jax.files import sha256
from nofrost_jax.progress import shown

SAMPLE = 64  # files that are read; PNG files of one size are of one length now and then
_READERS, _BLOCK = 16, 1000  # threads, which on network storage wait for the disk; files that they get at once


def of(source: Source, evaluation: RandomAccess | Sequential) -> str:
    """Of the source and its evaluation split; "" where the source's name says all (digits, fake).

    Folders: SHA-256, see `of_folder`. tfds: name and version, with the SHA-256 of its splits' sizes.

    Raises UserError, see `of_folder`.
    """
    split = whole_of(evaluation)
    return of_folder(split) if isinstance(split, Folder) else source.version


def of_folder(split: Folder) -> str:
    """SHA-256 of the files' names below the folder, labels and sizes in bytes, and of what is in 64 of them, evenly
    spaced. Raises UserError that names an unreadable one."""
    try:
        return _digest(split)
    except OSError as error:
        raise UserError(f"cannot read an image ({error.strerror}); {error.filename}; replace or remove it") from error


def of_training(source: Source, train: RandomAccess | Sequential, trees: tuple[Tree, ...]) -> dict[str, int | str]:
    """See `Dataset.training_fingerprint`."""
    split = whole_of(train)
    if not source.version and not isinstance(split, Folder):
        return {}
    found = {"images": train.size, "contents": source.version or _of_names([split])}
    return found | ({"deepaugment": _of_names(trees)} if trees else {})


def _of_names(splits) -> str:
    """SHA-256 of the names, labels and sizes of all files of folders. Raises UserError that names a missing one."""
    parts = []
    for split in splits:
        try:
            parts.append(json.dumps([split.files, _all_sizes(split.root, split.files)]))
        except OSError as error:
            raise UserError(f"cannot look at an image ({error.strerror}); {error.filename}; replace it") from error
        parts.append(json.dumps(getattr(split, "labels", np.zeros(0)).tolist()))
    return sha256(*parts)


def _digest(split: Folder) -> str:
    sizes = _all_sizes(split.root, split.files)
    listed = json.dumps([split.files, split.labels.tolist(), sizes])
    sample = np.unique(np.linspace(0, len(split.files) - 1, SAMPLE).astype(int)).tolist()
    return sha256(listed, *(bytes.fromhex(sha256(split.load(index))) for index in sample))


def _all_sizes(root: str, names: list[str]) -> list[int]:
    blocks = [names[first : first + _BLOCK] for first in range(0, len(names), _BLOCK)]

    def sizes(block: list[str]) -> list[int]:
        return [os.stat(f"{root}/{name}").st_size for name in block]

    with ThreadPoolExecutor(_READERS) as threads:
        found = shown(threads.map(sizes, blocks), len(blocks), "reading the files' sizes", "thousands of files")
        return [size for block in found for size in block]
