"""Geometry of odd images: long strips, black borders, a resize before training crops."""

import numpy as np
import pytest
from PIL import Image

from nofrost_jax.data import preprocess
from nofrost_jax.data.preprocess import Geometry
from tests.data.helpers import picture


@pytest.mark.parametrize("shape", [(1000, 1), (1, 1000), (3, 2000), (7, 90)])
def test_of_a_strip_only_the_centre_is_resized(shape, monkeypatch):
    """To within a level of the whole image's resize, which would have up to 256 x 256,000 pixels."""
    image = picture(1, *shape)
    whole = Image.fromarray(image).resize(preprocess.resized_shape(*shape, 256)[::-1], Image.Resampling.BILINEAR)
    top, left = preprocess.center_window(whole.height, whole.width, 224)
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *args: sizes.append(args[0]) or resize(self, *args))
    found = preprocess.eval_image(image, Geometry(224, 256))
    assert sizes == [(224, 224)]
    expected = np.asarray(whole)[top : top + 224, left : left + 224]
    assert np.abs(found.astype(int) - expected).max() <= 1


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
