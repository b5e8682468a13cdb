"""Noise2Net against grouped convolutions in PyTorch, and what its random numbers promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax.augment import noise2net

N, SIZE = 3, 12


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(N, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(1), N)


@pytest.fixture(scope="module")
def outputs(images, keys):
    """By implementation, with dilations per image."""
    return {name: np.asarray(run(images, keys, implementation=name)) for name in noise2net.IMPLEMENTATIONS}


@jax.jit
def networks(keys):
    return jax.vmap(lambda key: noise2net.draw(key, 0.75))(keys)


def run(images, keys, **options):
    return jax.jit(lambda images, keys: noise2net.apply(images, keys, **options))(images, keys)


@pytest.mark.parametrize("name", noise2net.IMPLEMENTATIONS)
def test_images_that_are_not_chosen_stay(images, keys, outputs, name):
    chosen = np.array([True, False, True])
    found = np.asarray(run(images, keys, implementation=name, chosen=chosen))
    np.testing.assert_array_equal(found[~chosen], images[~chosen])
    np.testing.assert_allclose(found[chosen], outputs[name][chosen], atol=1e-5)


def reference(torch, images, nets, epsilon):
    """The rule as the original states it: N images are N groups of one convolution. nets: Network with leading N;
    all of one kernel size and dilation. epsilon [N]."""
    functional, n, (height, width) = torch.nn.functional, len(images), images.shape[1:3]
    rng = np.random.default_rng(5)

    def kernel(array, size):  # [N, k, k, I, O] -> [N * O, I, k, k]
        array = np.asarray(array, np.float64)
        array = array[:, 1:2, 1:2] if array.shape[1] > size else array
        return torch.from_numpy(array.transpose(0, 4, 3, 1, 2).reshape(-1, array.shape[3], size, size))

    def convolve(x, weight, dilation=1, bias=False):
        padding = dilation * (weight.shape[-1] - 1) // 2
        bias = torch.from_numpy(rng.uniform(-0.3, 0.3, len(weight))) if bias else None
        return functional.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=n)

    def norm(x):  # all images are one image with N times the channels, so that batch statistics are each image's own
        return functional.batch_norm(x, None, None, training=True)

    x = torch.from_numpy(images.astype(np.float64)).permute(0, 3, 1, 2).reshape(1, n * 3, height, width)
    for block in range(noise2net.BLOCKS):
        h = convolve(x, kernel(nets.entry[:, block, None, None], 1))
        h = torch.relu(norm(h)).reshape(n, 4, 16, height, width)
        outputs = []
        for group in range(3):
            (dilation,) = set(np.asarray(nets.dilations[:, block, group]).tolist())
            weight = kernel(nets.kernels[:, block, group], 3 if dilation else 1)
            inside = h[:, group] + (outputs[-1] if outputs else 0)
            out = convolve(inside.reshape(1, n * 16, height, width), weight, max(dilation, 1), bias=True)
            outputs.append(torch.relu(norm(out)).reshape(n, 16, height, width))
        h = torch.cat([*outputs, h[:, 3]], 1).reshape(1, n * 64, height, width)
        h = norm(convolve(h, kernel(nets.exit[:, block, None, None], 1)))
        scale = torch.from_numpy(np.asarray(epsilon, np.float64)).reshape(1, n, 1, 1, 1)
        x = x + (scale * h.reshape(1, n, 3, height, width)).reshape(x.shape)
    return x.reshape(n, 3, height, width).permute(0, 2, 3, 1).numpy()


def test_every_image_equals_grouped_convolutions_in_float64(images, keys):
    torch = pytest.importorskip("torch")
    nets = networks(keys)
    assert len({int(d) for d in np.asarray(nets.dilations).ravel()}) == 4  # else the keys test too little
    with jax.enable_x64(True):
        outputs = [run(images.astype(np.float64), keys, implementation=name) for name in noise2net.IMPLEMENTATIONS]
    for i in range(N):
        own = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], nets)
        expected = reference(torch, images[i : i + 1], own, own.epsilon)
        for output in outputs:
            np.testing.assert_allclose(output[i : i + 1], expected, atol=1e-10)


def test_an_image_depends_on_its_own_key_alone(images, keys, outputs):
    order = np.array([2, 0, 1])
    swapped = np.asarray(run(images[order], keys[order], implementation="map"))
    np.testing.assert_array_equal(swapped, outputs["map"][order])
    alone = np.asarray(run(images[1:2], keys[1:2], implementation="map"))
    np.testing.assert_array_equal(alone, outputs["map"][1:2])
    assert np.abs(outputs["map"] - images).max(axis=(1, 2, 3)).min() > 0.1
    same = np.asarray(run(images[[0, 0]], keys[:2], implementation="map"))
    assert np.abs(same[0] - same[1]).max() > 0.1


def test_draws():
    nets = jax.jit(jax.vmap(lambda key: noise2net.draw(key, 0.5)))(jax.random.split(jax.random.key(2), 300))
    epsilon, dilations = np.asarray(nets.epsilon), np.asarray(nets.dilations)
    assert 0.25 <= epsilon.min() < 0.26 and 0.49 < epsilon.max() <= 0.5
    shares = [(dilations == dilation).mean() for dilation in range(4)]
    np.testing.assert_allclose(shares, [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.03)
    kernels = np.abs(nets.kernels)
    for dilation in range(4):
        bound = (16 if dilation == 0 else 144) ** -0.5
        assert 0.999 * bound < kernels[dilations == dilation].max() <= bound
    assert 0.999 * 3**-0.5 < np.abs(nets.entry).max() <= 3**-0.5
    assert 0.999 / 8 < np.abs(nets.exit).max() <= 1 / 8


@pytest.mark.parametrize(
    ("shape", "count", "options"),
    [((2, 8, 8, 1), 2, {}), ((2, 8, 8, 3), 3, {}), ((2, 8, 8, 3), 2, {"implementation": "fast"})],
)
def test_what_it_refuses(shape, count, options):
    with pytest.raises(ValueError, match="noise2net"):
        noise2net.apply(jnp.zeros(shape), jax.random.split(jax.random.key(0), count), **options)
