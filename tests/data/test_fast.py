"""Fast decoding of training images against the exact path, which equals torchvision."""

import itertools

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import data
from nofrost_jax.data import fast, preprocess
from nofrost_jax.data.preprocess import Geometry, ImageError
from nofrost_jax.errors import UserError
from tests.data.helpers import (
    assert_equal_batches,
    assert_equal_streams,
    config,
    dataset_of,
    encoded,
    picture,
    take,
    write,
)

pytest.importorskip("simplejpeg")
pytest.importorskip("cykooz_resizer")

ARRAY = picture(3, 90, 120)
FILES = {
    "rgb": encoded(ARRAY),
    "grey": encoded(ARRAY, mode="L"),
    "cmyk": encoded(ARRAY, mode="CMYK"),
    "png": encoded(ARRAY, kind="PNG"),
    "palette": encoded(ARRAY, kind="PNG", mode="P"),
    "odd size": encoded(picture(4, 61, 33)),
}


def geometries(size, scale=(0.08, 1.0)):
    exact = Geometry(size, 0, "random_resized_crop", scale)
    return exact, Geometry(size, 0, "random_resized_crop", scale, fast=True)


@pytest.mark.parametrize("kind", FILES)
def test_the_decoded_pixels_are_the_same(kind):
    exact, quick = geometries(32)
    pixels = preprocess.decode_for(FILES[kind], quick)
    assert isinstance(pixels, np.ndarray)
    np.testing.assert_array_equal(pixels, np.asarray(preprocess.decode_for(FILES[kind], exact)))


@pytest.mark.parametrize("kind", ["rgb", "cmyk", "odd size"])
@pytest.mark.parametrize("size", [8, 24, 64])
def test_crops_differ_by_a_level_or_two(kind, size):
    """Without bias; enlarged or made smaller, flipped or not; so no pixel outside the window counts here either."""
    exact, quick = geometries(size)
    worst = 0
    for position in range(60):
        draws = preprocess.augmentation_draws(0, 0, position, exact.draws)
        left = preprocess.train_image(FILES[kind], exact, draws).astype(int)
        right = preprocess.train_image(FILES[kind], quick, draws)
        assert right.dtype == np.uint8
        difference = np.abs(left - right)
        assert difference.mean() < 0.3 and abs((left - right).mean()) < 0.1
        worst = max(worst, difference.max())
    assert 1 <= worst <= 2


def test_a_window_of_the_right_size_is_not_resized():
    exact, quick = geometries(16, (1.0, 1.0))
    draws = [*np.tile([0.5, 0.5, 0.0, 0.0], 10).tolist(), 0.1]
    image = picture(5, 16, 16)
    np.testing.assert_array_equal(preprocess.train_image(image, quick, np.array(draws)), image[:, ::-1])
    np.testing.assert_array_equal(preprocess.train_image(image, exact, np.array(draws)), image[:, ::-1])


def test_pictures_and_arrays_are_taken_as_well():
    _, quick = geometries(16)
    draws = preprocess.augmentation_draws(0, 0, 0, quick.draws)
    want = preprocess.train_image(ARRAY, quick, draws)
    np.testing.assert_array_equal(preprocess.train_image(Image.fromarray(ARRAY), quick, draws), want)


@pytest.mark.parametrize("content", [b"", FILES["rgb"][:-200], b"\xff\xd8", b"text", FILES["png"][:300]])
def test_damage_is_what_it_is_for_pillow(content):
    exact, quick = geometries(16)
    messages = []
    for geometry in (exact, quick):
        with pytest.raises(ImageError) as info:
            preprocess.decode_for(content, geometry)
        messages.append(str(info.value))
    assert messages[0] == messages[1]


@pytest.fixture
def tree(tmp_path):
    for seed, (split, name, i) in enumerate(itertools.product(("train", "val"), "ab", range(4))):
        write(tmp_path / split / name / f"{i}.jpg", encoded(picture(seed, 40, 50)))
    fields = {"eval_resize": 18, "augmentation": "random_resized_crop", "decode": "fast"}
    return config(f"folder:{tmp_path}", num_classes=2, batch_size=4, **fields)


def test_batches(tree):
    """Near the exact ones, with any number of threads; evaluation is exact."""
    quick = take(tree, 1, 3)
    evaluation = next(dataset_of(tree).eval_batches(8))
    tree.data.workers = 5
    assert_equal_streams(quick, take(tree, 1, 3))
    tree.data.decode = "exact"
    for left, right in zip(quick, take(tree, 1, 3), strict=True):
        np.testing.assert_array_equal(left["index"], right["index"])
        difference = np.abs(left["image"].astype(int) - right["image"])
        assert 0 < difference.max() <= 2
    assert_equal_batches(evaluation, next(dataset_of(tree).eval_batches(8)))


def test_views_share_the_decoded_array(tree):
    tree.data.views, tree.data.tda_crop_scale = ("clean", "tda"), (0.64, 1.0)
    quick = next(data.open(tree, ()).train_batches(0))
    tree.data.decode = "exact"
    exact = next(data.open(tree, ()).train_batches(0))
    for name in ("image", "tda"):
        assert 0 < np.abs(quick[name].astype(int) - exact[name]).max() <= 2


def test_missing_packages_are_named(tree, monkeypatch):
    monkeypatch.setitem(fast.PACKAGES, "no_such_module", "no-such-package")
    with pytest.raises(UserError, match="pip install no-such-package, or set it to exact"):
        data.open(tree)
    tree.data.decode = "exact"
    data.open(tree)
