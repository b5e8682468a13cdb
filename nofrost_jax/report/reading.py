"""Files that nobody may trust, read with care: nothing in them is executed, sizes are bounded, every value that the
report uses is checked. What is wrong with a file is a ValueError of one line."""

import json
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nofrost_jax import files

MAX_JSON = 64 << 20  # bytes; a result has about 10,000
MAX_ARRAYS, MAX_COLUMNS = 256 << 20, 4096  # bytes of an .npz when unpacked; arrays in it
BROKEN = OSError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error  # by a bad .npz
SKIPPED = ("outcomes", "checkpoints")  # folders of a run without results, with many files
Spec = dict | list | Callable[[Any], bool]


def json_files(folder: str) -> Iterator[tuple[str, str]]:
    """(path below `folder`, "") of every JSON file there, in order, or (path, why it cannot be looked at). Links are
    followed, each folder is visited once."""
    seen, waiting = set(), [""]
    while waiting:
        below, inner = waiting.pop(), []
        try:
            status = os.stat(os.path.join(folder, below))
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(folder, below)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield below or ".", f"this folder cannot be read ({error.strerror})"
            continue
        for entry in found:
            path = os.path.join(below, entry.name)
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                yield path, f"it cannot be read ({error.strerror})"
                continue
            if is_folder and entry.name not in SKIPPED and not entry.name.startswith("."):
                inner.append(path)
            elif entry.name.endswith(".json") and not is_folder and not files.is_temporary(entry.name):
                yield path, ""
        waiting += reversed(inner)


def read_json(path: str) -> Any:
    """The value in a JSON file of bounded size, without its seal. Raises ValueError."""
    try:
        size = _size(path)
        if size > MAX_JSON:
            raise ValueError(f"it has {size >> 20} MiB; a result has less than {MAX_JSON >> 20}")
        with open(path, "rb") as file:
            content = file.read(MAX_JSON)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        why = files.diagnose(path) or " ".join(str(error).split())[:100]
        raise ValueError(f"it is not JSON: {why}") from error
    return files.unsealed(value)


