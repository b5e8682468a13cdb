"""TDA's colours against Pillow, which rounds to 8 bits after each operation, and against HSV in floats."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import stats

from nofrost_jax import keys
from nofrost_jax.augment import tda
from tests.data.helpers import picture

IMAGES = np.stack([picture(seed, 24, 24) for seed in range(6)])
IMAGES[0, :4] = [0, 255, 128]
IMAGES[1, :8] = 77  # grey has no hue
FLOATS = jnp.asarray(IMAGES, jnp.float32) / 255
ORDERS = np.array(list(itertools.permutations(range(4))))
colours, distort, jitter = jax.jit(tda.colours), jax.jit(tda.distort), jax.jit(tda.jitter)


def image_keys(count, seed=0):
    return keys.per_image(jax.random.key(seed), jnp.arange(count))


def pil_hue(image, turn):
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue, int) + round(turn * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


ENHANCE = {tda.BRIGHTNESS: ImageEnhance.Brightness, tda.CONTRAST: ImageEnhance.Contrast}
ENHANCE[tda.SATURATION] = ImageEnhance.Color


def pil(image, operation, draw):
    """One operation on a PIL image; draw: the factor, or the turn."""
    return pil_hue(image, draw) if operation == tda.TURN else ENHANCE[operation](image).enhance(draw)


def floats(image, operation, draw):
    """The same on float64 [H, W, 3] in [0, 1], by colorsys where it is the hue."""
    if operation == tda.TURN:
        hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)]
        return np.array([colorsys.hsv_to_rgb((h + draw) % 1, s, v) for h, s, v in hsv]).reshape(image.shape)
    grey = image @ np.array([0.299, 0.587, 0.114])
    anchor = {tda.BRIGHTNESS: 0, tda.CONTRAST: grey.mean(), tda.SATURATION: grey[..., None]}[operation]
    return np.clip(anchor * (1 - draw) + image * draw, 0, 1)


def single(operation, draw):
    """The images after one operation of `jitter`, the others doing nothing, in 0 to 255."""
    n = len(IMAGES)
    factors, hue = np.ones((n, 3), np.float32), np.full(n, draw if operation == tda.TURN else 0, np.float32)
    if operation != tda.TURN:
        factors[:, operation] = draw
    return np.asarray(jitter(FLOATS, jnp.tile(jnp.arange(4), (n, 1)), factors, hue)) * 255


@pytest.mark.parametrize(("operation", "draws"), [(one, (0.2, 0.7, 1.3, 1.8)) for one in range(3)])
def test_blends_are_pillows(operation, draws):
    """Within the last of 8 bits, of Pillow's own rounding (contrast also rounds the mean)."""
    for draw in draws:
        expected = np.stack([np.asarray(pil(Image.fromarray(image), operation, draw)) for image in IMAGES])
        error = np.abs(single(operation, draw) - expected)
        assert error.mean() < (0.9 if operation == tda.CONTRAST else 0.55) and error.max() <= 1.51


@pytest.mark.parametrize("turn", [-0.2, -0.07, 0.0, 0.13, 0.2])
def test_hue_is_pillows(turn):
    """Pillow cuts the hue to a multiple of 1/255, and turns it modulo 256: two steps, of up to 6 levels each."""
    expected = np.stack([np.asarray(pil_hue(Image.fromarray(image), turn)) for image in IMAGES])
    error = np.abs(single(tda.TURN, round(turn * 255) / 255) - expected)
    assert error.mean() < 1 and error.max() <= 12


@pytest.mark.parametrize("turn", [-0.2, -0.07, 0.0, 0.13, 0.2, 0.5])
def test_hue_is_a_turn_of_hsv(turn):
    expected = np.stack([floats(image / 255, tda.TURN, turn) for image in IMAGES])
    np.testing.assert_allclose(single(tda.TURN, turn) / 255, expected, atol=1e-5)


def test_grey_is_pillows():
    grey = np.asarray(tda.luma(FLOATS))[..., 0] * 255
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in IMAGES])
    assert np.abs(grey - expected).max() < 0.51


@pytest.fixture(scope="module")
def chain():
    """(images, draws): one image for each order of the four operations, all of them jittered, half then grey."""
    rng = np.random.default_rng(0)
    draws = {
        "jitter": np.ones(24, bool),
        "grey": np.arange(24) % 2 == 0,
        "order": ORDERS,
        "factors": rng.uniform(0.2, 1.8, (24, 3)).astype(np.float32),
        "hue": rng.uniform(-0.2, 0.2, 24).astype(np.float32),
    }
    return np.stack([IMAGES[i % len(IMAGES)] for i in range(24)]), draws


def draw_of(draws, row, operation):
    return float(draws["hue"][row] if operation == tda.TURN else draws["factors"][row, operation])


