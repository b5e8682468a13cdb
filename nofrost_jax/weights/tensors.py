"""model.safetensors: float32 arrays by path, with a hash of them all and where they come from; and foreign files."""

import json
import mmap
import os
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from nofrost_jax import buckets, files
from nofrost_jax.errors import UserError

NAME = "model.safetensors"
_KEY = "nofrost_jax"  # in the file's metadata: JSON
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "I64": "<i8", "I32": "<i4"}
_DTYPES |= {"I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def write(path: files.Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Writes {name: array} and a plain dict about them, whole or not at all."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    files.write(path, safetensors.numpy.save(whole, {_KEY: json.dumps(dict(about)), "format": "np"}))


def read(path: files.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, read-only views of the file; what `write` said about them, {} in another program's file).

    Raises UserError if it cannot be read or is something else.
    """
    path = os.fspath(path)
    try:
        with files.at_hand(path) as near, open(near, "rb") as file:
            with safetensors.safe_open(near, "np") as checked:  # raises unless header and sizes fit together
                metadata = checked.metadata() or {}
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start = 8 + int.from_bytes(whole[:8], "little")
        header = json.loads(bytes(whole[8:start]))
        header.pop("__metadata__", None)
        about = json.loads(metadata.get(_KEY, "{}"))
        if not isinstance(about, dict):
            raise ValueError("its metadata are another program's")
        return {name: _view(whole, start, entry) for name, entry in header.items()}, about
    except (OSError, ValueError, KeyError, safetensors.SafetensorError, RecursionError) as error:
        if buckets.has_failed(path, error):
            raise
        why = files.reason(path, error)
        raise UserError(f"cannot read {path}: {why}; copy or download it again, or export the run again") from error


def _view(whole, start, entry):
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"numbers of the kind {entry['dtype']}")
    first, last = entry["data_offsets"]
    return np.frombuffer(whole[start + first : start + last], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
