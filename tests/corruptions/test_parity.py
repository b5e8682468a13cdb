"""Every corruption against a plain NumPy, SciPy and Pillow transcription, from the same random draws, at side 224."""

import functools
import io

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from nofrost_jax import corruptions
from nofrost_jax.corruptions import base, blur, constants, digital, kernels, noise, textures, weather
from tests.corruptions import reference
from tests.data.helpers import picture

SIDE = 224
TABLE = {**noise.TABLE, **blur.TABLE, **weather.TABLE, **digital.TABLE}


@functools.cache
def compiled(name):
    return jax.jit(TABLE[name].apply)


def apply(name, severity, image, draws=(), **more):
    """Our result for given draws, uint8 [n, n, 3]."""
    return np.asarray(compiled(name)(image, draws, TABLE[name].prepare(severity, len(image)) | more))


def assert_close(got, want, most=1, mean=0.002):
    """Truncation turns a difference of 1e-6 into a level where a value is whole, hence the bound on the mean."""
    difference = abs(got.astype(int) - want)
    assert difference.max() <= most
    assert difference.mean() <= mean


@pytest.fixture(scope="module")
def image():
    """Rough, smooth, saturated and black parts."""
    image = picture(3, SIDE, SIDE)
    image[:40, :40], image[-40:, -40:] = 255, 0
    image[60:120, 150:] = np.linspace(0, 255, 74).astype(np.uint8)[:, None]
    return image


@pytest.mark.parametrize("severity", constants.SEVERITIES)
def test_defocus_blur(image, severity):
    want = reference.defocus_blur(image, **constants.published("defocus_blur", severity))
    assert_close(apply("defocus_blur", severity, image), want)


@pytest.mark.parametrize("severity", constants.SEVERITIES)
def test_scatter_is_the_loop_bit_by_bit(image, severity):
    reach = constants.published("glass_blur", severity)["reach"]
    offsets = np.random.default_rng(severity).integers(-reach, reach, (SIDE, SIDE, 2))
    got = jax.jit(blur.scatter)(image, offsets.astype(np.int32), np.int32(reach))
    np.testing.assert_array_equal(got, reference.scatter(image, offsets, reach))


def test_scatter_follows_long_chains(image):
    """Every pixel copies its right, then its lower neighbour, visited just before."""
    for dx, dy in ((1, 0), (0, 1), (1, 1), (-2, 1)):
        offsets = np.broadcast_to(np.array([dx, dy], np.int32), (SIDE, SIDE, 2))
        got = jax.jit(blur.scatter)(image, offsets, np.int32(2))
        np.testing.assert_array_equal(got, reference.scatter(image, offsets, 2))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_glass_blur(image, severity):
    values = constants.published("glass_blur", severity)
    shape = (3, SIDE, SIDE, 2)
    offsets = np.random.default_rng(severity).integers(-values["reach"], values["reach"], shape).astype(np.int32)
    want = reference.glass_blur(image, offsets, **values)
    assert_close(apply("glass_blur", severity, image, offsets), want, most=2, mean=0.01)  # truncated twice


@pytest.mark.parametrize("severity, angle", [(1, -45), (1, 12.5), (2, 0), (3, -90), (4, 44.9), (5, -31), (5, 135)])
def test_motion_blur(image, severity, angle):
    want = reference.motion_blur(image, angle, **constants.published("motion_blur", severity))
    assert_close(apply("motion_blur", severity, image, np.float32(angle)), want)


def test_zoom_factors_are_the_published_ones():
    counts = [len(blur.zoom_factors(severity)) for severity in constants.SEVERITIES]
    assert counts == [12, 16, 11, 13, 11]
    ends = [float(blur.zoom_factors(severity)[-1]) for severity in constants.SEVERITIES]
    np.testing.assert_allclose(ends, [1.11, 1.15, 1.2, 1.24, 1.3])


@pytest.mark.parametrize("side", [8, 32, 63, 224])
def test_zoom_matrix_is_scipys_zoom(side):
    eye = np.eye(side)
    for factor in (*np.concatenate([blur.zoom_factors(severity) for severity in constants.SEVERITIES]), 2, 2.5, 3, 4.5):
        columns = ndimage.zoom(eye[_crop(side, factor)], (factor, 1), order=1)
        trim = (len(columns) - side) // 2
        want = columns[trim : trim + side]
        np.testing.assert_allclose(kernels.zoom_matrix(side, factor), want, atol=1e-12)


