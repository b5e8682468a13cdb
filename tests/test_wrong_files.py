"""Files in place of weights are named for what they are, wherever weights are read; none is run."""

import pickle
import zipfile

import numpy as np
import pytest

from nofrost_jax import checkpoint, files
from nofrost_jax.errors import UserError
from nofrost_jax.weights import torch_file

torch = pytest.importorskip("torch", reason="PyTorch writes the files: requirements-parity.txt")

CASES = {
    "empty": "it is empty",
    "page": "it is a web page",
    "pointer": "it is a Git LFS pointer",
    "zeros": "it starts with zeros",
    "cut": "it is damaged or cut off",
    "folder": "it is a folder",
    "pickle": "it is a Python pickle",
    "torch": "it is a PyTorch file",
    "old torch": "it is a PyTorch file",
    "other zip": "it is a zip archive of something else",
}


def make(path, case):
    if case == "folder":
        path.mkdir()
    elif case in ("torch", "old torch"):
        torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=case == "torch")
    elif case == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "x")
    elif case == "cut":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(1000))
        path.write_bytes(path.read_bytes()[:2000])
    else:
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        page, whole = b"\n<!DOCTYPE html>\n<html>Sign in</html>", pickle.dumps({"a": 1}, 2)
        path.write_bytes({"empty": b"", "page": page, "pointer": pointer, "zeros": bytes(99), "pickle": whole}[case])


@pytest.mark.parametrize("case", CASES)
def test_what_is_there_instead_is_told(tmp_path, case):
    make(tmp_path / "model.safetensors", case)
    make(tmp_path / "model.pt", case)
    assert files.diagnose(tmp_path / "model.safetensors").startswith(CASES[case])
    refusals = [(checkpoint.load_export, tmp_path)]
    if case not in ("pickle", "torch", "old torch", "other zip"):
        refusals.append((torch_file.read, str(tmp_path / "model.pt")))
    for read, path in refusals:
        with pytest.raises(UserError) as caught:
            read(path)
        message = str(caught.value)
        assert CASES[case] in message and str(path) in message and "\n" not in message
        assert "allow_pickle" not in message and "weights_only" not in message


def test_a_config_json_that_is_something_else_is_told_too(tmp_path):
    make(tmp_path / "config.json", "pointer")
    with pytest.raises(UserError, match="Git LFS pointer"):
        checkpoint.read_config(tmp_path)


def test_nothing_is_said_of_what_is_as_it_should_be(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    assert files.diagnose(tmp_path / "a.npz") == "it is a NumPy .npz file"
    (tmp_path / "b").write_bytes(b"PNG and the like")
    assert files.diagnose(tmp_path / "b") == files.diagnose(tmp_path / "none") == ""
    assert files.reason(tmp_path / "b", ValueError("of\n its own")) == "of its own"
