"""Convolution, pooling and regularization against XLA's own operations and against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax.errors import UserError
from nofrost_jax.models import convolutions, layers, standardized


def both(function, *arguments):
    """(value, gradients) of sum(cos(i) * output) under either implementation."""

    def weighted(implementation, *arguments):
        out = function(*arguments, implementation=implementation)
        return (out * jnp.cos(jnp.arange(out.size).reshape(out.shape))).sum(), out

    gradient = jax.grad(weighted, argnums=tuple(range(1, 1 + len(arguments))), has_aux=True)
    return [jax.jit(gradient, static_argnums=0)(name, *arguments) for name in convolutions.CONV_IMPLEMENTATIONS]


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"),
    [
        *[(8, 8, 3, 1), (8, 8, 3, 2), (7, 5, 3, 2), (5, 7, 3, 1), (2, 2, 3, 1), (1, 1, 3, 2)],
        *[(80, 78, 3, 1), (159, 160, 3, 2)],  # large maps
        *[(7, 8, 1, 1), (7, 8, 1, 2), (8, 11, 7, 2), (1, 2, 7, 2), (8, 8, 7, 1)],
    ],
)
def test_convolutions_agree(height, width, size, stride):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, height, width, 6)).astype(np.float32)
    kernel = draw.normal(size=(size, size, 6, 5)).astype(np.float32)

    def conv(x, kernel, implementation):
        return convolutions.conv2d(x, kernel, stride, size // 2, implementation)

    for ours, xla in zip(*map(jax.tree.leaves, both(conv, x, kernel)), strict=True):
        assert ours.shape == xla.shape
        np.testing.assert_allclose(ours, xla, rtol=0, atol=2e-6 * float(jnp.abs(xla).max()))


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 7, 5, 3), (2, 1, 2, 3)])
@pytest.mark.parametrize("window", [(3, 2, 1), (3, 1, 1), (2, 2, 1), (1, 2, 0)])  # size, stride, padding
@pytest.mark.parametrize("levels", [0, 3])
def test_max_pooling_agrees_also_on_ties(shape, window, levels):
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    x = np.round(x * levels) / levels if levels else x

    def pool(x, implementation):
        return convolutions.max_pool(x, *window, implementation=implementation)

    for ours, xla in zip(*map(jax.tree.leaves, both(pool, x)), strict=True):
        np.testing.assert_allclose(ours, xla, rtol=0, atol=1e-6)


def test_max_pooling_keeps_nan():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    for name in convolutions.CONV_IMPLEMENTATIONS:
        assert np.isnan(convolutions.max_pool(x, implementation=name)[0, ..., 0]).sum() == 4


def test_the_gradient_of_standardized_kernels_is_the_derived_one():
    def derived(kernel, gain):
        centred = kernel - kernel.mean((0, 1, 2))
        scale = standardized.RELU_GAMMA * float(np.prod(kernel.shape[:-1])) ** -0.5 * gain
        return centred / jnp.sqrt(jnp.square(centred).mean((0, 1, 2)) + layers.EPSILON) * scale

    rng = np.random.default_rng(2)
    # a mean well off zero, and a channel whose variance is below epsilon
    kernel = (rng.normal(size=(3, 3, 5, 4)) * [1, 1, 1, 1e-3] + [0, 3, 0, 0]).astype(np.float32)
    gain, gradient = (rng.normal(size=shape).astype(np.float32) for shape in ((4,), kernel.shape))
    pairs = []
    for function in (standardized.standardize, derived):
        value, backward = jax.vjp(function, kernel, gain)
        pairs.append((value, *backward(gradient)))
    for ours, expected in zip(*pairs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-6 * float(jnp.abs(expected).max()))


def test_relu_is_jax_s_at_every_number():
    x = jnp.array([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0])
    (ours, our_gradient), (theirs, their_gradient) = (jax.vjp(relu, x) for relu in (layers.relu, jax.nn.relu))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(our_gradient(x + 7), their_gradient(x + 7))


def test_average_pooling_counts_only_the_elements_that_exist():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    expected = [[(0 + 1 + 5 + 6) / 4, (2 + 3 + 7 + 8) / 4, (4 + 9) / 2], [(10 + 11) / 2, (12 + 13) / 2, 14]]
    np.testing.assert_allclose(layers.avg_pool_2x2(x)[0, ..., 0], expected)


def test_the_environment_chooses_the_implementation(monkeypatch):
    monkeypatch.delenv("NOFROST_CONV", raising=False)
    assert convolutions.conv_implementation() == "slices"  # the tests run on CPU
    monkeypatch.setenv("NOFROST_CONV", "xla")
    assert convolutions.conv_implementation() == "xla"
    monkeypatch.setenv("NOFROST_CONV", "cudnn")
    with pytest.raises(UserError, match=r"cudnn.*slices"):
        convolutions.conv_implementation()


@pytest.mark.parametrize("whole", [False, True])
def test_drop_keeps_the_mean_and_depends_on_the_image_key_alone(whole):
    keys = jax.random.split(jax.random.key(0), 4000)
    x = jnp.ones((4000, 1, 1, 4))
    out = layers.drop(x, 0.25, keys, 3, whole)
    assert set(np.unique(out).round(5)) == {0.0, np.float32(4 / 3).round(5)}
    assert abs(float((out > 0).mean()) - 0.75) < 0.03
    shared = (out == out[..., :1]).all()
    assert bool(shared) == whole
    np.testing.assert_array_equal(layers.drop(x[7:9], 0.25, keys[7:9], 3, whole), out[7:9])
    assert (layers.drop(x, 0.25, keys, 4, whole) != out).any()
