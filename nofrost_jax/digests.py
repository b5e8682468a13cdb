"""The hashes of a folder's files, kept beside them: what was altered or lost is found without a look inside.

orbax fills the screen with its threads' tracebacks when it reads damaged files.
"""

import hashlib
import json
import os

NAME = "files_sha256.json"


def write(folder):
    """Writes the hash of every file below a folder."""
    digests = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            digests[os.path.relpath(path, folder)] = _of_file(path)
    with open(os.path.join(folder, f"{NAME}.tmp"), "w") as file:
        json.dump(digests, file)
    os.replace(f"{folder}/{NAME}.tmp", f"{folder}/{NAME}")


def check(folder, items):
    """Raises ValueError for the first file of the items, names of folders in it, that is missing or altered.

    A run that was killed right after a save has no hashes for it; the arrays' own are checked in any case.
    """
    if not os.path.exists(f"{folder}/{NAME}"):
        return
    with open(f"{folder}/{NAME}") as file:
        digests = json.load(file)
    for name, digest in sorted(digests.items()):
        path = os.path.join(folder, name)
        if name.split(os.sep)[0] not in items:
            continue
        if not os.path.exists(path):
            raise ValueError(f"{name} is missing")
        if _of_file(path) != digest:
            raise ValueError(f"{name} is not what was saved: its hash differs")


def _of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
