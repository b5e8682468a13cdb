"""Training images that are kept out of training, to choose by without the evaluation split."""

import collections

import numpy as np
import pytest

from nofrost_jax import data
from nofrost_jax.data.catalog import holdout_mask
from nofrost_jax.errors import UserError
from tests.conftest import tiny_config
from tests.data.helpers import config, dataset_of, encoded, picture, take, write
from tests.evaluation.suite import identity

HELD = {"holdout": 37, "eval_split": "holdout"}


def digits(**fields):
    return config("digits", image_size=8, batch_size=100, **fields)


def epoch(settings):
    """All training images of one epoch that is a single batch: (images, labels, indexes)."""
    settings = settings.copy_and_resolve_references()
    settings.batch_size = data.open(settings).num_train
    batch = next(dataset_of(settings).train_batches(0))
    return batch["image"], batch["label"], batch["index"]


def evaluated(settings):
    """All images that evaluation sees, and their labels."""
    batches = list(dataset_of(settings).eval_batches(16))
    real = [batch["mask"] for batch in batches]
    return tuple(
        np.concatenate([batch[name][mask] for batch, mask in zip(batches, real, strict=True)])
        for name in ("image", "label", "index")
    )


def rows(images, labels):
    return sorted(zip((image.tobytes() for image in images), labels.tolist(), strict=True))


@pytest.mark.parametrize(("n", "holdout"), [(10, 1), (10, 3), (1437, 237), (50000, 5000), (7, 6)])
def test_the_mask_has_that_many_evenly_spaced_places(n, holdout):
    places = np.flatnonzero(holdout_mask(n, holdout))
    assert len(places) == holdout
    np.testing.assert_array_equal(places, [int((i + 0.5) * n / holdout) for i in range(holdout)])
    assert set(np.diff(places)) <= {n // holdout, -(-n // holdout)}
    assert not holdout_mask(n, 0).any()


def test_held_out_and_kept_digits_are_the_training_split_without_overlap():
    whole, kept, held = epoch(digits()), epoch(digits(**HELD)), evaluated(digits(**HELD))
    assert len(held[0]) == 37 and len(kept[0]) == 1437 - 37
    assert rows(*whole[:2]) == sorted(rows(*kept[:2]) + rows(*held[:2]))
    count = collections.Counter(image.tobytes() for image in whole[0])
    once = {image for image, times in count.items() if times == 1}
    assert len(once) > 1400
    assert not once & {image.tobytes() for image in held[0]} & {image.tobytes() for image in kept[0]}


def test_evaluation_sees_the_held_out_places_in_order():
    order = np.argsort(epoch(digits())[2])
    images, labels = (part[order] for part in epoch(digits())[:2])
    mask = holdout_mask(1437, 37)
    held = evaluated(digits(**HELD))
    np.testing.assert_array_equal(held[0], images[mask])
    np.testing.assert_array_equal(held[1], labels[mask])
    np.testing.assert_array_equal(held[2], np.arange(37))


def test_the_evaluation_split_stays_where_it_is_not_asked_to_be_the_held_out():
    plain, held = evaluated(digits()), evaluated(digits(holdout=37))
    assert rows(*plain[:2]) == rows(*held[:2]) and len(plain[0]) == 360
    spec = data.open(digits(holdout=37))
    assert (spec.num_train, spec.num_eval, spec.eval_split) == (1400, 360, "validation")
    spec = data.open(digits(**HELD))
    assert (spec.num_train, spec.num_eval, spec.eval_split) == (1400, 37, "holdout")


@pytest.mark.parametrize("augmentation", ["none", "pad_crop_flip"])
def test_training_batches_of_any_source_never_hold_a_held_out_image(augmentation):
    """Over two epochs of what a thread pool decodes, too: by the index, which counts within what is kept."""
    settings = config("fake", augmentation=augmentation, holdout=20, eval_split="holdout", fake_train=52)
    split = dataset_of(settings).train
    held = set(np.flatnonzero(holdout_mask(52, 20)).tolist())
    taken = take(settings, 0, 8)
    places = split.places[np.concatenate([batch["index"] for batch in taken])]
    assert not held & set(places.tolist()) and len(set(places.tolist())) == 32
    np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in taken]), places % 10)


def test_held_out_images_do_not_depend_on_the_seed():
    one, other = evaluated(digits(**HELD)), evaluated(digits(seed=5, **HELD))
    assert rows(*one[:2]) == rows(*other[:2])
    np.testing.assert_array_equal(epoch(digits(**HELD))[0], epoch(digits(**HELD))[0])


@pytest.fixture
def tree(tmp_path):
    """Three classes of four training images each; no evaluation folder."""
    for number, name in enumerate(("ant", "bee", "cat")):
        for i in range(4):
            write(tmp_path / "train" / name / f"{i}.png", encoded(picture(10 * number + i), "PNG"))
    return tmp_path


def test_a_folder_needs_no_evaluation_folder_and_gives_up_one_of_each_class(tree):
    settings = config(f"folder:{tree}", batch_size=9, num_classes=3, holdout=3, eval_split="holdout")
    dataset = data.open(settings)
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes) == (9, 3, 3)
    assert (dataset.eval_split, dataset.eval_crop) == ("holdout", "centre 16")
    images, labels, _ = evaluated(settings)
    assert labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images[1], picture(12)[7:23, 12:28])
    kept = epoch(settings)[0]
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in kept}


def test_a_broken_held_out_file_is_named(tree):
    settings = config(f"folder:{tree}", batch_size=9, num_classes=3, holdout=3, eval_split="holdout")
    (tree / "train/bee/2.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"train/bee/2\.png"):
        data.open(settings)
    with pytest.raises(UserError, match=r"train/bee/2\.png"):
        evaluated(settings)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"eval_split": "holdout"}, "no images are held out; config.data.holdout = 0"),
        ({"holdout": 1437}, "1437 images, so 1437 cannot be held out; digits; lower config.data.holdout"),
        ({"holdout": 2000, "eval_split": "holdout"}, "1437 images, so 2000 cannot be held out"),
        ({"holdout": 1400}, "37 images, fewer than one batch of 100"),
    ],
)
def test_what_cannot_be_held_out_is_refused(fields, words):
    with pytest.raises(UserError, match=words):
        data.open(digits(**fields))
    assert words in data.examine(digits(**fields))[0][0]


def test_saved_outcomes_are_of_one_holdout():
    """Only where evaluation sees held-out images: the identity of other evaluations stays what it was."""

    def of(**fields):
        return identity(tiny_config(**fields))

    assert of(data__eval_split="holdout", data__holdout=5) != of(data__eval_split="holdout", data__holdout=6)
    assert of(data__holdout=5) == of()
    assert set(of()["data"]) == {"source", "eval_split", "image_size", "eval_resize", "eval_pad", "mean", "std"}
