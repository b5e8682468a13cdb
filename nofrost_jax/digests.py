"""The hashes of a folder's files, kept beside them: what was altered or lost is found without a look inside.

orbax fills the screen with its threads' tracebacks when it reads damaged files, and when it cannot write.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

from nofrost_jax import files

NAME = "files_sha256.json"


def write(folder: str) -> None:
    """Writes the hash of every file below a folder."""
    found = {}
    for path in (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names):
        if not files.is_temporary(os.path.basename(path)) and path != os.path.join(folder, NAME):
            found[os.path.relpath(path, folder)] = files.file_sha256(path)
    files.write_json(os.path.join(folder, NAME), found, indent=None)


def are_there(folder: str) -> bool:
    """Whether a folder's hashes are written."""
    return os.path.exists(os.path.join(folder, NAME))


def replace(folder: str, name: str, content: str) -> None:
    """Replaces a file of a folder, and its hash; in between both its contents count, so that a kill does no harm."""
    hashes, path = os.path.join(folder, NAME), os.path.join(folder, name)
    found, new = files.read_json(hashes), files.sha256(content)
    files.write_json(hashes, found | {name: [files.file_sha256(path), new]}, indent=None)
    files.write(path, content)
    files.write_json(hashes, found | {name: new}, indent=None)


def damage(folder: str, items: set[str]) -> str:
    """The first file that is missing or not what it was, as text; "" where all are. items: folders in `folder`, which
    alone are looked at, beside the files that lie in none.
    """
    try:
        found = files.read_json(os.path.join(folder, NAME))
        if found is None:
            return f"{NAME} is missing, as where a save was cut"
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
    """Keeps off the screen what the threads of a failed save cannot deliver any more: hundreds of lines."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda told: None if "Event loop is closed" in str(told.exc_value) else hook(told)
    yield
    sys.unraisablehook = hook  # not after a failure: the threads are still at it