def test_chains_in_every_order_are_those_of_floats(chain):
    images, draws = chain
    found = np.asarray(distort(jnp.asarray(images, jnp.float32) / 255, draws))
    for row, image in enumerate(images / 255):
        for operation in ORDERS[row]:
            image = floats(image, operation, draw_of(draws, row, operation))
        if draws["grey"][row]:
            image = np.repeat((image @ np.array(tda.LUMA))[..., None], 3, axis=-1)
        np.testing.assert_allclose(found[row], image, atol=2e-5, err_msg=str(ORDERS[row]))


def test_chains_are_pillows_up_to_rounding(chain):
    """Each of up to five operations rounds, and the later ones spread what the earlier ones rounded."""
    images, draws = chain
    found = np.asarray(distort(jnp.asarray(images, jnp.float32) / 255, draws)) * 255
    errors = []
    for row, image in enumerate(images):
        picture = Image.fromarray(image)
        for operation in ORDERS[row]:
            picture = pil(picture, operation, draw_of(draws, row, operation))
        if draws["grey"][row]:
            picture = picture.convert("L").convert("RGB")
        errors.append(np.abs(found[row] - np.asarray(picture)))
    assert np.mean(errors) < 1.5 and np.max(errors) < 16


@pytest.fixture(scope="module")
def drawn():
    return jax.device_get(jax.jit(tda.draw)(image_keys(24_000)))


def test_shares_of_images(drawn):
    """40 % jittered, 10 % grey, a fifth of the jittered grey too."""
    jittered, grey = drawn["jitter"], drawn["grey"]
    for found, expected in ((jittered, 0.4), (grey, 0.1), (jittered & grey, 0.08), (jittered | grey, 0.42)):
        assert found.mean() == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(found)) ** 0.5)


def test_orders_factors_and_hues_are_uniform(drawn):
    codes = drawn["order"] @ np.array([64, 16, 4, 1])
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3
    for values, low, width in [(drawn["factors"][:, i], 0.2, 1.6) for i in range(3)] + [(drawn["hue"], -0.2, 0.4)]:
        assert stats.kstest(values, stats.uniform(low, width).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(np.column_stack([drawn["factors"], drawn["hue"]]).T) - np.eye(4)).max() < 0.03


def test_other_images_come_back_bit_for_bit():
    draws = jax.device_get(tda.draw(image_keys(6)))
    untouched = draws | {"jitter": np.zeros(6, bool), "grey": np.zeros(6, bool)}
    np.testing.assert_array_equal(distort(FLOATS, untouched), FLOATS)


def test_an_image_depends_on_its_own_key_alone():
    """In a batch of 24 or alone, among any others; another key gives another image for about 42 % of them."""
    images = jnp.tile(FLOATS, (4, 1, 1, 1))
    together = np.asarray(colours(images, image_keys(24)))
    for row in (0, 5, 23):
        alone = colours(images[row : row + 1], image_keys(24)[row : row + 1])
        np.testing.assert_allclose(together[row : row + 1], alone, atol=1e-6)
    assert together.min() >= 0 and together.max() <= 1
    changed = np.abs(together - images).max((1, 2, 3)) > 0.01
    assert 3 <= changed.sum() <= 18
    assert (np.abs(np.asarray(colours(images, image_keys(24, seed=1))) - together).max((1, 2, 3)) > 0.01).any()


def test_blur_is_gaussian_and_keeps_half_of_the_images():
    many = image_keys(200)
    point = jnp.zeros((200, 41, 41, 1)).at[:, 20, 20].set(1.0)
    soft = np.asarray(jax.jit(tda.blur)(point, many, 2.0))[..., 0]
    kept = (soft == np.asarray(point)[..., 0]).all((1, 2))
    assert 70 < kept.sum() < 130
    np.testing.assert_allclose(soft.sum((1, 2)), 1, atol=1e-5)
    for spot in soft[~kept][:20]:
        line = spot.sum(0)[18:23]
        sigma = np.sqrt(1 / (2 * np.log(line[2] / line[3]))) if line[3] > 1e-30 else 0.0
        expected = np.exp(-(np.arange(-2, 3) ** 2) / (2 * max(sigma, 0.1) ** 2))
        np.testing.assert_allclose(line, expected / expected.sum(), atol=1e-4)
        assert sigma <= 2.0


def test_noise_is_normal_and_of_a_uniform_deviation():
    grey = jnp.full((400, 16, 16, 3), 0.5)
    noisy = np.asarray(jax.jit(tda.noise)(grey, image_keys(400), 0.1)) - 0.5
    deviations = noisy.std((1, 2, 3))
    noisy, deviations = noisy[deviations > 0], deviations[deviations > 0]
    assert 160 < len(noisy) < 240
    assert stats.kstest(deviations, stats.uniform(0, 0.1).cdf).pvalue > 1e-3
    assert stats.kstest((noisy / deviations[:, None, None, None]).ravel()[:5000], stats.norm.cdf).pvalue > 1e-3
