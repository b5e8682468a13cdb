"""Gradient attacks where the strongest adversarial image is known: models whose every loss falls in one direction."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import keys
from nofrost_jax.attacks import APGD, CW, FGSM, MIFGSM, PGD, TargetedAPGD, TargetedPGD, apgd, base, losses, threat

RNG = np.random.default_rng(0)
EPSILON, COUNT, SHAPE = 8 / 255, 6, (5, 4, 3)
NORMAL = (RNG.choice([-1, 1], SHAPE) * RNG.uniform(0.5, 1.5, SHAPE)).astype(np.float32)
NORMAL /= np.abs(NORMAL).sum()
IMAGE_KEYS = keys.per_image(jax.random.key(1), jnp.arange(COUNT))
# Distances to the boundary between classes 0 and 1 in epsilons: within reach, or not.
DISTANCES = np.array([0.1, 0.3, 0.5, 0.7, 1.5, 3.0], np.float32)


def _images(side):
    """Images on one side of the boundary at DISTANCES from it, some of their pixels black or white."""
    free = RNG.uniform(size=(COUNT, *SHAPE)) < 0.9
    images = np.where(free, RNG.uniform(0.3, 0.7, free.shape), RNG.integers(0, 2, free.shape))
    wanted = side * EPSILON * DISTANCES - (NORMAL * (images - 0.5)).sum((1, 2, 3))
    step = wanted / (np.abs(NORMAL) * free).sum((1, 2, 3))
    return (images + free * np.sign(NORMAL) * step[:, None, None, None]).astype(np.float32)


IMAGES = {0: _images(1), 1: _images(-1)}  # of each label


def ladder(images):
    """Four classes, of which only the first one's logit depends on the image: it is on top where h(x) > 0.

    With |h| < 1, the cross-entropy, the margin, DLR and targeted DLR towards the runner-up, of the label 0 fall with h,
    and those of the label 1 rise with it.
    """
    height = 4 * jnp.tensordot(images - 0.5, NORMAL, 3)
    others = jnp.broadcast_to(jnp.array([0.0, -1.0, -2.0], images.dtype), (len(images), 3))
    return jnp.concatenate([height[:, None], others], axis=1)


def optimum(label):
    """(the corners of the ball that are farthest on the other side, whether they are beyond the boundary)."""
    sign = np.sign(NORMAL) * (1 if label else -1)
    corners = np.clip(IMAGES[label] + EPSILON * sign, 0, 1)
    fooled = np.argmax(ladder(corners), -1) != label
    assert fooled.tolist() == [True] * 4 + [False] * 2
    assert (np.argmax(ladder(IMAGES[label]), -1) == label).all()
    return corners, fooled


@functools.cache
def jitted(attack, logits_fn):
    return jax.jit(functools.partial(attack, logits_fn))


def run(attack, label=0, logits_fn=ladder):
    return jitted(attack, logits_fn)(IMAGES[label], np.full(COUNT, label, np.int32), IMAGE_KEYS)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(
    "attack",
    [
        FGSM(EPSILON),
        PGD(EPSILON, 12),
        PGD(EPSILON, 4, "eps_over_4", start="zero"),
        MIFGSM(EPSILON, 4, "fixed:2", start="zero"),
        CW(EPSILON, 12),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_fixed_steps_end_in_the_optimum_fooled_or_not(attack, label):
    corners, _ = optimum(label)
    np.testing.assert_allclose(run(attack, label).images, corners, atol=1e-6)


def test_targeted_pgd_ends_in_the_optimum_whatever_the_target():
    """Of the label 0 all targets lie in one direction."""
    np.testing.assert_allclose(run(TargetedPGD(EPSILON, 12)).images, optimum(0)[0], atol=1e-6)


def test_targeted_pgd_draws_each_wrong_class_and_goes_there():
    """Logit k is pixel k, so that the target's pixel, and no other, ends at the top of its range."""
    count, classes = 200, 5
    images = np.full((count, 1, classes, 1), 0.5, np.float32)
    labels = RNG.integers(0, classes, count).astype(np.int32)
    image_keys = keys.per_image(jax.random.key(3), jnp.arange(count))
    attack = jitted(TargetedPGD(EPSILON, 12), lambda points: points.reshape(len(points), -1))
    found = attack(images, labels, image_keys).images
    raised = np.asarray(found).reshape(count, classes) > 0.5 + 0.99 * EPSILON
    assert (raised.sum(1) == 1).all() and not raised[np.arange(count), labels].any()
    shift = (raised.argmax(1) - labels) % classes
    np.testing.assert_allclose(np.bincount(shift, minlength=classes), [0, 50, 50, 50, 50], atol=25)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("attack", [APGD(EPSILON, 10, "ce"), APGD(EPSILON, 10, "dlr"), TargetedAPGD(EPSILON, 10)])
