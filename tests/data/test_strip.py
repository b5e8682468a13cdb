"""Geometry of odd images: long strips, black borders, a resize before training crops."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from nofrost_jax.data import preprocess, strip
from nofrost_jax.data.preprocess import Geometry
from tests.data.helpers import picture

SIDES = st.one_of(st.integers(1, 5), st.integers(6, 60), st.integers(61, 700))


@settings(deadline=None, max_examples=150)
@given(SIDES, SIDES, st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_a_piece_is_the_same_as_of_the_whole(height, width, size, margin, seed):
    """To the last bit, whatever the shape, for every image that grows: also where the whole would do."""
    rng, resize = np.random.default_rng(seed), size + margin
    assume(min(height, width) <= resize)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8) if seed % 2 else picture(seed, height, width)
    image = Image.fromarray(pixels)
    h, w = preprocess.resized_shape(height, width, resize)
    top, left = preprocess.center_window(h, w, size)
    whole = image.resize((w, h), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    found = strip.resized_piece(image, h, w, top, left, size)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(whole))


@pytest.mark.parametrize("shape", [(1000, 1), (1, 1000), (3, 2000)])
def test_a_strip_takes_no_more_memory_than_it_has(shape, monkeypatch):
    """The whole would have 256 x 256,000 pixels; Pillow's own memory is not traced, its sizes are."""
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *more: sizes.append(size) or resize(self, size, *more)
    )
    tracemalloc.start()
    found = preprocess.eval_image(np.ascontiguousarray(picture(1, *shape)), Geometry(224, 256))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.shape == (224, 224, 3) and peak < 30e6
    assert max(width * height for width, height in sizes) <= 256 * 1000


def test_a_strip_that_shrinks_is_resized_by_pillow():
    image = Image.fromarray(picture(1, 40, 700))
    expected = image.resize((350, 20), Image.Resampling.BILINEAR).crop((167, 2, 183, 18))
    np.testing.assert_array_equal(preprocess.eval_image(image, Geometry(16, 20)), np.asarray(expected))


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (9, 8), (31, 40), (33, 10), (32, 32), (1, 1), (40, 50)])
def test_black_borders_are_torchvisions(shape):
    transforms = pytest.importorskip("torchvision.transforms")
    image = picture(2, *shape)
    expected = np.asarray(transforms.CenterCrop(32)(Image.fromarray(image)))
    np.testing.assert_array_equal(preprocess.eval_image(image, Geometry(32, eval_pad=True)), expected)


@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000)])
def test_a_strip_is_not_enlarged_beyond_measure(shape):
    geometry = Geometry(16, 0, "random_resized_crop", train_resize=160)
    with pytest.raises(preprocess.ImageError, match=r"480000.*train_resize = 160"):
        preprocess.decode_for(picture(1, *shape), geometry)
    assert preprocess.decode_for(picture(1, 1, 64), geometry).size == (160 * 64, 160)


@pytest.mark.parametrize("fast", [False, True])
def test_a_resize_before_the_training_crop(fast):
    """As if the files had been resized beforehand: bicubic, the short side; again, it changes nothing."""
    if fast:
        pytest.importorskip("cykooz_resizer")
    image, draws = picture(3, 40, 61), preprocess.augmentation_draws(0, 0, 0, 41)
    geometry = Geometry(16, 0, "random_resized_crop", (0.3, 1.0), fast, train_resize=24)
    before = np.asarray(Image.fromarray(image).resize((36, 24), Image.Resampling.BICUBIC))
    plain = Geometry(16, 0, "random_resized_crop", (0.3, 1.0), fast)
    expected = preprocess.train_image(before, plain, draws)
    np.testing.assert_array_equal(preprocess.train_image(image, geometry, draws), expected)
    once = preprocess.decode_for(image, geometry)
    np.testing.assert_array_equal(preprocess.train_image(once, geometry, draws), expected)
