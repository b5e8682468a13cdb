"""What identifies the images of a set, wherever they are."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nofrost_jax.data.folder import Folder
from nofrost_jax.data.sources import READERS, Source, Split, whole_of
from nofrost_jax.data.views import Tree
from nofrost_jax.errors import UserError
from nofrost_jax.files import sha256
from nofrost_jax.progress import shown

SAMPLE = 64  # files whose content is read; PNG files of one image size sometimes have the same length
_BLOCK = 1000  # files that a thread gets at once


def of(source: Source, evaluation: Split) -> str:
    """Of a source's evaluation split, see `Dataset.fingerprint`; "" if the source's name says everything (digits,
    fake). Raises UserError, see `of_folder`."""
    split = whole_of(evaluation)
    return of_folder(split) if isinstance(split, Folder) else source.version


def of_folder(split: Folder) -> str:
    """SHA-256 of the files' names below the folder, their labels and sizes in bytes, and of the content of 64 of them,
    evenly spaced. Raises UserError that names an unreadable one."""
    try:
        listed = json.dumps([split.files, split.labels.tolist(), _sizes(split)])
        sample = np.unique(np.linspace(0, len(split.files) - 1, SAMPLE).astype(int)).tolist()
        return sha256(listed, *(bytes.fromhex(sha256(split.load(index))) for index in sample))
    except OSError as error:
        raise UserError(f"cannot read an image ({error.strerror}); {error.filename}; replace or remove it") from error


def of_training(source: Source, train: Split, trees: tuple[Tree, ...]) -> dict[str, int | str]:
    """See `Dataset.training_fingerprint`."""
    split = whole_of(train)
    contents = _of_names([split]) if isinstance(split, Folder) else source.version
    if not contents:
        return {}
    found: dict[str, int | str] = {"images": train.size, "contents": contents}
    return found | ({"deepaugment": _of_names(trees)} if trees else {})


def _of_names(splits: Iterable[Folder | Tree]) -> str:
    """SHA-256 of the names, labels and sizes of all files. Raises UserError that names a missing one."""
    parts = []
    for split in splits:
        try:
            parts.append(json.dumps([split.files, _sizes(split)]))
        except OSError as error:
            raise UserError(f"cannot find an image ({error.strerror}); {error.filename}; replace it") from error
        parts.append(json.dumps(getattr(split, "labels", np.zeros(0)).tolist()))
    return sha256(*parts)


def _sizes(split: Folder | Tree) -> list[int]:
    """Bytes of all files. Raises OSError."""
    blocks = [split.files[first : first + _BLOCK] for first in range(0, len(split.files), _BLOCK)]

    def sizes(block: list[str]) -> list[int]:
        return [os.stat(f"{split.root}/{name}").st_size for name in block]

    with ThreadPoolExecutor(READERS) as threads:
        found = shown(threads.map(sizes, blocks), len(blocks), "reading the files' sizes", "thousands of files")
        return [size for block in found for size in block]
