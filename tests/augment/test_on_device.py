"""The on-device mode equals the same distortions image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax.augment.deepaugment import edsr, on_device, random_weights
from nofrost_jax.tools.deepaugment import generate

SIZES = {"edsr": (16, 18), "cae": (18, 16)}  # one side that 4 does not divide
N = 5


ALL = np.ones(N, bool)


@pytest.fixture(scope="module", params=on_device.NETWORKS)
def case(request):
    """(network, params, images, keys, in groups of at most 3: all of them distorted, the program)."""
    network = request.param
    params = random_weights.random_params(network, 1)
    images = np.random.default_rng(0).uniform(size=(N, *SIZES[network], 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(2), N)
    run = grouped(network, params, 3)
    return network, params, images, keys, run(images, keys, ALL), run


def grouped(network, params, group):
    """(images, keys, chosen) -> distorted images, compiled."""
    run = jax.jit(
        lambda params, images, keys, chosen: on_device.distort(
            images, keys, params, network=network, group=group, chosen=chosen
        )
    )
    return lambda *arguments: np.asarray(run(params, *arguments))


@pytest.mark.slow
def test_a_group_equals_its_images_one_by_one(case):
    network, params, images, keys, output, _ = case
    transform = jax.jit(lambda params, image, key: on_device.transform(network, params, image[None], key[None])[0])
    for first, members in ((0, (0, 1, 2)), (3, (3, 4))):
        edited = generate.edited(network, params, keys[first])
        for i in members:
            np.testing.assert_allclose(output[i], transform(edited, images[i], keys[i]), atol=2e-3)


def test_images_that_are_not_chosen_stay_and_leave_the_groups_to_the_others(case):
    _, _, images, keys, _, run = case
    for chosen in (np.array([0, 1, 0, 1, 0], bool), np.array([1, 1, 1, 0, 1], bool), np.zeros(N, bool)):
        found = run(images, keys, chosen)
        np.testing.assert_array_equal(found[~chosen], images[~chosen])
        order = np.argsort(~chosen, kind="stable")
        first = run(images[order], keys[order], ALL)
        np.testing.assert_allclose(found[order][: chosen.sum()], first[: chosen.sum()], atol=1e-5)


def test_in_groups_of_one_an_image_depends_on_its_own_key_alone(case):
    """Whatever its neighbours are, chosen or not, so that a training does not depend on the number of devices."""
    network, params, images, keys, _, _ = case
    run = grouped(network, params, 1)
    whole = run(images, keys, np.array([1, 1, 0, 1, 1], bool))
    for order, chosen in (([1, 0, 0, 1, 0], [1, 1, 0, 0, 0]), ([3, 4, 2, 3, 4], [0, 1, 0, 0, 0])):
        order, chosen = np.array(order), np.array(chosen, bool)
        expected = np.where(chosen[:, None, None, None], whole[order], images[order])
        np.testing.assert_allclose(run(images[order], keys[order], chosen), expected, atol=1e-4)


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
    _, _, images, keys, output, run = case
    assert output.shape == images.shape and output.dtype == np.float32
    assert output.min() >= 0 and output.max() <= 1 and output.std(axis=(1, 2, 3)).min() >= 0
    assert np.abs(output - images).mean() > 0.01
    np.testing.assert_array_equal(output, run(images, keys, ALL))
    other = run(images, jax.random.split(jax.random.key(3), N), ALL)
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
    with pytest.raises(ValueError, match="deepaugment"):
        on_device.distort(jnp.zeros(shape), jax.random.split(jax.random.key(0), keys), {}, **options)
