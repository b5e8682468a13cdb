"""What tells the images of one evaluation set from those of another, wherever they lie."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nofrost_jax.data.catalog import open_source
from nofrost_jax.data.folder import Folder
from nofrost_jax.data.sources import Subset
from nofrost_jax.errors import UserError

SAMPLE = 64  # files that are read; PNG files of one size are of one length now and then
_READERS = 16  # threads; on network storage they wait for the disk more than they work


def of(config) -> str:
    """Of the source that holds the evaluation split; "" where the source's name says all (digits, fake).

    Folders: SHA-256, see `of_folder`. tfds: name and version, with the SHA-256 of its splits' sizes.

    Raises UserError, see `nofrost_jax.data.check`.
    """
    if config.data.source.partition(":")[0] not in ("folder", "tfds"):
        return ""
    source = open_source(config)
    if source.version:
        return source.version
    split = source.evaluation()
    return of_folder(split.whole if isinstance(split, Subset) else split)


def of_folder(split: Folder) -> str:
    """SHA-256 of the files' names below the folder, labels and sizes in bytes, and of what is in 64 of them, evenly
    spaced. Raises UserError that names an unreadable one."""
    try:
        return _digest(split)
    except OSError as error:
        raise UserError(f"cannot read an image ({error.strerror}); {error.filename}; replace or remove it") from error


def _digest(split: Folder) -> str:
    with ThreadPoolExecutor(_READERS) as threads:
        blocks = np.array_split(np.arange(len(split.files)), _READERS)
        sizes = [size for block in threads.map(lambda block: _sizes(split, block), blocks) for size in block]
    digest = hashlib.sha256(json.dumps([split.files, split.labels.tolist(), sizes]).encode())
    for index in np.unique(np.linspace(0, len(split.files) - 1, SAMPLE).astype(int)).tolist():
        digest.update(hashlib.sha256(split.load(index)).digest())
    return digest.hexdigest()


def _sizes(split: Folder, block) -> list[int]:
    return [os.stat(split.where(index)).st_size for index in block.tolist()]
