"""Random access to prepared TFRecord files: an index of where every example lies, made once and kept.

The index of a split (`SPLIT.npz`) is written beside its record files, or, where these cannot be written, below
`~/.cache/nofrost_jax` ($XDG_CACHE_HOME). It holds the files' names and sizes and is made anew when these differ.
"""

import dataclasses
import functools
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nofrost_jax.data import tfrecord
from nofrost_jax.errors import UserError
from nofrost_jax.files import sha256, write_npz
from nofrost_jax.progress import shown

VERSION = 1  # Of the index files.
FOLDER = "nofrost_index"
READERS = 16  # Threads that scan files; they wait for the disk more than they work.


@dataclasses.dataclass(frozen=True)
class Records:
    """A split or a slice of one: example `i` lies at `offsets[i]` of `paths[shards[i]]`. Arrays have one row each."""

    name: str
    paths: list[str]
    shards: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray  # int32 [n]
    images: None = None
    name_feature: str = ""  # the feature that holds a file's name, if there is one

    def load(self, index: int) -> bytes:
        """The encoded image. Raises OSError, also for a record that does not match its checksum."""
        path = self.paths[self.shards[index]]
        return tfrecord.load(path, int(self.offsets[index]), int(self.lengths[index]))

    def where(self, index: int) -> str:
        """Data set, split, place and file."""
        return f"{self.name} example {index} in {self.paths[self.shards[index]]}"

    def file_names(self) -> list[str] | None:
        """Of all examples, None where they have none; the first call reads all files. Raises OSError."""
        return self._names if self.name_feature else None

    @functools.cached_property
    def _names(self) -> list[str]:
        rows = [np.flatnonzero(self.shards == shard) for shard in range(len(self.paths))]

        def read(shard: int) -> list[str]:
            there = rows[shard]
            return tfrecord.texts(self.paths[shard], self.offsets[there], self.lengths[there], self.name_feature)

        names = np.empty(len(self.labels), object)
        with ThreadPoolExecutor(READERS) as pool:
            for there, found in zip(rows, pool.map(read, range(len(rows))), strict=True):
                names[there] = found
        return names.tolist()


@dataclasses.dataclass(frozen=True)
class Index:
    """Where the examples of a split's files lie. `counts` int64 [files]; the others int64 [n], file after file."""

    counts: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


def open_split(
    name: str, instructions: list, shards: dict[str, list[tuple[str, int]]], name_feature: str = ""
) -> Records:
    """The examples of tfds's file instructions (`filename`, `skip`, `take`), in their order.

    Args:
      name: of data set and split, for messages.
      instructions: `builder.info.splits[EXPRESSION].file_instructions`.
      shards: the record files of each split that occurs: paths and the number of examples that each should hold.
      name_feature: see `Records`.

    Raises:
      UserError: a file is missing, damaged, or holds another number of examples.
    """
    parts: dict[str, tuple[int, np.ndarray]] = {}  # path -> (place of its first example in `joined`, count)
    indexes, paths, base = [], [], 0
    for split, files in shards.items():
        index = _index(f"{name.partition(' ')[0]} {split}", split, files)
        for (path, _), first, count in zip(files, np.cumsum(index.counts) - index.counts, index.counts, strict=True):
            parts[path] = (len(paths), base + int(first), int(count))
            paths.append(path)
        indexes.append(index)
        base += len(index.labels)
    places, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for instruction in instructions:
        number, first, count = parts[str(instruction.filename)]
        places.append(first + np.arange(instruction.skip, min(instruction.skip + instruction.take, count)))
        numbers.append(np.full(len(places[-1]), number, np.int32))
    chosen = np.concatenate(places)
    columns = (
        np.concatenate([getattr(index, field) for index in indexes]) for field in ("offsets", "lengths", "labels")
    )
    offsets, lengths, labels = (column[chosen] for column in columns)
    numbers, labels = np.concatenate(numbers), labels.astype(np.int32)
    return Records(name, paths, numbers, offsets, lengths, labels, name_feature=name_feature)


def _index(title: str, split: str, files: list[tuple[str, int]]) -> Index:
    """The kept index if it is of these files, otherwise a new one, which is kept."""
    try:
        sizes = np.array([os.stat(path).st_size for path, _ in files], np.int64)
    except OSError as error:
        raise UserError(f"record file missing ({error.strerror}); {error.filename}; prepare the data anew") from error
    names = [os.path.basename(path) for path, _ in files]
    places = _index_files(os.path.dirname(files[0][0]), split)
    for place in places:
        kept = _read(place, names, sizes)
        if kept is not None:
            return kept
    index = _scan(title, files)
    for place in places:
        if _write(place, names, sizes, index):
            break
    return index


def _scan(title: str, files: list[tuple[str, int]]) -> Index:
    def scan(item: tuple[str, int]) -> tuple[np.ndarray, ...]:
        path, expected = item
        try:
            found = tfrecord.scan(path)
        except OSError as error:
            raise UserError(f"unreadable records ({error}); {path}; copy or prepare the data anew") from error
        if len(found[0]) != expected:
            raise UserError(
                f"{len(found[0])} records instead of {expected}; {path}; the file is not the one that was prepared: "
                "copy or prepare the data anew"
            )
        return found

    with ThreadPoolExecutor(READERS) as pool:
        scans = list(shown(pool.map(scan, files), len(files), f"indexing {title}", "files"))
    counts = np.array([len(found[0]) for found in scans], np.int64)
    return Index(counts, *(np.concatenate(column) for column in zip(*scans, strict=True)))


def _index_files(folder: str, split: str) -> list[Path]:
    """Where the index may be kept, in order of preference."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    name = sha256(os.path.realpath(folder))[:16]
    return [Path(folder, FOLDER, f"{split}.npz"), home / "nofrost_jax" / name / f"{split}.npz"]


def _read(place: Path, names: list[str], sizes: np.ndarray) -> Index | None:
    """The index kept there, or None if there is none, it is damaged, or it is of other files."""
    try:
        with open(place, "rb") as file, np.load(file, allow_pickle=False) as kept:
            if int(kept["version"]) != VERSION or kept["names"].tolist() != names:
                return None
            if not np.array_equal(kept["sizes"], sizes):
                return None
            return Index(*(kept[field.name] for field in dataclasses.fields(Index)))
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
    ):  # NumPy's answers to no file, no archive, another archive.
        return None


def _write(place: Path, names: list[str], sizes: np.ndarray, index: Index) -> bool:
    """Keeps the index, whole or not at all: other processes may write the same. Returns whether it could be."""
    columns = {field.name: getattr(index, field.name) for field in dataclasses.fields(Index)}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_npz(place, {"version": VERSION, "names": np.array(names), "sizes": sizes, **columns})
    except OSError:
        return False
    return True
