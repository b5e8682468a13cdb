"""Image trees without a level of splits, the names of classes, and whether data is there at all."""

import numpy as np
import pytest

from nofrost_jax import data
from nofrost_jax.data import folder
from nofrost_jax.errors import UserError
from tests.data.helpers import complaint, config, encoded, picture, write


def tree(root, names, per_class=2):
    for position, name in enumerate(names):
        for i in range(per_class):
            write(root / name / f"{i}.JPEG", encoded(picture(10 * position + i)))
    return root


def settings(root, num_classes, **more):
    return config(f"folder:{root}", num_classes=num_classes, eval_split=".", **more)


def labels(config, names=()):
    dataset = data.open(config, (), names)
    (batch,) = dataset.eval_batches(8)
    found = batch["label"][batch["mask"]]
    np.testing.assert_array_equal(dataset.eval_labels, found)
    return found.tolist()


def test_classes_lie_in_the_folder_itself(tmp_path):
    one = settings(tree(tmp_path / "flat", ["ant", "bee", "train"]), 3)  # a class may be called like a split
    spec = data.open(one, ("evaluation",))
    assert (spec.num_eval, spec.num_classes, spec.eval_split) == (6, 3, ".")
    assert labels(one) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(UserError, match=r"no folder train/"):
        data.open(one)


def test_names_of_classes(tmp_path):
    some, names = settings(tree(tmp_path / "some", ["cat", "bee"]), 3), ("ant", "bee", "cat")
    assert labels(some, names) == [1, 1, 2, 2] and data.open(some, (), names).class_names == names
    told = complaint(data.open, some, ("evaluation",))
    assert "only 2 of 3 classes exist, and the labels of their names (bee, ...)" in told and told.endswith(
        "label in training, 0 to 2"
    )
    for label, name in ((1, "bee"), (2, "cat")):
        (tmp_path / "linked").mkdir(exist_ok=True)
        (tmp_path / f"linked/{label}").symlink_to(tmp_path / "some" / name)
    assert labels(settings(tmp_path / "linked", 3)) == [1, 1, 2, 2]
    some.model.num_classes = 2
    assert labels(some) == [0, 0, 1, 1] and data.open(some, ()).class_names == ("bee", "cat")
    with pytest.raises(UserError, match=r"cat is not one of the 2 classes \(ant, bee, \.\.\.\); .*rename or remove"):
        data.open(some, ("evaluation",), ("ant", "bee"))


def test_numbers_mean_themselves_whatever_the_classes_are_called(tmp_path):
    numbered, names = settings(tree(tmp_path, ["10", "9"]), 1000), ("n00000001",)
    assert labels(numbered, names) == [10, 10, 9, 9] and data.open(numbered, (), names).class_names == ()


def test_some_of_imagenets_classes(tmp_path):
    wnids = folder._imagenet_wnids()
    some = settings(tree(tmp_path, [wnids[291], wnids[1]]), 1000)
    assert labels(some) == [1, 1, 291, 291] and data.open(some, ()).class_names == tuple(wnids)
    assert data.open(some, ("evaluation",)).num_classes == 1000


@pytest.mark.parametrize("is_flat", [True, False])
def test_the_same_ids_have_the_same_labels_or_it_is_said(tmp_path, is_flat):
    """By their places in ImageNet's list for 1,000 classes, by their order for as many; nobody guesses otherwise."""
    wnids = folder._imagenet_wnids()
    some = settings(tree(tmp_path / "val", [wnids[291], wnids[1], wnids[7]]), 3)
    if not is_flat:
        tree(tmp_path / "train", [wnids[291], wnids[1], wnids[7]])
        some.data.update(source=f"folder:{tmp_path}", eval_split="val")
    else:
        some.data.source = f"folder:{tmp_path}/val"
    assert labels(some) == [0, 0, 1, 1, 2, 2]
    (note,) = data.open(some, ("evaluation",)).notes
    assert note == "3 WordNet ids have the labels 0 to 2 in sorted order, not ImageNet's"
    some.model.num_classes = 1000
    assert labels(some) == [1, 1, 7, 7, 291, 291] and data.open(some, ("evaluation",)).notes == ()
    for other in (4, 100, 999, 1001):
        some.model.num_classes = other
        message = complaint(data.open, some, ("evaluation",))
        assert f"3 class folders have WordNet ids ({wnids[1]}, ...) and the net has {other}" in message
        assert "config.model.num_classes = 3, or 1000" in message
        assert message.endswith(f"label in training, 0 to {other - 1}")
    some.model.num_classes, names = 300, tuple(wnids[:300])
    assert labels(some, names) == [1, 1, 7, 7, 291, 291] and data.open(some, ("evaluation",), names).notes == ()


def is_present(config):
    return data.is_present(config.data.source, config.data.data_dir)


def test_is_present(tmp_path):
    assert is_present(config("digits")) and is_present(config("fake"))
    assert not is_present(settings(tmp_path / "nothing", 3))
    assert is_present(config("folder:x", data_dir=str(tree(tmp_path / "x", ["ant"]).parent)))
    write(tmp_path / "loose/ant.JPEG", encoded(picture(1)))
    (tmp_path / "loose/.hidden").mkdir()
    assert not is_present(settings(tmp_path / "loose", 3))  # nothing was unpacked there
    assert not is_present(config("tfds:imagenet_v2/topimages:3.0.0", data_dir=str(tmp_path)))


def test_errors_show_the_layout_without_splits(tmp_path):
    def problem(root, num_classes=3):
        return complaint(data.open, settings(root, num_classes), ("evaluation",))

    layout = f"expected {tmp_path}/none/CLASS/NAME.jpg"
    assert problem(tmp_path / "none").endswith(layout)
    (tmp_path / "none").mkdir()
    assert problem(tmp_path / "none").endswith(layout)
    assert problem(tmp_path / "none", 1000).endswith(f"{layout}, CLASS being a WordNet id or a label")


@pytest.mark.parametrize(
    ("splits", "one"), [(["train", "val"], "val"), (["test", "train"], "test"), (["train"], "train")]
)
def test_splits_in_the_place_of_classes(tmp_path, splits, one):
    """The message says which folder to give instead, however the classes are called."""
    for split in splits:
        tree(tmp_path / "own" / split, ["ant", "bee"])
    for known in ((), ("ant", "bee")):
        relative = config("folder:own", data_dir=str(tmp_path), num_classes=2, eval_split=".", class_names=known)
        message = complaint(data.open, relative, ("evaluation",))
        assert message.endswith(f"give one split, folder:own/{one}") and str(tmp_path / "own") in message
