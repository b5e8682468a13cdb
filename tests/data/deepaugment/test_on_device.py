"""The on-device mode equals the same distortions image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax.data.deepaugment import generate, on_device, random_weights
from nofrost_jax.errors import UserError

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
