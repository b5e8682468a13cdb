"""The interface of the corruptions: what a result depends on, how random it is, other sides, textures, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from nofrost_jax import corruptions
from nofrost_jax.corruptions import blur, constants, digital, kernels, noise, textures, weather
from nofrost_jax.errors import UserError
from tests.corruptions import reference
from tests.data.helpers import picture

TABLE = {**noise.TABLE, **blur.TABLE, **weather.TABLE, **digital.TABLE}
SIDE = 20
RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog"}
RANDOM |= {"elastic_transform"}


@pytest.fixture(scope="module")
def images():
    return np.stack([picture(i, SIDE, SIDE) for i in range(20)])


def draw(name, count, severity=1, side=SIDE, **more):
    """`count` draws of a corruption for different keys."""
    arrays = TABLE[name].prepare(severity, side) | more
    one = jax.jit(jax.vmap(lambda key: TABLE[name].draw(key, side, arrays)))
    return jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(0), count)))


def test_names_are_those_of_the_benchmark_in_its_order():
    assert (
        *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    ) == corruptions.NAMES
    assert set(TABLE) | {"jpeg_compression"} == set(corruptions.NAMES) == set(constants.PUBLISHED)


def test_constants_are_the_published_ones():
    """Against a second table, by severity, of the values in the order of the original's tuples."""
    table = {
        "gaussian_noise": "0.08/0.12/0.18/0.26/0.38",
        "shot_noise": "60/25/12/5/3",
        "impulse_noise": "0.03/0.06/0.09/0.17/0.27",
        "defocus_blur": "3 0.1/4 0.5/6 0.5/8 0.5/10 0.5",
        "glass_blur": "0.7 1 2/0.9 2 1/1 2 3/1.1 3 2/1.5 4 2",
        "motion_blur": "10 3/15 5/15 8/15 12/20 15",
        "zoom_blur": "1.11 0.01/1.16 0.01/1.21 0.02/1.26 0.02/1.31 0.03",
        "snow": "0.1 0.3 3 0.5 10 4 0.8/0.2 0.3 2 0.5 12 4 0.7/0.55 0.3 4 0.9 12 8 0.7/"
        "0.55 0.3 4.5 0.85 12 8 0.65/0.55 0.3 2.5 0.85 12 12 0.55",
        "frost": "1 0.4/0.8 0.6/0.7 0.7/0.65 0.7/0.6 0.75",
        "fog": "1.5 2/2 2/2.5 1.7/2.5 1.5/3 1.4",
        "brightness": "0.1/0.2/0.3/0.4/0.5",
        "contrast": "0.4/0.3/0.2/0.1/0.05",
        "elastic_transform": "488 170.8 24.4/488 19.52 48.8/12.2 2.44 4.88/17.08 2.44 4.88/29.28 2.44 4.88",
        "pixelate": "0.6/0.5/0.4/0.3/0.25",
        "jpeg_compression": "25/18/15/10/7",
    }
    assert tuple(table) == corruptions.NAMES
    for name, rows in table.items():
        for severity, row in enumerate(rows.split("/"), 1):
            want = [float(value) for value in row.split()]
            np.testing.assert_allclose(list(constants.published(name, severity).values()), want, rtol=1e-12)


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_an_image_depends_on_its_own_index_only(images, name):
    """Any batch, any order, any neighbours give the same bytes; seed, index and severity give others."""
    indices = np.arange(100, 120)
    whole = corruptions.corrupt(images, name, 4, indices, 7)
    assert whole.dtype == np.uint8 and whole.shape == images.shape
    order = [18, 3, 11]
    np.testing.assert_array_equal(corruptions.corrupt(images[order], name, 4, indices[order], 7), whole[order])
    assert (corruptions.corrupt(images, name, 5, indices, 7) != whole).any()
    for other in (
        corruptions.corrupt(images, name, 4, indices, 8),
        corruptions.corrupt(images, name, 4, indices + 1, 7),
    ):
        assert (other != whole).any() == (name in RANDOM)


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur", "elastic_transform"])
def test_a_chunk_at_once_gives_the_same(images, name, monkeypatch):
    """As on a GPU: to the last bit of float32, which may take a whole value to the next."""
    one_by_one = corruptions.corrupt(images[:4], name, 5, np.arange(4), 0, jpeg_quality=0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(corruptions, "_program", corruptions._program.__wrapped__)
    at_once = corruptions.corrupt(images[:4], name, 5, np.arange(4), 0, jpeg_quality=0)
    assert abs(at_once.astype(int) - one_by_one).max() <= 1
    assert (at_once != one_by_one).mean() < 0.01


def test_the_default_generator_does_not_count(images):
    want = corruptions.corrupt(images[:2], "impulse_noise", 3, [4, 5], 1)
    with jax.default_prng_impl("rbg"), jax.threefry_partitionable(False):
        np.testing.assert_array_equal(corruptions.corrupt(images[:2], "impulse_noise", 3, [4, 5], 1), want)


def test_corruptions_and_severities_share_no_draws():
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    noises = [
        corruptions.corrupt(grey, name, severity, [0], 0, jpeg_quality=0).astype(float).ravel()
        for name, severity in (("gaussian_noise", 1), ("gaussian_noise", 2), ("shot_noise", 1))
    ]
    assert (abs(np.corrcoef(noises) - np.eye(3)) < 0.05).all()


def test_the_arrays_of_all_cells_are_kept():
    """A writer of files comes back to each cell with every batch."""
    cells = [(name, severity) for name in TABLE for severity in corruptions.SEVERITIES]
    device = corruptions._DefaultDevice()
    for _ in range(2):
        before = corruptions._arrays.cache_info().misses
        for cell in cells:
            corruptions._arrays(*cell, 8, device)
    assert corruptions._arrays.cache_info().misses == before


def test_one_program_serves_five_severities(images):
    program = corruptions._program("zoom_blur", corruptions._DefaultDevice())
    before = program._cache_size()
    for severity in corruptions.SEVERITIES:
        corruptions.corrupt(images[:1], "zoom_blur", severity, [0], 0)
    assert program._cache_size() <= before + 1


@pytest.mark.parametrize("name", sorted({*corruptions.NAMES} - {"elastic_transform"}))  # its first two are the worst
def test_severity_makes_it_worse(images, name):
    """At this side too, from the first severity to the last."""
    changes = [
        np.mean(
            (corruptions.corrupt(images, name, severity, np.arange(20), 0, jpeg_quality=0) - images.astype(float)) ** 2
        )
        for severity in (1, 5)
    ]
    assert changes[0] < changes[1]


def test_the_final_jpeg_can_be_left_out(images):
    raw = corruptions.corrupt(images, "contrast", 1, np.arange(20), 0, jpeg_quality=0)
    np.testing.assert_array_equal(
        corruptions.corrupt(images, "contrast", 1, np.arange(20), 0), digital.jpeg(raw, 85, optimize=True)
    )
    assert corruptions.corrupt(images[:0], "contrast", 1, np.arange(0), 0).shape == (0, SIDE, SIDE, 3)


# Draws


def test_noise_draws():
    normals = draw("gaussian_noise", 60)
    assert stats.kstest(normals.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(normals.reshape(60, -1)[:2])[0, 1]) < 0.15  # of different keys
    assert stats.kstest(draw("impulse_noise", 60).ravel(), "uniform").pvalue > 0.01
    flat = np.full((200, 200, 3), 128, np.uint8)
    (uniforms,) = draw("impulse_noise", 1, side=200)
    for severity in constants.SEVERITIES:
        amount = constants.published("impulse_noise", severity)["amount"]
        result = np.asarray(noise.impulse(flat, uniforms, {"amount": np.float32(amount)}))
        for value in (0, 255):
            share = (result == value).mean()
            assert abs(share - amount / 2) < 4 * np.sqrt(amount / 2 / result.size)
        red, green = (result[..., c] != 128 for c in (0, 1))  # channels are independent
        assert abs((red & green).mean() - amount**2) < 4 * amount / 200


def test_shot_noise_has_poissons_moments():
    apply = jax.jit(noise.shot)
    (words,) = draw("shot_noise", 1, side=100)
    for severity in constants.SEVERITIES:
        photons = constants.published("shot_noise", severity)["photons"]
        flat = np.full((100, 100, 3), 60, np.uint8)
        result = np.asarray(apply(flat, words, noise.TABLE["shot_noise"].prepare(severity, 100))).astype(float) / 255
        count = np.minimum(stats.poisson.rvs(60 / 255 * photons, size=200_000, random_state=0), photons) / photons
        assert abs(result.mean() - np.floor(count * 255).mean() / 255) < 5 * count.std() / np.sqrt(30_000)
        assert abs(result.std() / count.std() - 1) < 0.03
        black = np.asarray(apply(0 * flat, words, noise.TABLE["shot_noise"].prepare(severity, 100)))
        assert not black.any()


def test_offsets_angles_and_windows_are_uniform():
    offsets = draw("glass_blur", 2, severity=5, side=224)  # reach 4
    assert offsets.shape == (2, 3, 224, 224, 2)
    count = np.bincount(offsets.ravel() + 4)
    assert len(count) == 8
    assert stats.chisquare(count).pvalue > 0.01
    assert stats.kstest(draw("motion_blur", 500), "uniform", (-45, 90)).pvalue > 0.01
    fields, angles = draw("snow", 40)
    assert stats.kstest(angles, "uniform", (-135, 90)).pvalue > 0.01
    assert stats.kstest(fields[0].ravel(), "norm").pvalue > 0.01
    sizes = np.array([[225, 300], [240, 240], [300, 225]], np.int32)
    which, rows, columns = draw("frost", 2000, sizes=jnp.asarray(sizes)).T
    assert stats.chisquare(np.bincount(which, minlength=3)).pvalue > 0.01
    for texture, (height, width) in enumerate(sizes - 224):  # the upper bound is exclusive
        assert set(rows[which == texture]) == set(range(height)) if height < 20 else max(rows) < 76
        assert columns[which == texture].max() < width


def test_snow_and_fog_look_like_the_originals():
    """Statistics of whole layers against the transcription with NumPy's random numbers."""
    rng, values = np.random.default_rng(0), constants.published("snow", 3)
    fields, angles = draw("snow", 8, severity=3)
    black = np.zeros((224, 224, 3), np.uint8)
    layer = jax.jit(weather.TABLE["snow"].apply)
    arrays = weather.TABLE["snow"].prepare(3, 224)
    ours = [np.asarray(layer(black, pair, arrays)).mean() for pair in zip(fields, angles, strict=True)]
    theirs = [
        reference.snow(black, rng.standard_normal((224, 224)), rng.uniform(-135, -45), **values).mean()
        for _ in range(8)
    ]
    assert stats.ttest_ind(ours, theirs).pvalue > 0.01
    assert stats.kstest(draw("fog", 1).ravel(), "uniform", (-1, 2)).pvalue > 0.01
    plasma = jax.jit(weather.plasma)
    smooth, rough = (np.asarray(plasma(draw("fog", 1)[0], decay)) for decay in (2.0, 1.4))
    for field in (smooth, rough):
        assert field.shape == (256, 256) and field.min() == 0 and field.max() == 1
    steps = [abs(np.diff(field, axis=0)).mean() for field in (smooth, rough)]
    assert steps[0] < steps[1] / 2


# Other sides


@pytest.mark.parametrize("side", [8, 32, 112, 300])
def test_weather_is_the_same_at_any_side(side):
    """Fitting keeps the mean of what falls on the image, and an even layer even."""
    matrix = kernels.fit_matrix(224, side)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix.sum(0), side / 224, atol=1.0 if side > 224 else 1e-12)
    layer = np.random.default_rng(0).random((224, 224)).astype(np.float32)
    assert np.asarray(weather.fitted(layer, side)).mean() == pytest.approx(layer.mean(), rel=0.01)


