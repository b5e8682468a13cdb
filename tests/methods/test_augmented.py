"""Training on several views: where its terms meet Equation 1, the coin, and what the device makes of the views."""

import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import keys
from nofrost_jax.augment import noise2net, tda
from nofrost_jax.methods import at, augmented
from tests.methods.helpers import (
    BATCH,
    COINS,
    DATA,
    VIEWS,
    SmallNet,
    largest_difference,
    loss_and_gradients,
    standard,
    step_keys,
    tiny_config,
    with_coin,
)

UNTOUCHED = mock.patch.object(augmented.tda, "colours", lambda images, image_keys: images)
OTHER = {name: VIEWS[name] / 255.0 for name in ("deepaugment", "tda")}  # float64, as `loss_and_gradients` has them
SAME = with_coin(dict.fromkeys(OTHER, DATA["image"] / 255.0), COINS)
OTHER = with_coin(OTHER, COINS)


def augmented_config(row, **fields):
    """Without dropout, whose masks differ between the streams; the views come as they are."""
    return tiny_config(row, deepaugment__mode="files", **fields)


@UNTOUCHED
@pytest.mark.parametrize(("terms", "weight"), [("authors", 1 / 4), ("paper", 1 / 3)])
def test_equal_views_give_equation_1(terms, weight):
    """NF net: (L(c) + L(c) + L(c) + L(a)) / 4 and (L(c) + L(c) + L(a)) / 3, in loss and gradients."""
    model = SmallNet("", axis_name=None)
    config = augmented_config("nofrost_star", method__terms=terms)
    found = loss_and_gradients(augmented.make_loss, config, model, views=SAME)
    expected = loss_and_gradients(at.make_loss, tiny_config("nofrost", method__adversarial_weight=weight), model)
    assert found[0] == pytest.approx(expected[0], rel=1e-9) and largest_difference(found[1], expected[1]) < 1e-9
    other = loss_and_gradients(augmented.make_loss, config, model, views=OTHER)
    assert abs(other[0] - found[0]) > 1e-3


@UNTOUCHED
@pytest.mark.parametrize("row", ["deepaugment", "tda"])
def test_equal_views_without_an_attack_are_standard_training(row):
    """Batch norm's statistics of DeepAugment move twice."""
    model, config = SmallNet(axis_name=None), augmented_config(row)
    loss, gradients, stats = loss_and_gradients(augmented.make_loss, config, model, views=SAME)
    plain = loss_and_gradients(standard, tiny_config("st"), model)
    assert loss == pytest.approx(plain[0], rel=1e-9) and largest_difference(gradients, plain[1]) < 1e-9
    assert (largest_difference(stats, plain[2]) < 1e-7) == (row == "tda")


def test_combine_without_batch_norm_is_nofrost_star_of_the_authors():
    model = SmallNet("", dropout=0.25, axis_name=None)
    configs = (augmented_config("combine"), augmented_config("nofrost_star", method__terms="authors"))
    found = [loss_and_gradients(augmented.make_loss, config, model, views=OTHER) for config in configs]
    assert largest_difference(*found) == 0
    paper = loss_and_gradients(augmented.make_loss, augmented_config("nofrost_star"), model, views=OTHER)
    assert abs(paper[0] - found[0][0]) > 1e-4


def stream(name, config, views=None):
    """A stream of the batch, with other `views`, computed by one program."""
    compute = jax.jit(lambda batch, image_keys: augmented.stream(name, config, {}, batch, image_keys))
    return np.asarray(compute(DATA | VIEWS | (views or {}), step_keys()))


@pytest.mark.parametrize("mode", ["files", "noise2net"])
def test_the_coin_takes_one_whole_view_of_each_image(mode):
    """The batch's coin says which distortion follows; an image's own key, which one of its kind."""
    config = tiny_config("nofrost_star", deepaugment__mode=mode)
    names = ("deepaugment", "tda")
    deep, textures = (stream(name, config, dict.fromkeys(names, VIEWS["augmented"])) for name in names)
    for coins in (COINS, ~COINS):
        found = stream("augmented", config, {"is_deepaugment": coins})
        np.testing.assert_allclose(found, np.where(coins[:, None, None, None], deep, textures), atol=1e-5)
    # TDA leaves about half of the images as they are.
    assert (np.abs(deep - textures).max((1, 2, 3)) > 1e-3).sum() > BATCH / 4


