"""Which images of an evaluation split are evaluated: the same ones of any source."""

import numpy as np
import pytest

from nofrost_jax import data
from nofrost_jax.data.choice import Choice, ranks
from nofrost_jax.data.sources import Listed
from tests.data.helpers import complaint, config, dataset_of, encoded, picture, write


def indices(settings, choice, batch_size=8):
    batches = list(dataset_of(settings, choice).eval_batches(batch_size))
    return np.concatenate([batch["index"][batch["mask"]] for batch in batches]).tolist(), batches


@pytest.fixture
def tree(tmp_path):
    """val/CLASS/N.png: 4 classes of 6 images; the image of a class and a number has them as its first pixel."""
    for c, name in enumerate(("n01", "n02", "n03", "n04")):
        for i in range(6):
            image = picture(0, 16, 16)
            image[0, 0] = c, i, 0
            write(tmp_path / "val" / name / f"{c}_{i}.png", encoded(image, "PNG"))
    return tmp_path


def of_tree(tree, **more):
    return config(f"folder:{tree}", num_classes=4, **more)


def test_a_folder_gives_every_class_its_share(tree):
    places, batches = indices(of_tree(tree), Choice(8))
    assert places == [0, 3, 6, 9, 12, 15, 18, 21]
    assert batches[0]["label"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batches[0]["image"][:, 0, 0, :2].tolist() == [[c, i] for c in range(4) for i in (0, 3)]


@pytest.mark.parametrize("source", ["digits", "fake"])
@pytest.mark.parametrize("count", [1, 20, 21])
def test_sources_without_files_spread_over_the_classes(source, count):
    settings = config(source, image_size=8, fake_eval=90)
    places, batches = indices(settings, Choice(count), batch_size=24)
    labels = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    assert places == sorted(places) and len(places) == count
    if count >= 20:
        assert np.ptp(np.bincount(labels, minlength=10)) <= 1
    images = np.concatenate([batch["image"] for batch in dataset_of(settings).eval_batches(8)])
    np.testing.assert_array_equal(batches[0]["image"][:count], images[places])


def test_a_limit_that_is_no_limit_takes_all():
    settings = config("digits", image_size=8)
    for limit in (0, 360, 10**6):
        assert indices(settings, Choice(limit), 100)[0] == list(range(360))


def test_ranks_are_the_order_of_the_classes():
    settings = config("digits", image_size=8)
    labels = dataset_of(settings).eval_labels
    ranks = dataset_of(settings).eval_ranks
    assert sorted(ranks) == list(range(360))
    assert labels[np.argsort(ranks)].tolist() == sorted(labels)
    places, _ = indices(settings, Choice(50))
    some = dataset_of(settings, Choice(50)).eval_ranks
    assert sorted(some) == list(range(50)) and labels[places][np.argsort(some)].tolist() == sorted(labels[places])


def test_the_first_classes(tree):
    assert indices(of_tree(tree), Choice(classes=2))[0] == list(range(12))
    assert indices(of_tree(tree), Choice(4, classes=2))[0] == [0, 3, 6, 9]
    assert indices(of_tree(tree), Choice(0, ("3_1.png", "1_4.png"), classes=2))[0] == [10]
    assert dataset_of(of_tree(tree), Choice(4, classes=2)).count == 4
    assert Choice(classes=2).plain == {"classes": 2} and str(Choice(classes=2)) == "the first 2 classes"
    later = Choice(0, ("3_1.png",), classes=2)
    assert "none of these images is of the first 2 classes" in complaint(
        lambda: dataset_of(of_tree(tree), later).places
    )


def listed(tree, *lines):
    path = tree / "ids.txt"
    path.write_text("\n".join(lines))
    return Choice.read(0, str(path))


@pytest.mark.parametrize(
    "lines",
    [
        ("val/n03/2_1.png", "val/n01/0_5.png"),
        ("n03/2_1.png", "# a note", "", "n01/0_5.png  # another"),
        ("2_1.png", "  0_5.png  "),
        ("/data/imagenet/val/n03/2_1.png", "./n01/0_5.png"),
        ("n99/2_1.png", "0_5.png"),  # folders of a tree whose classes are called otherwise
        ("13", "5"),
    ],
)
def test_a_list_names_images(tree, lines):
    choice = listed(tree, *lines)
    assert choice.count(24) == 2
    assert indices(of_tree(tree), choice)[0] == [5, 13]


def test_a_list_is_told_by_its_lines_alone(tree):
    one, other = listed(tree, "n03/2_1.png", "n01/0_5.png"), listed(tree, "n01/0_5.png", "", "n03/2_1.png")
    assert one.plain == other.plain != listed(tree, "n01/0_5.png").plain
    assert Choice().plain == {} and Choice(5).plain != Choice(6).plain
    assert str(Choice(5)) == "evenly spread" and str(one) == "of ids.txt"


def test_a_limit_spreads_over_a_list(tree):
    choice = Choice(3, tuple(f"{c}_{i}.png" for c in (3, 1, 0) for i in (4, 2)))
    assert choice.count(24) == 3 and indices(of_tree(tree), choice)[0] == [2, 8, 20]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("n03/2_1.png", "n03/2_9.png", "n03/2_8.png"), "2 of 3 ids are none of the 24 images, the first is n03/2_9"),
        (("n01/2_1.png",), "1 of 1 ids"),  # the file lies in another class
        (("24",), "none of the 24 images"),
        (("n03/2_1.png", "2_1.png"), "n03/2_1.png and 2_1.png are the same image"),
        (("2_1.png", "2_1.png"), "list of images twice"),
        (("# nothing",), "no ids"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tree, lines, words):
    path = tree / "ids.txt"
    path.write_text("\n".join(lines))
    settings = of_tree(tree)
    settings.evaluation = {"limit": 0, "ids": str(path), "classes": 0}
    message = complaint(data.open, settings, ("evaluation",))
    assert words in message and str(path) in message


