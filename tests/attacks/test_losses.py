"""Attack losses: values by hand on both sides of the boundary, and one class's gradient where logits are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax.attacks import losses

LOGITS = np.array([[4.0, 1.0, 2.0, -1.0], [4.0, 1.0, 2.0, -1.0], [4.0, 1.0, 2.0, -1.0]], np.float32)
LABELS, TARGETS = np.array([0, 2, 3]), np.array([2, 0, 1])  # on top, second, last


def test_values():
    normalizer = np.log(np.exp(LOGITS[0]).sum())
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS), normalizer - np.array([4, 2, -1]), atol=1e-6)
    np.testing.assert_allclose(losses.margin(LOGITS, LABELS), [2 - 4, 4 - 2, 4 + 1])
    np.testing.assert_allclose(losses.dlr(LOGITS, LABELS), np.array([2 - 4, 4 - 2, 4 + 1]) / (4 - 1))
    expected = np.array([2 - 4, 4 - 2, 1 + 1]) / (4 - (1 - 1) / 2)
    np.testing.assert_allclose(losses.dlr_targeted(LOGITS, LABELS, TARGETS), expected)


def test_divergence_is_of_the_clean_prediction_from_the_other():
    """KL(p || q) = sum_k p_k log(p_k / q_k), p of the second argument, summed by hand in float64; not symmetric."""
    clean = np.array([[0.5, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [4.0, 1.0, 2.0, -1.0]], np.float32)
    expected = []
    for row, other in zip(clean.astype(np.float64), LOGITS.astype(np.float64), strict=True):
        p, q = (np.exp(logits) / np.exp(logits).sum() for logits in (row, other))
        expected.append(sum(p[k] * np.log(p[k] / q[k]) for k in range(4)))
    values = losses.kl_divergence(LOGITS, clean)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(values - losses.kl_divergence(clean, LOGITS))[:2] > 0.05) and abs(values[2]) < 1e-6


def test_divergence_is_finite_and_its_gradient_is_the_difference_of_predictions():
    """Also where a probability underflows to zero: 0 log 0 = 0."""
    clean, other = np.array([[200.0, 0.0, -200.0]], np.float32), np.array([[1.0, 0.0, -1.0]], np.float32)
    value, gradient = jax.value_and_grad(lambda logits: losses.kl_divergence(logits, clean).sum())(other)
    q = np.exp(other) / np.exp(other).sum()
    np.testing.assert_allclose(value, -np.log(q[0, 0]), rtol=1e-5)
    np.testing.assert_allclose(gradient, q - np.array([[1.0, 0.0, 0.0]]), atol=1e-6)
    flows = jax.grad(lambda clean: losses.kl_divergence(other, clean).sum())(np.zeros((1, 3), np.float32))
    assert np.abs(flows).max() > 0.1  # TRADES's gradient goes through both predictions


def test_divergence_widens_half_precision_first():
    clean, other = (jnp.asarray(x, jnp.bfloat16) for x in (LOGITS[:, ::-1], LOGITS))
    values = losses.kl_divergence(other, clean)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, losses.kl_divergence(LOGITS, LOGITS[:, ::-1]), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin, losses.dlr])
def test_half_precision_logits_are_widened_first(loss):
    values = loss(jnp.asarray(LOGITS, jnp.bfloat16), LABELS)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, loss(LOGITS, LABELS), rtol=1e-6)


def test_where_logits_are_equal_the_gradient_goes_to_one_class():
    logits = np.array([[3.0, 1.0, 1.0, 1.0]], np.float32)
    (gradient,) = jax.grad(lambda logits: losses.margin(logits, np.array([0])).sum())(logits)
    assert gradient.tolist() == [-1, 1, 0, 0]
    (gradient,) = jax.grad(lambda logits: losses.dlr(logits, np.array([0])).sum())(logits)
    # -(z_0 - z_1) / (z_0 - z_2): the second and the third of the order are two classes.
    np.testing.assert_allclose(gradient, [0, 0.5, -0.5, 0], atol=1e-6)


def test_equal_logits_give_finite_losses_and_gradients():
    logits = jnp.zeros((1, 5))
    for loss in (losses.cross_entropy, losses.margin, losses.dlr):
        value, gradient = jax.value_and_grad(lambda logits, loss=loss: loss(logits, np.array([2])).sum())(logits)
        assert np.isfinite(value) and np.isfinite(gradient).all()