def test_the_kernel_of_defocus_scales():
    """Its second moment goes with the square of the side, down to the half pixel that sharing among pixels adds."""
    moments = {}
    for side in (56, 112, 224, 448):
        size = blur._transform_size(side)
        kernel = np.fft.irfft2(blur.TABLE["defocus_blur"].prepare(5, side)["transform"], (size, size))
        assert kernel.sum() == pytest.approx(1, abs=0.02)
        place = np.fft.fftfreq(size, 1 / size)
        moments[side] = (kernel.sum(0) * place**2).sum() / kernel.sum()
    for side in (56, 112, 448):
        assert moments[side] == pytest.approx(moments[224] * (side / 224) ** 2, rel=0.02, abs=0.25)


def test_settings():
    told = corruptions.settings("motion_blur", 5, 112)
    assert told["constants"] == {"radius": 10, "sigma": 7.5}
    assert told["published"] == {"radius": 20, "sigma": 15}
    assert told["vanishes"] is False
    assert "published" not in corruptions.settings("motion_blur", 5, 224)
    assert corruptions.settings("fog", 1, 32)["drawn_at"] == 224
    assert corruptions.settings("glass_blur", 1, 32)["constants"]["reach"] == 1
    assert corruptions.settings("frost", 1, 224)["textures"] == "procedural"
    assert corruptions.settings("gaussian_noise", 3, 8)["constants"] == {"deviation": 0.18}


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur"])
def test_what_vanishes_is_said(images, name):
    """Exactly those blurs that leave black and white images of 8 pixels as they are, to a level; none at 224."""
    small = 255 * (images[:, :8, :8] & 1)
    for severity in constants.SEVERITIES:
        result = corruptions.corrupt(small, name, severity, np.arange(20), 0, jpeg_quality=0)
        unchanged = abs(result.astype(int) - small).max() <= 1
        assert corruptions.settings(name, severity, 8)["vanishes"] == unchanged
        assert not corruptions.settings(name, severity, 224)["vanishes"]