def test_a_name_that_several_images_have_needs_its_class(tree):
    for name in ("n01", "n02"):
        write(tree / "val" / name / "same.png", encoded(picture(1, 16, 16), "PNG"))
    assert "may be any of 2" in complaint(dataset_of(of_tree(tree), listed(tree, "same.png")).eval_batches, 8)
    assert indices(of_tree(tree), listed(tree, "n02/same.png"))[0] == [13]


def test_lists_that_cannot_be_read(tree):
    assert "cannot read the list" in complaint(Choice.read, 0, str(tree / "nowhere.txt"))
    (tree / "binary").write_bytes(b"\xff\xfe\x80")
    assert "no text" in complaint(Choice.read, 0, str(tree / "binary"))
    assert "no file names" in complaint(dataset_of(config("fake"), listed(tree, "a.png")).eval_batches, 8)
    assert indices(config("fake"), listed(tree, "7", "3"))[0] == [3, 7]


def test_a_home_folder_is_understood(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    (tree / "ids.txt").write_text("3")
    assert Choice.read(0, "~/ids.txt").ids == ("3",)


def test_held_out_images_have_names(tree):
    (tree / "val").rename(tree / "train")
    settings = of_tree(tree, holdout=6, eval_split="holdout")
    _, batches = indices(settings, listed(tree, "n02/1_4.png", "n01/0_2.png"))
    assert batches[0]["image"][batches[0]["mask"]][:, 0, 0, :2].tolist() == [[0, 2], [1, 4]]


class Named(Listed):
    """A split whose files lie in another order than their names, as tfds has them."""

    images = None

    def __init__(self, labels, names):
        self.labels, self._names = np.array(labels, np.int32), names

    def listing(self):
        return self.labels, self._names


def test_names_tell_the_order_within_a_class():
    split = Named([1, 0, 1, 0, 1, 0], ["f", "c", "d", "a", "e", "b"])
    ordered = [3, 5, 1, 2, 4, 0]  # a b c, d e f
    for count in (1, 2, 3, 4):
        assert Choice(count).places(split).tolist() == sorted(ordered[i * 6 // count] for i in range(count))
    assert ranks(split, np.arange(6)).tolist() == [5, 2, 3, 0, 4, 1]
    assert ranks(split, np.array([0, 1, 3])).tolist() == [2, 1, 0]
    assert Choice(2, ("f", "d", "b", "a")).places(split).tolist() == [2, 3]
    nested = Named([0, 0, 0], ["x/part1/a", "x/part0/b", "x/c"])
    assert ranks(nested, np.arange(3)).tolist() == [2, 1, 0]
