"""Atomic writes, JSON and .npz files, hashes, and what is wrong with a file that cannot be read.

A path may be a gs://BUCKET/PATH (`buckets`) where a function does not say otherwise.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from nofrost_jax import buckets
from nofrost_jax.buckets import is_url

Path = str | os.PathLike[str]
SEAL = "content_sha256"
_LFS = b"version https://git-lfs"
_NPZ = "it is a NumPy .npz file"
_TORCH_STREAM = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P"  # the start of PyTorch's older format


@contextlib.contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """Yields a binary file that replaces `path` at the end of the block; if that fails, `path` stays as it was.

    sync: wait for the disk, so that the file survives a crash of the machine; without it, only a kill.
    """
    if is_url(path):
        with io.BytesIO() as whole:
            yield whole
            buckets.write(path, whole.getvalue())
        return
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary):
            error.filename = os.fspath(path)
        raise


def write(path: Path, content: str | bytes, sync: bool = True) -> None:
    """Writes a file completely, or not at all."""
    with replacing(path, sync) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any, indent: int | None = 2, seal: bool = False) -> None:
    """Writes a plain value as JSON; see `write`. seal: an object gets the hash of its fields, for `unsealed`."""
    write(path, json.dumps(value | {SEAL: _json_sha256(value)} if seal else value, indent=indent) + "\n")


def unsealed(value: Any) -> Any:
    """A JSON value without its seal. Raises ValueError if it has one, but is not what was sealed."""
    if not isinstance(value, dict) or SEAL not in value:
        return value
    fields = {name: field for name, field in value.items() if name != SEAL}
    if value[SEAL] != _json_sha256(fields):
        raise ValueError("it is not what was written: its hash differs")
    return fields


def _json_sha256(value: Any) -> str:
    return sha256(json.dumps(json.loads(json.dumps(value)), sort_keys=True))  # twice: JSON has no tuples


def write_npz(path: Path, arrays: Mapping[str, Any], sync: bool = True) -> None:
    """Writes {name: array} as NumPy's `.npz`; see `write`."""
    with replacing(path, sync) as file:
        np.savez(file, **arrays)


def create(path: Path, content: str) -> bool:
    """Writes a new file; see `write`. Returns False if the file exists, also if another process has just made it."""
    if is_url(path):
        with contextlib.suppress(FileExistsError):
            return bool(buckets.write_over(path, content.encode(), 0))
        return False
    if os.path.exists(path):
        return False
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if os.path.exists(path):
                return False
            os.replace(temporary, path)
        return True
    finally:
        _remove(temporary)