# Textures and errors


@pytest.fixture
def published(tmp_path):
    """A folder with files of the published names, each of one colour."""
    for i, name in enumerate(textures.FILES):
        Image.new("RGB", (230 + i, 240), (40 * i, 0, 10)).save(tmp_path / name)
    return tmp_path


def test_textures_from_a_folder(published):
    black = np.zeros((40, 8, 8, 3), np.uint8)
    result = corruptions.corrupt(black, "frost", 5, np.arange(40), 0, textures=str(published), jpeg_quality=0)
    assert {round(value / 0.75 / 40) for value in np.unique(result[..., 0])} == {0, 1, 2, 3, 4}
    assert corruptions.settings("frost", 5, 8, textures=str(published))["textures"] == "published"
    grown = corruptions.corrupt(black, "frost", 5, np.arange(40), 0, jpeg_quality=0)
    assert (grown != result).any()


def test_textures_that_are_not_there(published, tmp_path, images):
    (published / "frost4.jpg").unlink()
    with pytest.raises(UserError, match=r"no frost texture frost4\.jpg; .*put the published files there"):
        corruptions.corrupt(images, "frost", 1, np.arange(20), 0, textures=published)
    (published / "frost4.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cannot read a frost texture; .*frost4\.jpg"):
        textures.load(str(published))
    Image.new("RGB", (224, 300)).save(published / "frost4.jpg")
    with pytest.raises(UserError, match=r"224 x 300 pixels; .*must exceed"):
        textures.load(str(published))


