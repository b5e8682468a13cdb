"""Reads a PyTorch state dict without PyTorch, and without running what is in it.

A `.pt` file is a pickle program and raw numbers. `pickles` reads the program; the numbers stay in the file, which is
mapped into memory. It reads zip files (PyTorch >= 1.6) and the older single-stream format.
"""

import functools
import io
import math
import mmap
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from nofrost_jax import files
from nofrost_jax.errors import UserError
from nofrost_jax.weights import pickles

_MAGIC = 0x1950A86A20F9469CFC6C  # begins a file of the older format
_LONGEST_PROGRAM = 2**26  # bytes of a pickle; those of large training states have a few million
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # where training scripts put the state dict
_DIMENSIONS = 32  # the most of a tensor
_DEPTH = 8  # of dictionaries around it


class _Dtype(NamedTuple):
    name: Any


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not (isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise ValueError("a tensor that is none")
    if max(len(shape), len(strides)) > _DIMENSIONS:
        raise ValueError(f"a tensor of more than {_DIMENSIONS} dimensions")
    if not all(isinstance(one, int) and 0 <= one < 2**48 for one in (offset, *shape, *strides)):
        raise ValueError("impossible shape")
    return _Tensor(storage, offset, shape, strides)


_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What training scripts keep beside the weights: settings, NumPy's numbers, and what dill writes (robustness). None of
# it is made; it is only not refused.
_BESIDE = {
    "argparse": ("Namespace",),
    "pathlib": ("Path", "PosixPath", "PurePosixPath", "WindowsPath"),
    "numpy": ("dtype", "ndarray", "float64", "float32"),
    **dict.fromkeys(("numpy.core.multiarray", "numpy._core.multiarray"), ("scalar", "_reconstruct")),
    "_codecs": ("encode",),
    **dict.fromkeys(("builtins", "__builtin__"), ("__main__", "set", "list", "dict", "int", "float", "str", "bytes")),
    "torch": ("Size", "device", "dtype", "float32", "float16", "bfloat16", "int64"),
    "cox.utils": ("Parameters",),
    **dict.fromkeys(
        ("dill.dill", "dill._dill"),
        (
            "_load_type",
            "_create_type",
            "_create_code",
            "_create_function",
            "_create_cell",
            "_get_attr",
            "_import_module",
        ),
    ),
}
_TABLE = {(module, name): pickles.INERT for module, names in _BESIDE.items() for name in names} | {
    ("collections", "OrderedDict"): lambda *_: {},
    ("collections", "defaultdict"): lambda *_: {},
    **{("torch", name): _Dtype(np.dtype(dtype)) for name, dtype in _STORAGES.items()},
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}


def _reference(pid: Any) -> _Storage:
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], _Dtype):
        raise ValueError("unknown reference")
    if not isinstance(pid[2], str) or (len(pid) > 5 and pid[5] is not None):
        raise ValueError("a view of a storage")
    return _Storage(pid[2], pid[1].name)


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, read-only views of the file; of one within a dictionary, see `unwrapped`.

    Raises UserError for a file that is not there, is no PyTorch file, is damaged, or asks for more than tensors.
    """
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.path.getsize(path) else b""
            whole = memoryview(content)
            described, storage = _read_zip(file, whole) if zipfile.is_zipfile(file) else _read_stream(file, whole)
        if not isinstance(described, dict):
            raise ValueError("no dictionary")
        state = unwrapped(described).items()
        tensors = {name: one for name, one in state if isinstance(one, _Tensor) and isinstance(name, str)}
        return {name: _array(one, storage) for name, one in tensors.items()}
    except OSError as error:
        why = files.diagnose(path) or f"{error.strerror}; check the path"
        raise UserError(f"cannot read the weights {path}: {why}") from error
    except pickles.Refused as error:
        raise UserError(
            f"the file asks to run {str(error)[:80]!r}, which is no part of a state dict; {path}; "
            "nothing was run: take the published file, or save model.state_dict() alone"
        ) from error
    except Exception as error:  # a damaged file can make the reader raise nearly anything
        other = files.diagnose(path)
        if other and "PyTorch" not in other and "pickle" not in other:
            raise UserError(f"cannot read the weights {path}: {other}") from error
        raise UserError(
            f"not a state dict that PyTorch saved, or damaged ({type(error).__name__}: {str(error)[:80]}); {path}; "
            "copy or download it again"
        ) from error


def unwrapped(state: Mapping) -> Mapping:
    """The state dict in what a training script saved: itself, or the dictionary under a name such as "state_dict"."""
    for _ in range(_DEPTH):
        name = next((name for name in _WRAPPERS if isinstance(state.get(name), Mapping)), None)
        if name is None:
            return state
        state = state[name]
    raise ValueError("dictionaries without an end")


def _read_zip(file: IO[bytes], whole: memoryview) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(file)
    if sum(info.file_size for info in archive.infolist()) > len(whole):  # they overlap, or are compressed
        raise ValueError("the archive's entries are larger than the file")
    (program,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = program.removesuffix("data.pkl")

    def entry(name):
        """The bytes of an entry, in place. PyTorch compresses none, so that none can be larger than the file."""
        info = archive.getinfo(f"{folder}{name}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(f"{name[:40]} is compressed, which PyTorch does not do")
        at = info.header_offset
        if whole[at : at + 4] != b"PK\3\4":
            raise ValueError("the archive's entries are not where it says")
        start = at + 30 + sum(int.from_bytes(whole[at + i : at + i + 2], "little") for i in (26, 28))
        data = whole[start : start + info.file_size]
        if len(data) < info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError(f"{name[:40]} is not what was saved")
        return data

    if f"{folder}byteorder" in archive.namelist() and entry("byteorder") != b"little":
        raise ValueError("big-endian numbers")
    if len(text := entry("data.pkl")) > _LONGEST_PROGRAM:
        raise ValueError("too long for a state dict")
    described = pickles.load(io.BytesIO(text), _TABLE, _reference)
    return described, functools.cache(lambda storage: np.frombuffer(entry(f"data/{storage.key}"), storage.dtype))


def _read_stream(file: IO[bytes], whole: memoryview) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    file.seek(0)
    dtypes = {}

    def reference(pid):
        found = _reference(pid)
        dtypes[found.key] = found.dtype
        return found

    load = functools.partial(pickles.load, file, _TABLE, reference)
    if load() != _MAGIC:
        raise ValueError("another kind of file")
    load()  # version
    if not load()["little_endian"]:
        raise ValueError("big-endian numbers")
    described, raw = load(), {}
    keys, at = load(), file.tell()
    for key in keys:
        count, dtype = int.from_bytes(whole[at : at + 8], "little", signed=True), dtypes[key]
        end = at + 8 + count * dtype.itemsize
        if count < 0 or end > len(whole):
            raise ValueError("the file ends too early")
        raw[key], at = np.frombuffer(whole[at + 8 : end], dtype), end
    return described, lambda storage: raw[storage.key]


def _array(tensor: _Tensor, storage: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    data = storage(tensor.storage)
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min((1, *tensor.shape)) < 1:
        raise ValueError("impossible shape")
    if max(tensor.offset + steps + 1, math.prod(tensor.shape)) > len(data):
        raise ValueError("a tensor is longer than its numbers")
    strides = [stride * data.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides, writeable=False)
