"""Image folders with the odd files that real ones have."""

import shutil

import numpy as np
import pytest

from nofrost_jax import data
from nofrost_jax.data import checks
from nofrost_jax.errors import UserError
from tests.data.helpers import complaint, config, dataset_of, encoded, picture, write


@pytest.fixture
def tree(tmp_path):
    """Three classes with ordinary and odd files: 9 training images, 3 for evaluation."""
    for c, name in enumerate(("ant", "bee", "cat")):
        for i in range(2):
            write(tmp_path / "train" / name / f"{i}.JPEG", encoded(picture(10 * c + i)))
        write(tmp_path / "val" / name / "0.jpeg", encoded(picture(10 * c + 5)))
    write(tmp_path / "train" / "ant" / "cmyk.JPEG", encoded(picture(100), mode="CMYK"))
    write(tmp_path / "train" / "bee" / "grey.jpg", encoded(picture(101), mode="L"))
    write(tmp_path / "train" / "cat" / "really_png.JPEG", encoded(picture(102), kind="PNG"))
    for ignored in ("notes.txt", ".hidden.jpg"):
        write(tmp_path / "train" / "cat" / ignored, b"ignored")
    write(tmp_path / "train" / ".cache" / "x.jpg", b"ignored")
    return tmp_path


def settings_for(tree, **more):
    return config(f"folder:{tree}", **{"batch_size": 3, "num_classes": 3, **more})


def problem(settings) -> str:
    """The message of `check`; also that it is one line of three parts and that the dry run tells the same."""
    message = complaint(data.open, settings)
    assert data.examine(settings)[0][0] == message
    return message


