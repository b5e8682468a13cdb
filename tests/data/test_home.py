"""`~` means the home folder wherever the data room reads or writes a path."""

import pytest

import nofrost_jax
from nofrost_jax import data
from nofrost_jax.augment.deepaugment import weights
from nofrost_jax.classifier import Classifier
from nofrost_jax.corruptions import textures
from nofrost_jax.tools.corrupt import __main__ as corrupt
from nofrost_jax.workdir import check_start
from tests.conftest import tiny_config
from tests.data.helpers import config, dataset_of, encoded, picture, write
from tests.evaluation.suite import make_run


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a tree of images; nothing in it is to be called ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        for i in range(2):
            write(tmp_path / f"own/{split}/{'ab'[i]}/{i}.png", encoded(picture(i, 16, 16), "PNG"))
    yield tmp_path
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("place", [("folder:~/own", ""), ("folder:own", "~"), ("folder:~/own", "/nowhere")])
def test_folders(home, place):
    source, data_dir = place
    settings = config(source, data_dir=data_dir, num_classes=2, batch_size=2)
    assert data.open(settings).num_train == 2
    assert data.is_present(settings.data.source, "") and len(dataset_of(settings).fingerprint) == 64


def test_deepaugments_folders_and_weights(home):
    settings = config("folder:~/own", num_classes=2, views=("clean", "deepaugment"))
    settings.deepaugment = {"mode": "files", "folders": ("~/own/train",), "sources": ("edsr",)}
    assert dataset_of(settings).trees[0].root == str(home / "own/train")
    with pytest.raises(nofrost_jax.errors.UserError, match=str(home / "a.pt")):
        weights.load("~/a.pt", ("edsr",))


def test_frosts_textures(home):
    with pytest.raises(nofrost_jax.errors.UserError, match=str(home / "frost")):
        textures.load("~/frost")


def test_where_corrupted_copies_go(home, monkeypatch):
    written = []
    monkeypatch.setattr(corrupt.tree, "write", lambda originals, output, *_: written.append(output) or originals.count)
    corrupt.main(["--source=folder:~/own", "--side=16", "--output=~/copies"])
    assert written == [f"{home}/copies"]


def test_runs_to_load_and_to_start_from(home):
    make_run(home / "run", "nofrost")
    assert isinstance(nofrost_jax.load("~/run"), Classifier)
    check_start(tiny_config(start_from="~/run"), "")
