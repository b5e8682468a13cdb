"""EDSR and its distortions against the PyTorch transcription, with the same draws."""

import jax
import numpy as np
import pytest

from nofrost_jax.augment.deepaugment import distort_edsr, edsr, random_weights
from tests.augment.conftest import in_float64

NETWORK = "edsr"
HEIGHT, WIDTH = 6, 8
apply = in_float64(distort_edsr.apply_edits)
SIGNALS = [  # (pre, body, variant, survivor)
    *((pre, 5, 0.5, -1) for pre in (1, 2, 3, 4)),
    *((4, body, variant, -1) for body in (1, 2, 3) for variant in (0.1, 0.5)),
    *((1, 4, 0.5, survivor) for survivor in (16, 15, 14, 13)),
    *[(3, 1, 0.5, -1), (2, 2, 0.9, -1)],
]


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).uniform(0, 255, (len(SIGNALS), HEIGHT, WIDTH, 3))


@pytest.fixture(scope="module")
def signals():
    """One draw an image, with the options of SIGNALS."""
    keys = jax.random.split(jax.random.key(3), len(SIGNALS))
    drawn = jax.jit(jax.vmap(lambda key: distort_edsr.draw_signal(key, HEIGHT, WIDTH)))(keys)
    pre, body, variant, survivor = (np.array(column) for column in zip(*SIGNALS, strict=True))
    return drawn._replace(
        pre=pre.astype(np.int32),
        body=body.astype(np.int32),
        variant=variant.astype(np.float32),
        survivor=survivor.astype(np.int32),
    )


@pytest.fixture(scope="module")
def edits():
    """One draw for each option: leading axis 17."""
    options = np.arange(len(distort_edsr.EDIT_NAMES), dtype=np.int32)
    return jax.tree.map(np.array, jax.jit(distort_edsr.draw_edits)(jax.random.key(4), options))


def test_the_net_equals_pytorch(reference, state, params, pixels):
    expected = reference.nhwc(reference.edsr(state, reference.nchw(pixels[:2])))
    assert expected.shape == (2, 4 * HEIGHT, 4 * WIDTH, 3) and expected.std() > 10
    np.testing.assert_allclose(in_float64(edsr.forward)(params, pixels[:2]), expected, atol=1e-9)
    output = jax.jit(edsr.forward)(jax.tree.map(np.float32, params), pixels[:2].astype(np.float32))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, atol=2e-5 * np.abs(expected).max())


def test_every_distortion_of_the_signal_equals_pytorch(reference, state, params, pixels, signals):
    """The images share one pass over the blocks; PyTorch takes them one by one and skips modules as told."""
    output = in_float64(edsr.forward)(params, pixels, signals)
    plain = reference.nhwc(reference.edsr(state, reference.nchw(pixels)))
    for i, case in enumerate(SIGNALS):
        own = jax.tree.map(lambda x, i=i: np.asarray(x)[i], signals)
        expected = reference.nhwc(reference.edsr(state, reference.nchw(pixels[i : i + 1]), own))[0]
        np.testing.assert_allclose(output[i], expected, atol=1e-9, err_msg=str(case))
        assert np.abs(expected - plain[i]).max() > 1 or case[:2] == (4, 5)


def body_of(reference, state):
    return reference.as_params({name: state[name] for name in state if name.startswith("body.")})["body"]


def assert_same_body(actual, expected, params, message=""):
    for part in ("kernel", "bias"):
        np.testing.assert_allclose(actual["body"][part], expected[part], atol=1e-12, err_msg=f"{message} {part}")
    assert all(np.array_equal(actual[name]["kernel"], params[name]["kernel"]) for name in params if name != "body")


def test_every_edit_equals_pytorch(reference, state, params, edits):
    for option in edits.option:
        edited = reference.edit_edsr(state, jax.tree.map(lambda x, option=option: x[option], edits))
        assert any((edited[name] != state[name]).any() for name in state)
        actual = apply(params, jax.tree.map(lambda x, option=option: x[option : option + 1], edits))
        assert_same_body(actual, body_of(reference, edited), params, f"E{option}")