def test_odd_files(tree):
    settings = settings_for(tree, batch_size=9)
    dataset = data.open(settings)
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes) == (9, 3, 3)
    assert (dataset.eval_split, dataset.eval_crop) == ("val", "centre 16")
    assert data.examine(settings)[0] == []
    batch = next(dataset_of(settings).train_batches(0))
    rows = zip(batch["index"].tolist(), batch["label"].tolist(), batch["image"], strict=True)
    by_index = {index: (label, image) for index, label, image in rows}
    assert [by_index[i][0] for i in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(by_index[8][1], picture(102)[7:23, 12:28])  # The PNG is exact.
    assert np.ptp(by_index[5][1].astype(int), axis=-1).max() == 0  # The grey one, last of its class.
    # CMYK: near the original, so neither inverted nor in another order.
    assert np.abs(by_index[2][1].astype(int) - picture(100)[7:23, 12:28]).mean() < 25


def test_augmented_training_reads_odd_files(tree):
    settings = settings_for(tree, batch_size=9, augmentation="random_resized_crop", eval_resize=18)
    data.open(settings)
    assert next(dataset_of(settings).train_batches(3))["image"].shape == (9, 16, 16, 3)


def test_relative_path_starts_at_data_dir(tree):
    assert data.open(config("folder:.", data_dir=str(tree), batch_size=3)).num_train == 9
    assert data.open(config(f"folder:{tree.name}", data_dir=str(tree.parent), batch_size=3)).num_train == 9


@pytest.mark.parametrize("name", ["val", "validation", "test", "mine"])
def test_evaluation_folder_names(tree, name):
    (tree / "val").rename(tree / name)
    assert data.open(settings_for(tree, eval_split="mine")).num_eval == 3


def test_configured_evaluation_folder_comes_first(tree):
    write(tree / "test" / "ant" / "0.jpg", encoded(picture(1)))
    assert data.open(settings_for(tree)).num_eval == 3
    assert data.open(settings_for(tree, eval_split="test")).num_eval == 1


@pytest.mark.parametrize("missing", ["train", "val"])
def test_missing_split(tree, missing):
    (tree / missing).rename(tree / "elsewhere")
    message = problem(settings_for(tree))
    assert str(tree) in message and f"{missing}/" in message and "expected" in message


def test_missing_folder(tmp_path):
    assert str(tmp_path / "nothing") in problem(settings_for(tmp_path / "nothing"))
    assert "neither" in problem(settings_for(tmp_path))
    (tmp_path / "train").mkdir()
    assert "no class folders" in problem(settings_for(tmp_path))


def test_empty_class(tree):
    (tree / "train" / "dog").mkdir()
    for num_classes in (3, 4):  # which it makes one too many, or not
        assert "train/dog" in problem(settings_for(tree, num_classes=num_classes))


def test_images_that_are_all_too_small(tree):
    """What helps is said; of one that is smaller than the others, that it can be replaced."""
    own = {"image_size": 64, "eval_resize": 0}
    message = problem(settings_for(tree, **own))
    for words in ("is smaller than image_size = 64", "data.eval_resize", "data.eval_pad=True", "data.image_size"):
        assert words in message and "replace" not in message
    assert data.open(settings_for(tree, **own, eval_pad=True))
    assert data.open(settings_for(tree, **own | {"eval_resize": 64}))
    write(tree / "train" / "ant" / "large.jpg", encoded(picture(1, 80, 80)))
    message = problem(settings_for(tree, **own))
    assert "is smaller than image_size = 64" in message and "replace it" in message


def test_class_only_in_evaluation(tree):
    write(tree / "val" / "dog" / "0.jpg", encoded(picture(1)))
    assert "dog does not occur" in problem(settings_for(tree, num_classes=4))


def test_class_missing_in_evaluation_does_not_shift_labels(tree):
    (tree / "val" / "ant" / "0.jpeg").unlink()
    (tree / "val" / "ant").rmdir()
    (batch,) = dataset_of(settings_for(tree)).eval_batches(3)
    assert batch["label"][batch["mask"]].tolist() == [1, 2]


@pytest.mark.parametrize("content", [b"", encoded(picture(1))[:400], b"<html>not found</html>"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_damaged_file(tree, content, split):
    write(tree / split / "bee" / "bad.jpg", content)
    assert f"{split}/bee/bad.jpg" in problem(settings_for(tree))


def test_large_folder_is_sampled(tree, monkeypatch):
    """Above the limit a sample is decoded: a million files must not be touched at every start."""
    monkeypatch.setattr(checks, "DECODE_ALL", 5)
    monkeypatch.setattr(checks, "SAMPLE", 2)
    write(tree / "train" / "bee" / "0.JPEG", b"not sampled")
    data.open(settings_for(tree))
    write(tree / "train" / "cat" / "really_png.JPEG", b"last, hence sampled")
    assert "really_png.JPEG" in problem(settings_for(tree))


def test_evaluation_needs_no_training_folder(tree):
    shutil.rmtree(tree / "train")
    assert "train/" in problem(settings_for(tree))
    spec = data.open(settings_for(tree), check=("evaluation",))
    assert (spec.num_eval, spec.eval_split) == (3, "val")


def test_numeric_labels(tmp_path):
    for split in ("train", "val"):
        for name in ("0", "2", "10"):
            write(tmp_path / split / name / "a.png", encoded(picture(int(name)), "PNG"))
    settings = settings_for(tmp_path, num_classes=11)
    assert data.open(settings).num_classes == 11
    (batch,) = dataset_of(settings).eval_batches(3)
    assert sorted(batch["label"].tolist()) == [0, 2, 10]
    few = settings_for(tmp_path, num_classes=10)
    assert "11 classes, the model 10" in problem(few)
    with pytest.raises(UserError, match=r"label 10 is outside the 10 classes.*/10/a\.png"):  # Without a check, too.
        list(dataset_of(few).eval_batches(3))


def test_too_many_classes(tree):
    message = problem(settings_for(tree, num_classes=2))
    assert "3 classes, the model 2" in message and "config.model.num_classes = 3" in message


def test_wordnet_ids(tmp_path):
    """With 1,000 classes configured a few ids mean their place in ImageNet's list; otherwise the local order."""
    pytest.importorskip("tensorflow_datasets")
    for split in ("train", "val"):
        for wnid in ("n01443537", "n02129165", "n07697537"):
            write(tmp_path / split / wnid / "a.jpg", encoded(picture(1)))
    assert data.open(settings_for(tmp_path, num_classes=1000)).num_classes == 1000
    (batch,) = dataset_of(settings_for(tmp_path, num_classes=1000)).eval_batches(3)
    assert batch["label"].tolist() == [1, 291, 934]
    (batch,) = dataset_of(settings_for(tmp_path)).eval_batches(3)
    assert batch["label"].tolist() == [0, 1, 2]
    write(tmp_path / "train" / "n99999999" / "a.jpg", encoded(picture(1)))
    assert "n99999999" in problem(settings_for(tmp_path, num_classes=1000))


def test_settings_are_checked(tree):
    assert "fewer than one batch of 64" in problem(settings_for(tree, batch_size=64))
    assert "eval_resize = 8" in problem(settings_for(tree, eval_resize=8))
    assert "eval_resize = 256" in problem(settings_for(tree, eval_resize=256))


def test_everything_missing_is_listed(tree):
    write(tree / "train" / "ant" / "bad.jpg", b"")
    write(tree / "val" / "ant" / "bad.jpg", b"")
    assert len(data.examine(settings_for(tree, num_classes=2, eval_resize=8))[0]) == 4


def test_known_sources():
    known = ["digits", "fake", "tfds:cifar10", "tfds:imagenet_v2/topimages", "folder:/x", "folder:C:/x"]
    assert all(data.is_known(name) for name in known)
    assert not any(data.is_known(name) for name in ["", "tfds", "tfds:", "folder:", "digits:8", "mnist", "fake:", ":"])
