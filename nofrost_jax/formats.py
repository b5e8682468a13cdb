"""What a file is that is not what its name says: the ways in which downloads and copies of weights fail."""

import os
import zipfile

import numpy as np

_LFS = b"version https://git-lfs"
_TORCH_STREAM = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P"  # how PyTorch's older format begins


def describe(path) -> str:
    """What a file is instead of the wanted one, and how to get that one; "" where nothing is known of it.

    Reads its first and last bytes; runs nothing of it.
    """
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
        return "it is a web page, as sites send in place of a download; get the file itself"
    if text.startswith(_LFS):
        return "it is a Git LFS pointer, not the file; run: git lfs pull"
    if not head.strip(b"\0"):
        return "it begins with zeros, as an unfinished download; get it again"
    if head.startswith(_TORCH_STREAM):
        return "it is a PyTorch file"
    if head.startswith(b"PK"):
        return _describe_zip(path)
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file"
    if head.startswith(b"\x80"):
        return "it is a Python pickle, which is not read, since reading it may run anything"
    return ""


def _describe_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "it is cut off, or damaged: the end of the archive is missing; copy or download it again"
    if any(name.endswith("/data.pkl") for name in names):
        return "it is a PyTorch file"
    if names and all(name.endswith(".npy") for name in names):
        return "it is a NumPy .npz file"
    return "it is a zip archive of other things"


def reason(path, error) -> str:
    """`describe`, or what the error says where that knows nothing."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())[:160] or type(error).__name__
    return describe(path) or text


def read_npz(path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises ValueError that tells what else the file is, or what ails it."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
        if not all(isinstance(value, np.ndarray) for value in found.values()):
            raise ValueError("it holds something else than arrays")
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(reason(path, error)) from error
    return found
