"""The hashes of a folder's files, kept beside them: what was altered or lost is found without a look inside.

orbax fills the screen with its threads' tracebacks when it reads damaged files, and when it cannot write.
"""

import contextlib
import hashlib
import json
import os
import sys

NAME = "files_sha256.json"


def write(folder):
    """Writes the hash of every file below a folder."""
    digests = {}
    for root, _, names in os.walk(folder):
        for name in names:
            if name.startswith(NAME):
                continue
            path = os.path.join(root, name)
            digests[os.path.relpath(path, folder)] = _of_file(path)
    with open(os.path.join(folder, f"{NAME}.tmp"), "w") as file:
        json.dump(digests, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{folder}/{NAME}.tmp", f"{folder}/{NAME}")


def check(folder, items):
    """Whether the hashes are there, can be read, and are right for the files of the items, names of folders in it.

    Raises ValueError for the first file that is altered, and FileNotFoundError for one that is missing.
    """
    try:
        with open(f"{folder}/{NAME}") as file:
            digests = dict(json.load(file))
    except (FileNotFoundError, ValueError, TypeError):  # no word on the files, neither for nor against them
        return False
    for name, digest in sorted(digests.items()):
        if name.split(os.sep)[0] in items and _of_file(os.path.join(folder, name)) != digest:
            raise ValueError(f"{name} is not what was saved: its hash differs")
    return True


@contextlib.contextmanager
def quiet_if_it_fails():
    """Keeps off the screen what the threads of a failed save cannot deliver any more: hundreds of lines."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda told: None if "Event loop is closed" in str(told.exc_value) else hook(told)
    yield
    sys.unraisablehook = hook  # not after a failure: the threads are still at it


def _of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