def _size(path: str) -> int:
    """Of a file in bytes. Raises OSError, and ValueError for a pipe, from which reading would wait for ever."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a file")
    return status.st_size


def check_archive(path: str, most: int = MAX_ARRAYS) -> None:
    """Raises ValueError, OSError or BadZipFile unless a file is a zip archive as NumPy writes it, which unpacks to at
    most so many bytes."""
    _size(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if size > most or len(entries) > MAX_COLUMNS:
        raise ValueError(f"it would unpack to {size >> 20} MiB in {len(entries)} arrays, too many for a result")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise ValueError("it is compressed in a way in which NumPy compresses nothing")


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """{name: array [N]} of numbers in an .npz file of bounded size; {} where there is no file. Raises ValueError."""
    try:
        if not os.path.exists(path):
            return {}
        check_archive(path)
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
    except (ValueError, *BROKEN) as error:
        if "allow_pickle" in str(error):
            raise ValueError("an array in it is a Python pickle, which is not read: it could run any code") from error
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(f"it cannot be read ({why})") from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "biuf":
            raise ValueError(f"{short(name)} in it is not a list of numbers")
    return found


def check(value: Any, spec: Spec, where: str = "") -> None:
    """Raises ValueError unless a JSON value has a form. spec: {field: spec}, where a field with ? may be absent or
    null, and {"*": spec} is for all fields; [spec] for a list; or a test, whose docstring says what it wants."""
    if isinstance(spec, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'it'} is not an object")
        for field, inner in (dict.fromkeys(value, spec["*"]) if "*" in spec else spec).items():
            name = field.rstrip("?")
            if value.get(name) is not None:
                check(value[name], inner, f"{where}.{name}".lstrip("."))
            elif name == field:
                raise ValueError(f"it lacks {where}.{name}".replace("lacks .", "lacks "))
    elif isinstance(spec, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} is not a list")
        for number, one in enumerate(value):
            check(one, spec[0], f"{where}[{number}]")
    elif not spec(value):
        raise ValueError(f"{where} is {short(value)}, not {spec.__doc__}")


def short(value: Any) -> str:
    """A value as a short text of one line, without control characters."""
    letters = printable((value if isinstance(value, str) else json.dumps(value, default=str))[:81])
    return letters if len(letters) <= 80 else f"{letters[:77]}..."


def printable(letters: str) -> str:
    """A text of one line, with ? for control characters and what is not Unicode."""
    return "".join(letter if letter.isprintable() else "?" for letter in letters)


def text(value: Any) -> bool:
    """a text of at most 4,096 letters"""
    return isinstance(value, str) and len(value) <= 4096


def number(value: Any) -> bool:
    """a finite number"""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < 1e300 and math.isfinite(value)


def share(value: Any) -> bool:
    """a number from 0 to 1"""
    return number(value) and 0 <= value <= 1


def whole(value: Any) -> bool:
    """a whole number"""
    return number(value) and value == int(value)


def count(value: Any) -> bool:
    """a whole number from 0 on"""
    return whole(value) and value >= 0


def interval(value: Any) -> bool:
    """two numbers in order"""
    return isinstance(value, list) and len(value) == 2 and all(map(number, value)) and value[0] <= value[1]


def boolean(value: Any) -> bool:
    """true or false"""
    return isinstance(value, bool)


SHARE = {"accuracy": share, "ci95": interval, "n": count}
MEAN = {"mean?": number, "ci95?": interval, "sd": number, "n": count}
ATTACK = {
    "name": text,
    "robust_accuracy": share,
    "ci95": interval,
    "n": count,
    "epsilon_255": number,
    "flags": [text],
    **{f"{name}?": text for name in ("norm", "attack", "count", "step_rule", "protocol", "weaker_than")},
    **{f"{name}?": count for name in ("steps", "queries")},
}
NET = {
    **dict.fromkeys(("model", "norm", "method", "attack_norm"), text),
    **dict.fromkeys(("width", "adversarial_weight", "epsilon_255", "epochs"), number),
    "stage_sizes": [count],
    "terms?": text,
    "pgdat_clean_forward?": boolean,
    "batch_size": count,
    "seed": whole,
}
RESULT = {  # schema 1 (nofrost_jax/evaluation/results.py, nofrost_jax/shift/run.py), as far as the report uses it
    "name": text,
    "checkpoint": {"path": text, "step": whole, "params_sha256": text, "file?": text},
    "dataset": {
        **dict.fromkeys(("source", "split", "label_set"), text),
        "n": count,
        **{f"{name}?": text for name in ("index_sha256", "choice", "crop")},
        "of?": count,
    },
    "asked?": {"data?": {"contents?": text}, "evaluation?": {"limit?": count, "ids?": text, "classes?": count}},
    "recipe?": text,
    "net?": NET,
    "mbn?": {"gamma": share, "interpolation": text, "p?": share, "seed?": whole},
    "clean?": SHARE,
    "attacks": [ATTACK],
    "flags": [text],
    "convergence?": [{"epsilon_255": number, "n": count, "accuracy": {"*": share}, "converged?": boolean}],
    "shift?": [SHARE | {"name": text, "flags": [text]}],
    "corruptions?": {
        "name": text,
        "mean_accuracy": share,
        "imagenet_c_crop?": text,
        "cells": [SHARE | {"corruption": text, "severity": count}],
        "flags": [text],
    },
    "properties?": dict.fromkeys(("margin?", "thickness?", "thickness_pixels?", "smoothness?"), MEAN),
    "bn_statistics?": [{"reading": text, "number": count, "layer": text, "mean": [number], "var": [number]}],
}
REPRODUCE = {"scale": text, "source": text, "files": text, "settings": {"*": text}}  # of tools.reproduce, of its folder
STUDY = {  # what tools.reproduce writes of a study
    "study": text,
    "rows": [text],
    "seeds": [whole],
    "rates": [number],
    "rule": text,
    "chosen": {"*": number},
    "runs": [
        {
            "row": text,
            "seed": whole,
            "learning_rate": number,
            "clean": share,
            "attacks": {"*": share},
            "flags": {"*": [text]},
            "attacked": {"*": count},
            "n": count,
            "epsilon_255?": number,
            "seconds": number,
        }
    ],
}