def test_noise2net_sees_normalized_pixels_and_its_images_are_normalized_again():
    config = tiny_config("deepaugment")
    mean, std = (np.asarray(values, np.float32) for values in (config.data.mean, config.data.std))
    images = VIEWS["deepaugment"] / np.float32(255)
    found = stream("deepaugment", config)
    apply = jax.jit(lambda images, image_keys: noise2net.apply(images, image_keys, maximum=0.75))
    expected = apply((images - mean) / std, keys.named(step_keys(), "noise2net"))
    np.testing.assert_allclose((found - mean) / std, expected, atol=1e-5)
    assert np.abs(found - images).max() > 0.1
    config.deepaugment.maximum = 0.0
    np.testing.assert_allclose(stream("deepaugment", config), images, atol=1e-6)
    config.deepaugment.mode = "files"
    np.testing.assert_allclose(stream("deepaugment", config), images, atol=1e-7)


def test_nets_on_the_device_share_the_images(monkeypatch):
    """Each image takes one net by its own key, of the chosen ones; whatever is beside it, on however many devices."""
    config, calls = tiny_config("deepaugment", deepaugment__mode="on_device", deepaugment__group=4), []

    def distort(images, image_keys, params, *, network, group, chosen):
        calls.append((network, params, group, jax.random.key_data(image_keys).tolist()))
        return jnp.where(chosen[:, None, None, None], images + {"edsr": 1, "cae": 2}[network], images)

    monkeypatch.setattr(augmented.on_device, "distort", distort)
    expected_keys = jax.random.key_data(keys.named(step_keys(), "on_device")).tolist()
    images, nets, counts = VIEWS["deepaugment"] / np.float32(255), {"edsr": "E", "cae": "C"}, []
    for step in range(12):
        found = np.asarray(augmented.deepaugment(config, nets, images, step_keys(step), COINS)) - images
        picks = np.round(found.mean((1, 2, 3))).astype(int)
        np.testing.assert_allclose(found, np.broadcast_to(picks[:, None, None, None], found.shape), atol=1e-6)
        assert (picks[~COINS] == 0).all() and (picks[COINS] > 0).all()
        counts += list(picks[COINS] == 2)
        part = slice(3, 9)
        alone = augmented.deepaugment(config, nets, images[part], step_keys(step)[part], COINS[part])
        np.testing.assert_allclose(alone, (images + found)[part], atol=1e-6)
    assert abs(np.mean(counts) - 0.5) < 4 * 0.5 / len(counts) ** 0.5
    assert calls[0] == ("edsr", "E", 4, calls[0][3]) and calls[1][:3] == ("cae", "C", 4)
    calls.clear()
    found = augmented.deepaugment(config, {"edsr": "E"}, images, step_keys())
    np.testing.assert_allclose(found, images + 1, atol=1e-6)
    assert calls == [("edsr", "E", 4, expected_keys)]


def test_weights_are_loaded_where_they_are_needed_alone():
    config = tiny_config("nofrost_star", deepaugment__mode="on_device", deepaugment__weights="random:1")
    config.deepaugment.sources = ("edsr",)
    assert list(augmented.load_nets(config)) == ["edsr"]
    config.deepaugment.mode = "noise2net"
    assert augmented.load_nets(config) == {}


def test_blur_and_noise_are_off_unless_asked_for():
    config, found = tiny_config("tda"), []
    for blur, noise in ((0.0, 0.0), (2.0, 0.0), (2.0, 0.1)):
        config.method.tda_blur, config.method.tda_noise = blur, noise
        found.append(stream("tda", config))
    colours = jax.jit(tda.colours)(VIEWS["tda"] / np.float32(255), keys.named(step_keys(), "tda colours"))
    np.testing.assert_allclose(found[0], colours, atol=1e-6)
    for before, after in itertools.pairwise(found):
        changed = np.abs(before - after).max((1, 2, 3)) > 1e-3
        assert 2 < changed.sum() < 14


@pytest.mark.parametrize(
    ("row", "mode", "multiply_adds"),
    [
        ("sat", "noise2net", 0),
        ("tda", "noise2net", 0),
        ("combine", "files", 0),
        ("combine", "noise2net", 29_184),
        ("combine", "on_device", (123_948 + 354_000) / 2),
        ("nofrost_star", "on_device", (123_948 + 354_000) / 4),
    ],
)
def test_what_the_distortion_costs(row, mode, multiply_adds):
    config = tiny_config(row, deepaugment__mode=mode)
    assert augmented.view_flops(config) == 2 * multiply_adds * config.data.image_size**2
