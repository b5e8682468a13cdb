"""Training on several views: where its terms meet Equation 1, the coin, and what the device makes of the views."""

import itertools
from unittest import mock

import jax
import numpy as np
import pytest

from nofrost_jax import keys
from nofrost_jax.data import tda
from nofrost_jax.data.deepaugment import noise2net
from nofrost_jax.methods import at, augmented
from tests.methods.helpers import (
    BATCH,
    DATA,
    VIEWS,
    SmallNet,
    largest_difference,
    loss_and_gradients,
    standard,
    step_keys,
    tiny_config,
)

UNTOUCHED = mock.patch.object(augmented.tda, "colours", lambda images, image_keys: images)
SAME = dict.fromkeys(VIEWS, DATA["image"] / 255.0)  # float64, as `loss_and_gradients` has them
OTHER = {name: images / 255.0 for name, images in VIEWS.items()}


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


def stream(name, config):
    """A stream of the batch, computed by one program."""
    compute = jax.jit(lambda batch, image_keys: augmented.stream(name, config, {}, batch, image_keys))
    return np.asarray(compute(DATA | VIEWS, step_keys()))


def test_the_coin_takes_one_whole_view_of_each_image():
    """Each about half of the time, by the image's own key, whatever is next to it."""
    config = augmented_config("nofrost_star")
    batch, names = DATA | VIEWS, ("augmented", "deepaugment", "tda")
    find = jax.jit(lambda batch, image_keys: [augmented.stream(name, config, {}, batch, image_keys) for name in names])
    taken = []
    for step in range(12):
        either, *parts = map(np.asarray, find(batch, step_keys(step)))
        is_deep, is_tda = ((either == one).all((1, 2, 3)) for one in parts)
        assert (is_deep ^ is_tda).all()
        taken.append(is_deep)
    part = slice(3, 5)
    some, *_ = find({name: value[part] for name, value in batch.items()}, step_keys(11)[part])
    np.testing.assert_allclose(some, either[part], atol=1e-6)
    count = 12 * BATCH
    assert abs(np.sum(taken) - count / 2) < 4 * (count / 4) ** 0.5
    assert (np.std(taken, axis=0) > 0).all()


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


def test_nets_on_the_device_share_the_shard():
    """EDSR's half and CAE's half, or all of it; each image with its own key, groups as configured."""
    config, calls = tiny_config("deepaugment", deepaugment__mode="on_device", deepaugment__group=4), []

    def distort(images, image_keys, params, *, network, group):
        calls.append((network, len(images), params, group, jax.random.key_data(image_keys).tolist()))
        return images + {"edsr": 1, "cae": 2}[network]

    expected_keys = jax.random.key_data(keys.named(step_keys(), "on_device")).tolist()
    images = VIEWS["deepaugment"] / np.float32(255)
    with mock.patch.object(augmented.on_device, "distort", distort):
        for nets in ({"edsr": "E", "cae": "C"}, {"edsr": "E"}):
            calls.clear()
            found = augmented.deepaugment(config, nets, images, step_keys())
            share = BATCH // len(nets)
            assert [call[:4] for call in calls] == [(net, share, params, 4) for net, params in nets.items()]
            assert [key for call in calls for key in call[4]] == expected_keys
            added = np.repeat(np.arange(1, len(nets) + 1), share)[:, None, None, None]
            np.testing.assert_allclose(found, images + added, atol=1e-6)


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