def read_json(path: Path) -> Any:
    """The value in a JSON file, `unsealed`, or None if there is no file. Raises ValueError if it is not JSON."""
    try:
        return unsealed(json.loads(read(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sha256(*parts: str | bytes | np.ndarray) -> str:
    """Hex SHA-256 of texts, bytes and arrays' values, joined."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part if isinstance(part, bytes) else part.tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def absolute(path: Path) -> str:
    """An absolute path without ~; an address as it is. No / at the end."""
    return os.fspath(path).rstrip("/") if is_url(path) else os.path.abspath(os.path.expanduser(path))


def opened(path: Path) -> io.BufferedIOBase:
    """A file to be read; an object's whole content is in memory."""
    return io.BytesIO(buckets.read(path)) if is_url(path) else open(path, "rb")


def read(path: Path) -> bytes:
    """The content of a file."""
    with opened(path) as file:
        return file.read()


@contextlib.contextmanager
def at_hand(path: Path) -> Iterator[str]:
    """The path of a file on this machine, for a block: `path`, or a copy of the object there."""
    if not is_url(path):
        yield os.fspath(path)
        return
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(buckets.read(path))
        copy.flush()
        yield copy.name


def exists(path: Path) -> bool:
    """Whether there is a file or a folder."""
    return buckets.exists(path) if is_url(path) else os.path.exists(path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; in a bucket, whether there is anything below."""
    return buckets.is_folder(path) if is_url(path) else os.path.isdir(path)


def names(folder: Path) -> list[str]:
    """The names in a folder, in any order; [] if it is not there."""
    try:
        return buckets.names(folder) if is_url(folder) else os.listdir(folder)
    except FileNotFoundError:
        return []


def below(folder: Path) -> list[str]:
    """The paths of all files below a folder, relative to it."""
    if is_url(folder):
        return buckets.below(folder)
    found = (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    return [os.path.relpath(path, folder) for path in found]


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, if they are not there; a bucket has none."""
    if not is_url(path):
        os.makedirs(path, exist_ok=True)


def remove(path: Path) -> None:
    """Removes a file."""
    if is_url(path):
        buckets.remove(path)
    else:
        os.remove(path)


def remove_tree(folder: Path, missing_ok: bool = False) -> None:
    """Removes a folder with all that is in it; with `missing_ok` as far as it can."""
    if is_url(folder):
        buckets.remove_tree(folder)
    else:
        shutil.rmtree(folder, ignore_errors=missing_ok)


def rename(path: Path, target: Path) -> None:
    """Gives a file or a folder another name, at once; in a bucket as `buckets.move` says."""
    if is_url(path):
        buckets.move(path, target)
    else:
        os.replace(path, target)


def is_temporary(name: str) -> bool:
    """Whether a file name, without its folder, is a temporary one, which only a killed writer leaves."""
    return bool(re.fullmatch(r"\.[0-9a-f]{32}\.tmp", name))


def remove_leftovers(folder: Path, now: float) -> None:
    """Removes what killed writers left in a folder, on this machine, more than an hour before `now`, in seconds."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name) and entry.stat(follow_symlinks=False).st_mtime < now - 3600:
                _remove(entry.path)


def _temporary(path: Path) -> str:
    """A unique name in the folder of `path`; hidden, so that no reader takes it for an image."""
    return os.path.join(os.path.dirname(path), f".{uuid.uuid4().hex}.tmp")


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)


def diagnose(path: Path) -> str:
    """What a file is instead of the wanted one, and how to get the right one; "" if it looks like nothing known.

    Reads its first and last bytes and runs nothing in it; "" for an object in a bucket.
    """
    if is_url(path):
        return ""
    if os.path.isdir(path):
        return "it is a folder; give the file in it"
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError:
        return ""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty; copy or download it again"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "it is a web page, not the download; get the file itself"
    if text.startswith(_LFS):
        return "it is a Git LFS pointer, not the file; run: git lfs pull"
    if not head.strip(b"\0"):
        return "it starts with zeros, like an unfinished download; get it again"
    if head.startswith(_TORCH_STREAM):
        return "it is a PyTorch file"
    if head.startswith(b"PK"):
        return _diagnose_zip(path)
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file"
    if head.startswith(b"\x80"):
        return "it is a Python pickle; it is not read, because reading one can run any code"
    return ""


def _diagnose_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "it is damaged or cut off: the end of the archive is missing; copy or download it again"
    if any(name.endswith("/data.pkl") for name in names):
        return "it is a PyTorch file"
    if names and all(name.endswith(".npy") for name in names):
        return _NPZ
    return "it is a zip archive of something else"


def reason(path: Path, error: Exception) -> str:
    """`diagnose`, or else, also of the wanted kind of file, the error's own text."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())[:160] or type(error).__name__
    other = diagnose(path)
    return text if other in ("", _NPZ) else other


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises ValueError that says what is wrong with the file.

    Compressed ones are refused: `write_npz` makes none, and a small file could fill the memory.
    """
    try:
        with opened(path) as file:
            with zipfile.ZipFile(file) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ValueError("it is compressed, so it could be larger than it looks; save it with np.savez")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                found = dict(arrays)
        if not all(isinstance(value, np.ndarray) for value in found.values()):
            raise ValueError("it holds something other than arrays")
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise ValueError(reason(path, error)) from error
    return found