def test_apgd_returns_the_optimum_where_it_fools_and_else_the_image(attack, label):
    corners, fooled = optimum(label)
    expected = np.where(fooled[:, None, None, None], corners, IMAGES[label])
    result = run(attack, label)
    np.testing.assert_allclose(result.images, expected, atol=1e-6)
    assert (np.asarray(result.images)[~fooled] == IMAGES[label][~fooled]).all()
    once = 12 if isinstance(attack, TargetedAPGD) else 11
    stages = attack.stages(4)
    assert result.forwards.tolist() == [once] * 4 + [once * stages] * 2
    assert result.backwards.tolist() == [11] * 4 + [11 * stages] * 2
    assert not result.zero_gradient[fooled].any()


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_the_best_point_of_apgd_is_the_optimum_everywhere(loss):
    corners, fooled = optimum(0)
    labels = jnp.zeros(COUNT, jnp.int32)

    def evaluate(points):
        value = {"ce": losses.cross_entropy, "dlr": losses.dlr}[loss]
        logits, values, gradients = base.evaluate(ladder, lambda logits: value(logits, labels), points)
        return jnp.argmax(logits, -1) != labels, values, gradients

    images = jnp.asarray(IMAGES[0])
    start = threat.largest_start(images, EPSILON, IMAGE_KEYS)
    found, _, values, best, _ = jax.jit(lambda: apgd.maximise(evaluate, images, start, EPSILON, 10))()
    np.testing.assert_allclose(best, corners, atol=1e-6)
    np.testing.assert_allclose(values, evaluate(corners)[1], atol=1e-5)
    assert found.tolist() == fooled.tolist()


def test_l2_pgd_goes_along_the_gradient_to_the_sphere():
    radius, unit = 0.2, NORMAL / np.linalg.norm(NORMAL)
    images = np.clip(IMAGES[0], 0.25, 0.75)

    for attack, least in ((PGD(radius, 4, "eps_over_4", "zero", "l2"), 1 - 1e-6), (PGD(radius, 100, norm="l2"), 0.99)):
        result = jitted(attack, ladder)(images, np.zeros(COUNT, np.int32), IMAGE_KEYS)
        delta = np.asarray(result.images - images).reshape(COUNT, -1)
        np.testing.assert_allclose(np.linalg.norm(delta, axis=1), radius, rtol=1e-5)
        assert (delta @ -unit.ravel() > least * radius).all()


def test_cw_stops_where_the_margin_exceeds_kappa():
    """From a misclassified start beyond kappa there is no gradient, so the attack stays there; CE goes on."""
    attack = CW(EPSILON, 3, start="zero", kappa=0.0)
    result = run(attack, label=1, logits_fn=lambda images: ladder(images) + jnp.array([3.0, 0, 0, 0]))
    assert (result.images == IMAGES[1]).all() and result.zero_gradient.all()
    assert not run(attack, label=1).zero_gradient.any()


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_momentum_equals_a_numpy_transcription(decay):
    """Smooth, so that signs of gradients turn; and scaled down, which normalized gradients do not notice."""
    hidden, out = RNG.normal(size=(60, 16)).astype(np.float32), RNG.normal(size=(16, 3)).astype(np.float32)
    labels = RNG.integers(0, 3, COUNT).astype(np.int32)

    def network(images):
        return jnp.tanh(images.reshape(len(images), -1) @ hidden) @ out

    found = jitted(MIFGSM(EPSILON, 8, decay=decay), network)(IMAGES[0], labels, IMAGE_KEYS).images
    points, momentum = IMAGES[0].astype(np.float64), 0
    for _ in range(8):
        features = np.tanh(points.reshape(COUNT, -1) @ hidden)
        logits = features @ out
        residual = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[labels]
        gradient = ((residual @ out.T) * (1 - features**2)) @ hidden.T
        momentum = decay * momentum + gradient / np.abs(gradient).sum(1, keepdims=True)
        stepped = points + 2.5 * EPSILON / 8 * np.sign(momentum).reshape(points.shape)
        points = np.clip(IMAGES[0] + np.clip(stepped - IMAGES[0], -EPSILON, EPSILON), 0, 1)
    np.testing.assert_allclose(found, points, atol=1e-6)


def test_a_vanishing_gradient_does_not_fill_the_momentum():
    """Norms below 1e-6 count as 1e-6: a gradient of 3e-9, then one of -0.5, turn the second step round."""

    def cliff(images):
        values = images[:, 0, 0, 0]
        low = values <= 0.5
        return jnp.stack([jnp.where(low, 20, 3 * values), jnp.where(low, values, 0)], axis=1)

    images = np.full((1, 1, 1, 1), 0.5, np.float32)
    for steps, expected in ((1, 0.5 + EPSILON / 4), (2, 0.5)):
        found = MIFGSM(EPSILON, steps, "eps_over_4")(cliff, images, np.zeros(1, np.int32), IMAGE_KEYS[:1]).images
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_restarts_are_tried_until_one_fools_and_no_longer():
    """A model with no gradient where it is right: which of the random starts fools it is chance."""

    def plateau(images):
        value = images[:, 0, 0, 0] - 0.5
        return jnp.stack([jnp.zeros(len(images)), 100 * jnp.maximum(value - 0.6 * EPSILON, 0)], axis=1)

    images = np.full((40, 1, 1, 1), 0.5, np.float32)
    labels, image_keys = np.zeros(40, np.int32), keys.per_image(jax.random.key(5), jnp.arange(40))
    for attack, forwards in ((PGD(EPSILON, 2, restarts=4), 3), (APGD(EPSILON, 2, restarts=4), 3)):
        single = dataclasses.replace(attack, restarts=1)
        many, one = (jitted(each, plateau)(images, labels, image_keys) for each in (attack, single))
        right = [np.asarray(base.right(plateau, result.images, labels)) for result in (one, many)]
        assert right[1].sum() < right[0].sum() < 40
        assert (many.images == one.images)[~right[0]].all()  # fooled by the first start, which is the same
        assert (np.asarray(many.forwards)[~right[0]] == forwards).all()
        assert (np.asarray(many.forwards)[right[1]] == 4 * forwards).all()
        assert set(np.asarray(many.forwards) // forwards) >= {1, 2, 4}
        assert many.forwards.max() == attack.passes(2)[0] and many.backwards.max() == attack.passes(2)[1]
