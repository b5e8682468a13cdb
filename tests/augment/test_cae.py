"""The CAE and its distortions against the PyTorch transcription, with the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax.augment.deepaugment import cae, distort_cae, random_weights
from tests.augment.conftest import in_float64

NETWORK = "cae"
HEIGHT, WIDTH = 18, 27  # neither divisible by 4
CODE = (1, HEIGHT // 4, WIDTH // 4, 32)
apply = in_float64(distort_cae.apply_edit)  # called with the layers that change


@pytest.fixture(scope="module")
def edits():
    """[n] draws for every option."""
    keys = jax.random.split(jax.random.key(4), 3 * len(distort_cae.EDIT_NAMES))
    return jax.tree.map(np.array, jax.jit(jax.vmap(distort_cae.draw_edit))(keys))


@pytest.fixture(scope="module")
def latents():
    """One draw for each option of a code [4, 6, 32]."""
    keys = jax.random.split(jax.random.key(9), 9)
    drawn = jax.jit(jax.vmap(lambda key: distort_cae.draw_latent(key, *CODE[1:3])))(keys)
    return jax.tree.map(np.array, drawn)._replace(option=np.arange(9, dtype=np.int32))


def test_the_net_and_every_latent_distortion_equal_pytorch(reference, state, params, latents):
    images = np.random.default_rng(1).uniform(size=(9, HEIGHT, WIDTH, 3))
    codes = in_float64(cae.encode)(params, images)
    output = in_float64(cae.forward)(params, images, latents)
    expected = reference.cae_encode(state, reference.nchw(images))
    np.testing.assert_allclose(codes, reference.nhwc(expected), atol=1e-12)
    assert codes.shape[1:] == CODE[1:] and output.shape[1:] == (16, 24, 3) and 0.1 < codes.std() < 0.95
    for i in range(9):
        own = jax.tree.map(lambda x, i=i: x[i], latents)
        encoded = reference.distort_code(expected[i], own)
        decoded = reference.cae_decode(state, encoded[None])
        np.testing.assert_allclose(output[i], reference.nhwc(decoded)[0], atol=1e-11, err_msg=f"A{i}")
    single = jax.jit(cae.forward)(
        jax.tree.map(np.float32, params), images[:1].astype(np.float32), jax.tree.map(lambda x: x[:1], latents)
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single[0], output[0], atol=2e-3)  # a threshold may fall between the two precisions


def test_bits(latents):
    code = np.random.default_rng(2).uniform(-1, 1, CODE[1:]).astype(np.float32)
    for i in range(9):
        bits = np.asarray(jax.jit(distort_cae.distort_latent)(code, jax.tree.map(lambda x, i=i: x[i], latents)))
        if i == 0:
            ones = latents.threshold[0] <= (1 + code) / 2
            amplified = 3 + 4 * latents.amount[0] * latents.field[0]
            np.testing.assert_allclose(bits, np.where(ones, amplified, 0), rtol=1e-6)
        else:
            assert set(np.unique(bits)) == {0.0, 1.0}
    sure = jax.jit(distort_cae.distort_latent)(np.ones_like(code), jax.tree.map(lambda x: x[5], latents))
    assert np.all(np.asarray(sure) == 1)


def test_every_edit_equals_pytorch(reference, state, params, edits):
    distorted = {name: params[name] for name in distort_cae.LAYERS.values()}  # the others are handed through
    prefixes = tuple(f"{name}." for name in distorted)
    for draw in range(len(edits.option)):
        option = draw % 9
        low, high = distort_cae.LOW[option], distort_cae.HIGH[option]
        numbers = [(low, high), (max(low, 10), low), (high, high)][draw // 9]  # 10 is the transposed one
        edit = jax.tree.map(lambda x, draw=draw: x[draw], edits)
        edit = edit._replace(option=np.int32(option), layers=np.array(numbers, np.int32))
        edited = reference.edit_cae(state, edit)
        assert any((edited[name] != state[name]).any() for name in state)
        expected = reference.as_params({name: edited[name] for name in edited if name.startswith(prefixes)})
        actual = apply(distorted, edit)
        assert actual.keys() == expected.keys()
        for name, layer in expected.items():
            for part in ("kernel", "bias"):
                message = f"W{option} on {numbers}: {name} {part}"
                np.testing.assert_allclose(actual[name][part], layer[part], atol=1e-12, err_msg=message)


def test_involutions_and_counts(edits):
    params = random_weights.random_params("cae", 0)
    params = {name: jax.tree.map(np.float64, params[name]) for name in distort_cae.LAYERS.values()}
    kernel, bias = params["d_block_1.1"]["kernel"], params["d_block_1.1"]["bias"]
    first = jax.tree.map(lambda x: x[0], edits)

    def repeated(option, times, **draws):
        edit = first._replace(option=np.int32(option), layers=np.array([11, 12], np.int32), **draws)
        changed = params
        for _ in range(times):
            changed = apply(changed, edit)
        return changed["d_block_1.1"]["kernel"], changed["d_block_1.1"]["bias"]

    cases = [(0, 2, {}), (1, 2, {}), (5, 2, {"signs": np.bool_(True)}), (6, 4, {"turns": np.int32(1)}), (7, 2, {})]
    for option, times, draws in cases:
        for actual, expected in zip(repeated(option, times, **draws), (kernel, bias), strict=True):
            np.testing.assert_array_equal(actual, expected, err_msg=f"W{option}")
    rows = [int(row) for row in first.rows * 128]
    for option, count in [(1, sum(rows[:12].count(k) % 2 for k in set(rows[:12]))), (2, len(set(rows)))]:
        changed = repeated(option, 1)
        assert [(changed[0] != kernel).sum(), (changed[1] != bias).sum()] == [9 * 128 * count, count], f"W{option}"
    assert np.array_equal(repeated(7, 1)[1], bias)
    assert (repeated(8, 1)[0] != 0).sum() == 128 * 128


def test_draws():
    edit = jax.jit(lambda keys: jax.vmap(lambda key: distort_cae.draw_edit(key)._replace(fields=0))(keys))(
        jax.random.split(jax.random.key(0), 800)
    )
    option, numbers = np.asarray(edit.option), np.asarray(edit.layers)
    np.testing.assert_allclose(np.bincount(option, minlength=9) / 800, [1 / 8] * 8 + [0], atol=0.05)
    for k in range(8):
        wanted = {0: range(11, 16), 3: range(10, 14)}.get(k, range(8, 14))
        assert set(numbers[option == k, 0]) == set(numbers[option == k, 1]) == set(wanted)
    keys = jax.random.split(jax.random.key(1), 1000)
    latent = jax.jit(jax.vmap(lambda key: distort_cae.draw_latent(key, 1, 1)))(keys)
    np.testing.assert_allclose(np.bincount(latent.option) / 1000, np.full(9, 1 / 9), atol=0.04)
    shifts = np.asarray(latent.shifts)
    changes = (shifts[:, 1:] != shifts[:, :-1]).mean()
    assert abs(changes - 0.2 * 8 / 9) < 0.02  # a redraw finds the same place one time in nine
    np.testing.assert_allclose(np.bincount(shifts.ravel()) / shifts.size, np.full(9, 1 / 9), atol=0.03)
    assert np.all(np.sort(latent.permutation) == np.arange(10)) and abs(latent.present.mean() - 0.5) < 0.03
    assert -0.1 <= latent.mixing.min() < -0.099 and 0.099 < latent.mixing.max() <= 0.1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (18, 27), (19, 23)])
def test_output_sizes(height, width):
    shape = jax.eval_shape(
        lambda images, key: cae.forward(
            random_weights.random_params("cae", 0),
            images,
            jax.tree.map(lambda x: x[None], distort_cae.draw_latent(key, height // 2 // 2, width // 2 // 2)),
        ),
        jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32),
        jax.random.key(0),
    ).shape
    assert shape == (1, 4 * (height // 2 // 2), 4 * (width // 2 // 2), 3)
