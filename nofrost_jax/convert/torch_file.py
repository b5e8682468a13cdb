"""Reads a PyTorch state dict without PyTorch, and without running what a pickle may ask for.

A `.pt` file is a pickle program and raw numbers. The reader only lets it build dictionaries and descriptions of
tensors, and refuses any other name. It reads zip files (PyTorch >= 1.6) and the older single-stream format.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from nofrost_jax import files
from nofrost_jax.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C  # begins a file of the older format
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # where training scripts put the state dict


class _Storage(NamedTuple):
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Refused(Exception):
    """The pickle asks for something that a state dict does not need."""


class _Reader(pickle.Unpickler):
    """`find_class` returns new objects, so a pickle that sets attributes on them changes nothing else.

    dtypes: those of the storages met, by key.
    """

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.dtypes: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return type("OrderedDict", (dict,), {})
        if module == "torch" and name in _STORAGES:
            dtype = _STORAGES[name]
            return type(name, (), {"dtype": ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype})
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, tuple(shape), tuple(strides))
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda tensor, *_: tensor
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("unknown reference")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("a view of a storage")
        self.dtypes[str(pid[2])] = pid[1].dtype
        return _Storage(str(pid[2]), pid[1].dtype)


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name; of one within a dictionary, see `unwrapped`.

    Raises UserError for a file that is not there, is no PyTorch file, is damaged, or asks for more than tensors.
    """
    try:
        with open(path, "rb") as file:
            whole = file.read()
    except OSError as error:
        why = files.diagnose(path) or f"{error.strerror}; check the path"
        raise UserError(f"cannot read the weights {path}: {why}") from error
    try:
        described, storage = _read_zip(whole) if zipfile.is_zipfile(io.BytesIO(whole)) else _read_stream(whole)
        if not isinstance(described, dict):
            raise ValueError("no dictionary")
        state = unwrapped(described).items()
        return {str(name): _array(value, storage) for name, value in state if isinstance(value, _Tensor)}
    except _Refused as error:
        raise UserError(
            f"the file asks to run {str(error)[:80]!r}, which is no part of a state dict; {path}; "
            "nothing was run: take the published file, or save model.state_dict() alone"
        ) from error
    except Exception as error:  # a damaged pickle can make the unpickler raise nearly anything
        other = files.diagnose(path)
        if other and "PyTorch" not in other and "pickle" not in other:
            raise UserError(f"cannot read the weights {path}: {other}") from error
        raise UserError(
            f"not a state dict that PyTorch saved, or damaged ({type(error).__name__}: {str(error)[:80]}); {path}; "
            "copy or download it again"
        ) from error


def unwrapped(state: dict) -> dict:
    """The state dict in what a training script saved: itself, or the dictionary under a name such as "state_dict"."""
    while name := next((name for name in _WRAPPERS if isinstance(state.get(name), Mapping)), None):
        state = state[name]
    return state


def _read_zip(whole: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(io.BytesIO(whole))
    (program,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = program.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("big-endian numbers")
    described = _Reader(io.BytesIO(archive.read(program))).load()
    return described, lambda storage: np.frombuffer(archive.read(f"{folder}data/{storage.key}"), storage.dtype)


def _read_stream(whole: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    file = io.BytesIO(whole)
    if _Reader(file).load() != _MAGIC:
        raise ValueError("another kind of file")
    _Reader(file).load()  # version
    if not _Reader(file).load()["little_endian"]:
        raise ValueError("big-endian numbers")
    reader = _Reader(file)
    described = reader.load()
    raw = {}
    for key in _Reader(file).load():
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        size = count * np.dtype(reader.dtypes[key]).itemsize
        data = file.read(size)
        if count < 0 or len(data) < size:
            raise ValueError("the file ends too early")
        raw[key] = np.frombuffer(data, reader.dtypes[key])
    return described, lambda storage: raw[storage.key]


def _array(tensor: _Tensor, storage: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    data = storage(tensor.storage)
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or min((0, *tensor.strides)) < 0 or min((1, *tensor.shape)) < 1:
        raise ValueError("impossible shape")
    if max(tensor.offset + steps + 1, math.prod(tensor.shape)) > len(data):
        raise ValueError("a tensor is longer than its numbers")
    strides = [stride * data.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides).copy()