def test_edits_are_applied_in_turn(reference, state, params, edits):
    three = jax.tree.map(lambda x: x[:3], edits)._replace(option=np.array([0, 7, 3], np.int32))
    three = three._replace(choices=np.repeat(three.choices[:1], 3, axis=0))  # all of them meet in one block
    edited = state
    for i in range(3):
        edited = reference.edit_edsr(edited, jax.tree.map(lambda x, i=i: x[i], three))
    assert_same_body(apply(params, three), body_of(reference, edited), params)


def test_involutions_and_counts(edits):
    params = jax.tree.map(np.float64, random_weights.random_params("edsr", 0))
    kernel = params["body"]["kernel"]

    def repeated(option, times=1, **draws):
        edit = jax.tree.map(lambda x: x[:1], edits)._replace(option=np.array([option], np.int32))
        for name, value in draws.items():
            edit = edit._replace(**{name: np.broadcast_to(value, getattr(edit, name).shape).astype(np.int32)})
        changed = params
        for _ in range(times):
            changed = apply(changed, edit)
        return changed["body"]["kernel"]

    for option in (0, 1, 7, 13, 15):
        np.testing.assert_array_equal(repeated(option, 2), kernel, err_msg=f"E{option} twice")
    np.testing.assert_array_equal(repeated(12, 4, turns=1), kernel)
    assert (repeated(2) == 0).sum() == 9 * 64 * 64
    blocks = np.array([0, 3, 6, 9, 12])
    filters = sum(len(set(row)) for row in edits.filters[0].tolist())
    assert (repeated(15, blocks=blocks) != kernel).sum() == 9 * 64 * filters
    assert abs((repeated(14, blocks=blocks) == 0).sum() / (5 * 9 * 64 * 64) - 0.5) < 0.01
    assert (repeated(16, blocks=blocks) != 0).sum() == kernel.size - 5 * 8 * 64 * 64


def test_draws():
    keys = jax.random.split(jax.random.key(5), 2000)
    signal = jax.jit(jax.vmap(lambda key: distort_edsr.draw_signal(key, 1, 1)))(keys)
    np.testing.assert_allclose(np.bincount(signal.pre)[1:] / 2000, np.full(4, 1 / 4), atol=0.04)
    np.testing.assert_allclose(np.bincount(signal.body)[1:] / 2000, np.full(5, 1 / 5), atol=0.04)
    survivor = np.asarray(signal.survivor)
    assert np.all((survivor == -1) == (np.asarray(signal.body) != 4))
    skipping = survivor[survivor >= 0]
    assert set(skipping) <= {13, 14, 15, 16} and abs((skipping == 16).mean() - (14 / 15) ** 3) < 0.06
    edit = jax.jit(lambda keys: jax.lax.map(small_draws, keys))(keys[:300])
    assert edit.option.shape == (300, 3)
    np.testing.assert_allclose(np.bincount(np.ravel(edit.option), minlength=17) / 900, np.full(17, 1 / 17), atol=0.03)
    assert np.all(np.asarray(edit.choices).reshape(-1, 3).max(0) == [3, 2, 2])
    assert set(np.ravel(edit.blocks)) == set(range(15)) and set(np.ravel(edit.turns)) == {1, 2, 3}
    assert set(np.ravel(edit.signs)) == {-1.0, 1.0} and set(np.ravel(edit.taps)) == set(range(9))


def small_draws(key):
    return distort_edsr.draw_edits(key)._replace(field=0, dirichlet=0)


def test_dirichlet_kernels(edits):
    sums = edits.dirichlet.sum((1, 2))
    np.testing.assert_allclose(sums[distort_edsr.DIRICHLET], 1, atol=1e-5)
    assert not np.delete(sums, distort_edsr.DIRICHLET, axis=0).any()
    largest = edits.dirichlet[distort_edsr.DIRICHLET].max((0, 1))
    assert (largest > 0.5).mean() > 0.8  # alpha of 0.1 is nearly one-hot
