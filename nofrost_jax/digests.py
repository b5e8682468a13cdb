"""The hashes of a folder's files, kept beside them: what was altered or lost is found without a look inside.

orbax fills the screen with its threads' tracebacks when it reads damaged files, and when it cannot write.
"""

import contextlib
import os
import sys

from nofrost_jax import files

NAME = "files_sha256.json"


def write(folder):
    """Writes the hash of every file below a folder."""
    digests = {}
    for root, _, names in os.walk(folder):
        for name in names:
            if name != NAME and not files.is_temporary(name):
                path = os.path.join(root, name)
                digests[os.path.relpath(path, folder)] = files.file_sha256(path)
    files.write_json(f"{folder}/{NAME}", digests, indent=None)


def check(folder, items):
    """Whether the hashes are there, can be read, and are right for the files of the items, names of folders in it.

    Raises ValueError for the first file that is altered, and FileNotFoundError for one that is missing.
    """
    try:
        digests = dict(files.read_json(f"{folder}/{NAME}"))
    except (ValueError, TypeError):  # no word on the files, neither for nor against them
        return False
    for name, digest in sorted(digests.items()):
        if name.split(os.sep)[0] in items and files.file_sha256(os.path.join(folder, name)) != digest:
            raise ValueError(f"{name} is not what was saved: its hash differs")
    return True


@contextlib.contextmanager
def quiet_if_it_fails():
    """Keeps off the screen what the threads of a failed save cannot deliver any more: hundreds of lines."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda told: None if "Event loop is closed" in str(told.exc_value) else hook(told)
    yield
    sys.unraisablehook = hook  # not after a failure: the threads are still at it
