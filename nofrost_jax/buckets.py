"""Objects in a bucket of Google Cloud Storage, gs://BUCKET/PATH, through gcsfs, which is optional.

An object appears whole or not at all. There are no folders: one is there while an object is below it. The functions
raise the OSErrors that files raise, and UserError for another scheme or where gcsfs is not installed.
"""

import concurrent.futures
import contextlib
import errno
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nofrost_jax import errors
from nofrost_jax.errors import MachineError, UserError

SCHEME = "gs://"
Path = str | os.PathLike[str]
_AT_ONCE = 16  # requests


def is_url(path: Path) -> bool:
    """Whether a path is an address, of whichever scheme."""
    return "://" in os.fspath(path)


def has_failed(path: Path, error: BaseException | None) -> bool:
    """Whether an error about an address is the network's failure, not the object's."""
    return is_url(path) and isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)


def require(path: Path, what: str) -> None:
    """Raises UserError if the bucket of a path does not exist; MachineError if it may not be read, or not be reached.
    what: the path as a message names it."""
    try:
        is_folder(path)
    except FileNotFoundError as error:
        raise UserError(f"{what} is in no bucket that exists; make the bucket, or correct its name") from error
    except PermissionError as error:
        mend = "log in (gcloud auth application-default login), or ask for the role Storage Object User"
        raise MachineError(f"{what} may not be read; {mend}") from error
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise UserError(f"{what} has a name that no bucket can have; correct it") from error
        raise MachineError(f"{what} cannot be reached; check the network, then run the same command again") from error


def refuse(path: Path, what: str) -> None:
    """Raises UserError for an address, where only a folder of this machine will do."""
    if is_url(path):
        raise UserError(f"{what} must be a folder of this machine; to copy it: gcloud storage cp --recursive")


def read(path: Path) -> bytes:
    """The content of an object."""
    with _asking(path) as (client, bucket, key):
        return client.cat_file(f"{bucket}/{key}")


def read_generation(path: Path) -> tuple[bytes, int]:
    """(content, generation) of an object; each write gives it a new generation."""
    with _asking(path) as (client, bucket, key):
        headers, content = client.call("GET", "b/{}/o/{}", bucket, key, alt="media")
    return content, int(headers["x-goog-generation"])


def write(path: Path, content: bytes) -> None:
    """Writes an object, over one that is there."""
    with _asking(path) as (client, bucket, key):
        client.pipe_file(f"{bucket}/{key}", content)


def write_over(path: Path, content: bytes, generation: int) -> int:
    """Writes an object where it has this generation, 0: where there is none; returns the new one. Raises
    FileExistsError otherwise."""
    with _asking(path) as (client, bucket, key):
        url = client.base.replace("/storage/", "/upload/storage/") + "b/{}/o"
        condition = {"uploadType": "media", "name": key, "ifGenerationMatch": str(generation)}
        return int(client.call("POST", url, bucket, data=content, json_out=True, **condition)["generation"])


def exists(path: Path) -> bool:
    """Whether there is an object, or a folder."""
    with _asking(path) as (client, bucket, key), contextlib.suppress(FileNotFoundError):
        client.call("GET", "b/{}/o/{}", bucket, key, fields="name")
        return True
    with contextlib.suppress(FileNotFoundError):  # no such bucket
        return is_folder(path)
    return False


def is_folder(path: Path) -> bool:
    """Whether there is an object below a path. Raises FileNotFoundError if there is no such bucket."""
    return any(_pages(path, maxResults=2))  # the first may be its own placeholder


def names(folder: Path) -> list[str]:
    """The names in a folder, sorted; [] if it is not there."""
    found = [name.rstrip("/") for name in _pages(folder, delimiter="/")]
    return sorted(name for name in found if name)


def below(folder: Path) -> list[str]:
    """The paths of all objects below a folder, relative to it, sorted; without the placeholders of folders."""
    return sorted(name for name in _pages(folder) if name and not name.endswith("/"))


def remove(path: Path, generation: int | None = None) -> None:
    """Removes an object; with `generation` only that one, FileExistsError is raised for another."""
    with _asking(path) as (client, bucket, key):
        client.call("DELETE", "b/{}/o/{}", bucket, key, ifGenerationMatch=generation and str(generation))


