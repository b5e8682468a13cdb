"""Windows and pixels against independent transcriptions of torchvision's rules."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from nofrost_jax.data import preprocess
from nofrost_jax.data.preprocess import Geometry, ImageError
from tests.data.helpers import encoded, picture

SHAPES = [(30, 40), (41, 29), (64, 64), (23, 100), (16, 16)]


def drawn_window(rng, height, width, scale):
    """torchvision's `RandomResizedCrop.get_params` with a NumPy generator."""
    for _ in range(10):
        target = height * width * rng.uniform(*scale)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(target * ratio)), round(np.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    raise AssertionError("these shapes need no fallback")


def given_window(height, width, u, scale):
    """The same rule, candidate by candidate, for given uniform numbers."""
    for k in range(10):
        area = (scale[0] + u[4 * k] * (scale[1] - scale[0])) * height * width
        aspect = (3 / 4) * (16 / 9) ** u[4 * k + 1]
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 1 <= w <= width and 1 <= h <= height:
            return math.floor(u[4 * k + 2] * (height - h + 1)), math.floor(u[4 * k + 3] * (width - w + 1)), h, w
    return None  # No candidate fits.


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.64, 0.8)])
def test_window_distribution(scale):
    height, width, n = 375, 500, 4000
    rng = np.random.default_rng(1)
    ours = np.array([preprocess.random_resized_window(height, width, rng.random(41), scale) for _ in range(n)])
    theirs = np.array([drawn_window(rng, height, width, scale) for _ in range(n)])
    for measure in (
        lambda w: w[:, 2] * w[:, 3],
        lambda w: np.log(w[:, 3] / w[:, 2]),
        lambda w: w[:, 0] / np.maximum(height - w[:, 2], 1),
        lambda w: w[:, 1] / np.maximum(width - w[:, 3], 1),
    ):
        assert stats.ks_2samp(measure(ours), measure(theirs)).pvalue > 0.01


def test_window_for_given_draws():
    rng = np.random.default_rng(2)
    for height, width in [(375, 500), (500, 333), (64, 64), (90, 120), (7, 5)]:
        for _ in range(200):
            u = rng.random(41)
            want = given_window(height, width, u, (0.08, 1.0))
            if want is not None:
                assert preprocess.random_resized_window(height, width, u) == want


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [(50, 1000, (0, 466, 50, 67)), (1000, 50, (466, 0, 67, 50)), (9, 12, (0, 0, 9, 12)), (10, 11, (0, 0, 10, 11))],
)
def test_window_fallback(height, width, window):
    """No candidate fits: the centre with the ratio clamped, or the whole image if its ratio is in range."""
    draws = np.tile([1.0, 0.0, 0.5, 0.5], 10) if height < width else np.tile([1.0, 1.0, 0.5, 0.5], 10)
    assert preprocess.random_resized_window(height, width, draws) == window


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("resize", "size"), [(18, 16), (16, 16), (37, 32)])
def test_eval_pixels(shape, resize, size):
    data = encoded(picture(3, *shape))
    image = Image.open(io.BytesIO(data)).convert("RGB")
    w, h = image.size
    new = (resize, int(resize * h / w)) if w < h else (int(resize * w / h), resize)
    image = image.resize(new, Image.BILINEAR) if new != (w, h) else image
    top, left = round((image.height - size) / 2.0), round((image.width - size) / 2.0)
    want = np.asarray(image)[top : top + size, left : left + size]
    np.testing.assert_array_equal(preprocess.eval_image(data, Geometry(size, resize)), want)


def test_eval_margin_rounds_half_to_even():
    assert preprocess.center_window(19, 21, 16) == (2, 2)  # margins 1.5 and 2.5
    assert preprocess.resized_shape(333, 500, 256) == (256, 384)
    assert preprocess.resized_shape(375, 334, 256) == (287, 256)  # 287.4
    assert preprocess.resized_shape(400, 301, 256) == (340, 256)  # 340.2
    assert preprocess.resized_shape(398, 300, 256) == (339, 256)  # 339.6: truncated


@pytest.mark.parametrize("shape", SHAPES)
def test_train_pixels(shape):
    """Crop first, resize then: neither a resize with `box=` nor a resize of the whole image."""
    data, geometry = encoded(picture(4, *shape)), Geometry(16, 0, "random_resized_crop", (0.1, 1.0))
    rng = np.random.default_rng(5)
    flips = set()
    for _ in range(80):
        u = rng.random(41)
        window = given_window(*shape, u, (0.1, 1.0))
        if window is None:
            continue
        top, left, h, w = window
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[top : top + h, left : left + w]
        want = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.BILINEAR))
        flips.add(u[40] < 0.5)
        np.testing.assert_array_equal(
            preprocess.train_image(data, geometry, u), np.fliplr(want) if u[40] < 0.5 else want
        )
    assert flips == {True, False}


def test_pad_crop_flip():
    image, geometry = picture(6, 16, 16), Geometry(16, 0, "pad_crop_flip")
    same = preprocess.train_image(image, geometry, np.array([0.5, 0.5, 0.9]))
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(preprocess.train_image(image, geometry, np.array([0.5, 0.5, 0.1])), image[:, ::-1])
    corner = preprocess.train_image(image, geometry, np.array([0.0, 0.999, 0.9]))
    np.testing.assert_array_equal(corner[4:, :12], image[:12, 4:])
    assert not corner[:4].any() and not corner[:, 12:].any()


def test_colour_modes_and_damage():
    array = picture(7)
    whole = encoded(array)
    for kind, mode in [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "RGBA")]:
        assert np.asarray(preprocess.decode(encoded(array, kind, mode))).shape == (30, 40, 3)
    np.testing.assert_array_equal(np.asarray(preprocess.decode(encoded(array, "PNG"))), array)
    for broken in (whole[: len(whole) // 2], b"", b"no image", encoded(array, "PNG")[:200]):
        with pytest.raises(ImageError) as info:
            preprocess.decode(broken)
        assert "\n" not in str(info.value)


def test_too_small_without_resize():
    with pytest.raises(ImageError, match="40 x 30 is smaller than image_size = 32"):
        preprocess.eval_image(picture(8), Geometry(32))


def test_draws_are_independent():
    base = preprocess.augmentation_draws(1, 2, 3, 41)
    np.testing.assert_array_equal(base, preprocess.augmentation_draws(1, 2, 3, 41))
    for other in [(0, 2, 3), (1, 3, 3), (1, 2, 4), (-1, 2, 3), (2, 1, 3)]:
        assert np.abs(base - preprocess.augmentation_draws(*other, 41)).min() > 0
