"""Archives of arrays that nobody wrote with NumPy are refused before anything in them is unpacked."""

import os
import zipfile

import numpy as np
import pytest

from nofrost_jax.report import reading


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