def remove_tree(folder: Path) -> None:
    """Removes what is below a folder, if there is any, and its placeholder."""

    def remove_one(name):
        with contextlib.suppress(FileNotFoundError), _asking(folder) as (client, bucket, key):
            client.call("DELETE", "b/{}/o/{}", bucket, _prefix(key) + name)

    _each(remove_one, list(_pages(folder)))


def move(folder: Path, target: Path) -> None:
    """Copies an object, or what is below a folder, and removes it where it was. A folder's last name appears last and
    goes first: the folder with it is the whole one."""
    found = below(folder) or [""]
    for part in (found[:-1], found[-1:]):
        _each(lambda name: _copy(os.path.join(folder, name), os.path.join(target, name)), part)
    with contextlib.suppress(FileNotFoundError):  # the answer to a first try was lost
        remove(os.path.join(folder, found[-1]))
    remove_tree(folder)


def _copy(source: Path, target: Path) -> None:
    _, bucket, key = _split(target)
    with _asking(source) as (client, own_bucket, own_key):
        token = None
        while True:
            place = ("b/{}/o/{}/rewriteTo/b/{}/o/{}", own_bucket, own_key, bucket, key)
            answer = client.call("POST", *place, rewriteToken=token, json_out=True)
            if answer["done"]:
                return
            token = answer["rewriteToken"]


def _each(act: Callable[[str], Any], found: Iterable[str]) -> None:
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(act, found))


def _pages(folder: Path, **options: Any) -> Iterator[str]:
    """The paths below a folder, relative to it; with `delimiter` only the next part of each, a folder's with the
    delimiter. "" is the folder's own placeholder, an object FOLDER/ that Google's console makes. maxResults: of a
    page."""
    with _asking(folder) as (client, bucket, key):
        prefix, token = _prefix(key), None
        while True:
            page = client.call(
                "GET", "b/{}/o", bucket, prefix=prefix or None, pageToken=token, json_out=True,
                fields="items(name),prefixes,nextPageToken", **options
            )  # fmt: skip
            found = [item["name"] for item in page.get("items", [])] + page.get("prefixes", [])
            yield from (name.removeprefix(prefix) for name in found)
            token = page.get("nextPageToken")
            if not token:
                return


@contextlib.contextmanager
def _asking(path: Path) -> Iterator[tuple[Any, str, str]]:
    """(gcsfs's file system, bucket, key) of a path; what its requests raise becomes an OSError with its number."""
    scheme, bucket, key = _split(path)
    if scheme != SCHEME or not bucket:
        raise UserError(f"{os.fspath(path)} cannot be used; give {SCHEME}BUCKET/PATH, or a folder of this machine")
    client = _client()
    try:
        yield client, bucket, key
    except Exception as error:
        if getattr(error, "code", 0) == 400 or (isinstance(error, ValueError) and str(error).startswith("Bad Request")):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), os.fspath(path)) from error
        told = {"FileNotFoundError": errno.ENOENT, "FileExistsError": errno.EEXIST, "ProxyError": errno.EHOSTDOWN}
        if number := told.get(type(error).__name__) or errors.number(error):  # the last: a status of 502
            raise OSError(number, os.strerror(number), os.fspath(path)) from error
        raise


def _split(path: Path) -> tuple[str, str, str]:
    """(scheme, bucket, key) of an address, its key without empty parts."""
    scheme, _, rest = os.fspath(path).partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://", bucket, "/".join(part for part in key.split("/") if part not in ("", "."))


def _prefix(key: str) -> str:
    """How the names of the objects below a folder start."""
    return f"{key}/" if key else ""


@functools.cache
def _client() -> Any:
    os.environ.setdefault("EPATH_USE_TF", "false")  # of orbax's paths: TensorFlow has no buckets without a plug-in
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks by gRPC what kind each bucket is
    try:
        import fsspec.config
        import gcsfs
        from etils.epath import gpath
    except ImportError as error:
        raise UserError(f"{SCHEME} needs the package gcsfs; pip install gcsfs") from error
    gpath._is_tf_installed.cache_clear()  # another library may have asked before
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)  # others write there, too
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs the traceback of what it raises
    return gcsfs.GCSFileSystem(use_listings_cache=False)
