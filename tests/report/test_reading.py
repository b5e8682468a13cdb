"""Archives of arrays are read without running anything, and refused before what NumPy did not write is unpacked."""

import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from nofrost_jax.report import reading
from nofrost_jax.report.collect import collect
from tests.report import made


class Hostile:
    """A pickle that leaves a file behind if anybody loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def with_a_corrupt_stream(path):
    """Each way of compressing raises errors of its own, here lzma.LZMAError."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("index.npy", np.random.default_rng(0).bytes(1000))
    content = bytearray(path.read_bytes())
    content[60:80] = b"\xff" * 20
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "words"), [(os.mkfifo, "it is not a file"), (with_a_corrupt_stream, "NumPy compresses nothing")]
)
def test_a_pipe_and_other_ways_of_compressing_are_refused(tmp_path, make, words):
    make(tmp_path / "paper.npz")
    with pytest.raises(ValueError, match=words):
        reading.read_arrays(str(tmp_path / "paper.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    save(tmp_path / "paper.npz", index=np.arange(3))
    assert reading.read_arrays(str(tmp_path / "paper.npz"))["index"].tolist() == [0, 1, 2]


def evaluation(tmp_path, arrays=None):
    made.write(tmp_path, made.result(made.net()), arrays)
    return collect(tmp_path).evaluations[0]


def test_arrays_are_read_when_asked_for(tmp_path):
    assert evaluation(tmp_path).arrays() == {}
    found = evaluation(tmp_path, made.arrays([True, False], pgd_20=np.array([True, False]))).arrays()
    assert found["pgd_20"].tolist() == [True, False]


def test_a_pickle_in_an_npz_is_not_loaded(tmp_path):
    mark = tmp_path / "mark"
    one = evaluation(tmp_path, {"index": np.array([Hostile(mark)], dtype=object)})
    with pytest.raises(ValueError, match="Python pickle, which is not read"):
        one.arrays()
    assert not mark.exists()
    np.load(tmp_path / "evaluations" / "paper.npz", allow_pickle=True)["index"]
    assert mark.exists()  # it would have been


def bomb(path):
    """257 MiB of zeros in a quarter of a MiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("index.npy", "w") as file:
        for _ in range(257):
            file.write(bytes(1 << 20))


def header(path, shape):
    """An array that claims to be larger than it is."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("index.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})


def truncated(path):
    np.savez(path, index=np.arange(1000))
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (bomb, "too many for a result"),
        (lambda path: header(path, (1 << 60,)), "cannot be read"),
        (lambda path: header(path, (-1,)), "cannot be read"),
        (truncated, "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(pickle.dumps([1])), "cannot be read"),
        (lambda path: path.write_text("<html>"), "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: np.savez(path, index=np.zeros((2, 2))), "not a list of numbers"),
        (lambda path: np.savez(path, index=np.array(["a"])), "not a list of numbers"),
        (lambda path: zipfile.ZipFile(path, "w").writestr("notes.txt", "x"), "cannot be read|not a list"),
    ],
)
def test_a_bad_npz_is_a_short_error(tmp_path, make, words):
    one = evaluation(tmp_path)
    make(tmp_path / "evaluations" / "paper.npz")
    with pytest.raises(ValueError, match=words) as found:
        one.arrays()
    assert "\n" not in str(found.value)