@pytest.mark.parametrize(
    ("name", "severity", "message"),
    [("fogg", 1, "'fogg'.*gaussian_noise"), ("saturate", 1, "'saturate'.*use one of"), ("fog", 0, "severity 0")],
)
def test_unknown_names_and_severities_are_refused(images, name, severity, message):
    with pytest.raises(UserError, match=f"unknown .*{message}"):
        corruptions.corrupt(images, name, severity, np.arange(20), 0)


def test_shapes_that_do_not_fit_are_refused(images):
    indices = np.arange(20)
    for wrong, places in ((images[:, :8], indices), (images / 255, indices), (images, indices[:3])):
        with pytest.raises(ValueError, match=r"uint8|indices"):
            corruptions.corrupt(wrong, "fog", 1, places, 0)
    with pytest.raises(UserError, match="at least 8 pixels a side, not 4"):
        corruptions.corrupt(images[:, :4, :4], "fog", 1, indices, 0)


@pytest.mark.parametrize("name", ["gaussian_noise", "jpeg_compression"])
def test_seeds_do_not_wrap(images, name):
    first, last = (corruptions.corrupt(images[:1], name, 1, [0], seed) for seed in (0, 2**32 - 1))
    assert (first == last).all() == (name == "jpeg_compression")
    for seed in (-1, 2**32, 10**30):
        with pytest.raises(UserError, match=f"^seed={seed} is out of range; it must be between 0 and 4294967295$"):
            corruptions.corrupt(images[:1], name, 1, [0], seed)
