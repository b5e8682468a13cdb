"""The on-device mode equals the same distortions image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax.augment.deepaugment import edsr, on_device, random_weights
from nofrost_jax.errors import UserError
from nofrost_jax.tools.deepaugment import generate

SIZES = {"edsr": (16, 18), "cae": (18, 16)}  # one side that 4 does not divide
N = 5


@pytest.fixture(scope="module", params=on_device.NETWORKS)
def case(request):
    """(network, params, images, keys, output in groups of at most 3)."""
    network = request.param
    params = random_weights.random_params(network, 1)
    images = np.random.default_rng(0).uniform(size=(N, *SIZES[network], 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(2), N)
    run = jax.jit(lambda params, images, keys: on_device.distort(images, keys, params, network=network, group=3))
    return network, params, images, keys, np.asarray(run(params, images, keys)), run


def test_a_group_equals_its_images_one_by_one(case):
    network, params, images, keys, output, _ = case
    transform = jax.jit(lambda params, image, key: on_device.transform(network, params, image[None], key[None])[0])
    for first, members in ((0, (0, 1, 2)), (3, (3, 4))):
        edited = generate.edited(network, params, keys[first])
        for i in members:
            np.testing.assert_allclose(output[i], transform(edited, images[i], keys[i]), atol=2e-3)


def test_images_that_are_not_chosen_stay_and_leave_the_groups_to_the_others(case):
    network, params, images, keys, _, _ = case
    run = jax.jit(
        lambda params, images, keys, chosen: on_device.distort(
            images, keys, params, network=network, group=3, chosen=chosen
        )
    )
    for chosen in (np.array([0, 1, 0, 1, 0], bool), np.array([1, 1, 1, 0, 1], bool), np.zeros(N, bool)):
        found = np.asarray(run(params, images, keys, chosen))
        np.testing.assert_array_equal(found[~chosen], images[~chosen])
        order = np.argsort(~chosen, kind="stable")
        first = np.asarray(run(params, images[order], keys[order], np.ones(N, bool)))
        np.testing.assert_allclose(found[order][: chosen.sum()], first[: chosen.sum()], atol=1e-5)


def test_in_groups_of_one_an_image_hangs_on_its_own_key_alone(case):
    """Whatever is beside it, chosen or not: so that a training does not depend on the number of devices."""
    network, params, images, keys, _, _ = case
    run = jax.jit(
        lambda params, images, keys, chosen: on_device.distort(
            images, keys, params, network=network, group=1, chosen=chosen
        )
    )
    whole = np.asarray(run(params, images, keys, np.array([1, 1, 0, 1, 1], bool)))
    for part, chosen in ((slice(0, 2), [1, 1]), (slice(3, 5), [0, 1])):
        found = np.asarray(run(params, images[part], keys[part], np.array(chosen, bool)))
        expected = np.where(np.array(chosen, bool)[:, None, None, None], whole[part], images[part])
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_the_nets_cost():
    """EDSR by its kernels and the size of the map that each works on; the CAE, and all else, as XLA counts."""
    maps = {"tail.0.2": 1 / 4, "tail.1": 1}  # the last two enlargements are done there; 1 / 16 is the small image
    counted = sum(np.prod(shape) * maps.get(name, 1 / 16) for name, shape in edsr.SHAPES.items())
    assert on_device.MULTIPLY_ADDS["edsr"] == counted
    params, side = random_weights.random_params("cae", 0), 64
    keys, images = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, side, side, 3))
    lowered = jax.jit(lambda images, keys: on_device.transform("cae", params, images, keys)).lower(images, keys)
    flops = lowered.cost_analysis()["flops"]
    assert flops / 2 / side**2 == pytest.approx(on_device.MULTIPLY_ADDS["cae"], rel=0.1)  # less at the edges


def test_shape_range_and_repetition(case):
    _, params, images, keys, output, run = case
    assert output.shape == images.shape and output.dtype == np.float32
    assert output.min() >= 0 and output.max() <= 1 and output.std(axis=(1, 2, 3)).min() >= 0
    assert np.abs(output - images).mean() > 0.01
    np.testing.assert_array_equal(output, run(params, images, keys))
    other = np.asarray(run(params, images, jax.random.split(jax.random.key(3), N)))
    assert np.abs(other - output).mean() > 0.01


@pytest.mark.parametrize(
    ("shape", "keys", "options"),
    [
        ((2, 16, 16, 1), 2, {}),
        ((2, 16, 16, 3), 1, {}),
        ((2, 8, 16, 3), 2, {}),
        ((2, 16, 16, 3), 2, {"group": 0}),
        ((2, 16, 16, 3), 2, {"network": "gan"}),
    ],
)
def test_what_it_refuses(shape, keys, options):
    with pytest.raises(UserError, match="deepaugment"):
        on_device.distort(jnp.zeros(shape), jax.random.split(jax.random.key(0), keys), {}, **options)