def _crop(side, factor):
    size = int(np.ceil(side / factor))
    return slice((side - size) // 2, (side - size) // 2 + size)


@pytest.mark.parametrize("severity", constants.SEVERITIES)
def test_zoom_blur(image, severity):
    want = reference.zoom_blur(image, blur.zoom_factors(severity))
    assert_close(apply("zoom_blur", severity, image), want)


@pytest.mark.parametrize("severity", constants.SEVERITIES)
def test_snow(image, severity):
    rng = np.random.default_rng(severity)
    field, angle = rng.standard_normal((SIDE, SIDE)).astype(np.float32), np.float32(rng.uniform(-135, -45))
    want = reference.snow(image, field, float(angle), **constants.published("snow", severity))
    assert_close(apply("snow", severity, image, (field, angle)), want, mean=0.005)


@pytest.mark.parametrize("severity", constants.SEVERITIES)
def test_frost_given_the_window(image, severity):
    ice = np.random.default_rng(severity).integers(0, 256, (2, 250, 260, 3), dtype=np.uint8)
    window = np.array([1, 7, 35], np.int32)
    got = apply("frost", severity, image, window, textures=ice, sizes=np.array([[250, 260]] * 2, np.int32))
    want = reference.frost(image, ice[1, 7 : 7 + SIDE, 35 : 35 + SIDE], **constants.published("frost", severity))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_fog(image, severity):
    values = constants.published("fog", severity)
    draws = np.random.default_rng(severity).uniform(-1, 1, 256**2 - 1).astype(np.float32)
    want = reference.fog(image, reference.plasma(draws, values["decay"])[:SIDE, :SIDE], values["strength"])
    assert_close(apply("fog", severity, image, draws), want)


@pytest.mark.parametrize("severity", constants.SEVERITIES)
def test_brightness_and_contrast(image, severity):
    small = np.ascontiguousarray(image[::7, ::7])  # no lengths in these
    small[0, :8] = [[0, 0, 0], [255] * 3, [9, 9, 9], [255, 0, 0], [0, 1, 0], [1, 0, 2], [80, 80, 200], [7, 200, 200]]
    for name, mean in (("brightness", 0.01), ("contrast", 0.002)):  # whole values
        want = getattr(reference, name)(small, **constants.published(name, severity))
        assert_close(apply(name, severity, small), want, mean=mean)


def test_contrast_of_a_flat_image_changes_nothing():
    flat = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 8, 8, 3))
    for level in (0, 1, 77, 255):
        np.testing.assert_array_equal(apply("contrast", 2, flat[level]), flat[level])


@pytest.mark.parametrize("severity", constants.SEVERITIES)
def test_elastic_transform(image, severity):
    rng = np.random.default_rng(severity)
    corners, fields = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((3, 2), (2, SIDE, SIDE)))
    want = reference.elastic_transform(image, corners, fields, **constants.published("elastic_transform", severity))
    # A coordinate on the edge of two 32nds falls either way: up to 1/32 of the step between two pixels.
    assert_close(apply("elastic_transform", severity, image, (corners, fields)), want, most=8, mean=0.02)


@pytest.mark.parametrize("side", [8, 33, 64, 224])
def test_pixelate_is_pillow_to_the_bit(image, side):
    for severity in constants.SEVERITIES:
        part = np.ascontiguousarray(image[:side, -side:])
        want = reference.pixelate(part, constants.published("pixelate", severity)["factor"])
        np.testing.assert_array_equal(apply("pixelate", severity, part), want)


def test_shot_noise_inverts_the_distribution(image):
    """Word for word what SciPy's quantile function says."""
    part = np.ascontiguousarray(image[100:164, 140:204])
    for severity in constants.SEVERITIES:
        photons = constants.published("shot_noise", severity)["photons"]
        words = np.random.default_rng(severity).integers(0, 2**32, part.shape, dtype=np.uint32)
        count = stats.poisson.ppf((words + 0.5) / 2**32, part / 255 * photons)
        want = reference.finish(np.maximum(count, 0) / photons)
        np.testing.assert_array_equal(apply("shot_noise", severity, part, words), want)


def test_the_other_noises(image):
    part, rng = np.ascontiguousarray(image[100:164, 140:204]), np.random.default_rng(0)
    normal, uniform = (draw(part.shape).astype(np.float32) for draw in (rng.standard_normal, rng.random))
    for severity in constants.SEVERITIES:
        deviation = constants.published("gaussian_noise", severity)["deviation"]
        assert_close(apply("gaussian_noise", severity, part, normal), reference.finish(part / 255 + deviation * normal))
        amount = constants.published("impulse_noise", severity)["amount"]
        want = np.where(uniform < amount / 2, 255, np.where(uniform < amount, 0, part))
        np.testing.assert_array_equal(apply("impulse_noise", severity, part, uniform), want)


def test_jpeg_compression_is_pillow(image):
    for severity in constants.SEVERITIES:
        quality = constants.published("jpeg_compression", severity)["quality"]
        want = _jpeg(image, quality=quality)
        got = corruptions.corrupt(image[None], "jpeg_compression", severity, [0], 0, jpeg_quality=0)[0]
        np.testing.assert_array_equal(got, want)
        got = corruptions.corrupt(image[None], "jpeg_compression", severity, [0], 0)[0]
        np.testing.assert_array_equal(got, _jpeg(want, quality=85, optimize=True))


def _jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return np.asarray(Image.open(file))


def test_the_random_numbers_are_what_they_say():
    key = jax.random.key(5)
    uniform, normal = np.asarray(base.uniform(key, (40_000,), -2.0, 6.0)), np.asarray(base.normal(key, (40_000,)))
    assert stats.kstest(uniform, "uniform", (-2, 8)).pvalue > 0.01
    assert stats.kstest(normal, "norm").pvalue > 0.01
    words = np.asarray(base.bits(key, (40_000,)))
    assert len(set(words.tolist())) > 39_990
    assert abs(np.unpackbits(words.view(np.uint8)).mean() - 0.5) < 0.002


def test_grown_ice_resembles_the_published():
    """Five textures that all hold a window, with the brightness and the spread of light that the published have."""
    ice = textures.procedural()
    assert ice.origin == "procedural"
    assert ice.images.shape[0] == 5
    assert (ice.sizes > SIDE).all()
    mean, spread = ice.images.mean((1, 2, 3)), ice.images.mean(-1).std((1, 2))
    np.testing.assert_allclose(mean, [130, 206, 204, 151, 123], atol=5)
    np.testing.assert_allclose(spread, [17, 22, 24, 28, 43], atol=4)
