"""PGD: the known optimum on a linear model, a NumPy transcription, starts; and what all attacks refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import attacks, keys
from nofrost_jax.attacks import PGD, threat

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (6, 5, 4, 3)).astype(np.float32)  # not square
LABELS = RNG.integers(0, 3, 6).astype(np.int32)
WEIGHTS = RNG.normal(size=(60, 3)).astype(np.float32)
HIDDEN = RNG.normal(size=(60, 16)).astype(np.float32), RNG.normal(size=(16, 3)).astype(np.float32)
IMAGE_KEYS = keys.per_image(jax.random.key(1), jnp.arange(6))
EPSILON = 8 / 255


def linear(images):
    return images.reshape(images.shape[0], -1) @ WEIGHTS


def network(images):
    return jnp.tanh(images.reshape(images.shape[0], -1) @ HIDDEN[0]) @ HIDDEN[1]


def test_reaches_the_optimum_of_a_two_class_linear_model():
    """With two classes the loss is monotone in w.x, so the maximum is x - eps sign(w_y - w_other), cut to [0, 1]."""
    labels = LABELS % 2
    weights = WEIGHTS[:, :2]
    result = PGD(EPSILON, 40, "madry")(lambda x: x.reshape(x.shape[0], -1) @ weights, IMAGES, labels, IMAGE_KEYS)
    direction = (weights[:, 0] - weights[:, 1])[None] * np.where(labels, -1, 1)[:, None]
    optimum = np.clip(IMAGES - EPSILON * np.sign(direction).reshape(IMAGES.shape), 0, 1)
    np.testing.assert_allclose(result.images, optimum, atol=1e-6)


@pytest.mark.parametrize("rule", ["nofrost", "madry", "eps_over_4", "fixed:1.5", "epsilon_times:0.3"])
def test_equals_a_numpy_transcription(rule):
    attack = PGD(EPSILON, 5, rule)
    found = attack(network, IMAGES, LABELS, IMAGE_KEYS).images
    alpha = {
        "nofrost": min(1.25 * 8, 8 + 4) / 5 / 255,
        "madry": 2.5 * 8 / 5 / 255,
        "eps_over_4": 2 / 255,
        "fixed:1.5": 1.5 / 255,
        "epsilon_times:0.3": 0.3 * 8 / 255,
    }[rule]
    start_keys = keys.named(jax.vmap(jax.random.fold_in, (0, None))(IMAGE_KEYS, 0), "start")  # of restart number 0
    points = np.asarray(threat.uniform_start(jnp.asarray(IMAGES), EPSILON, start_keys), np.float64)
    for _ in range(5):
        hidden = np.tanh(points.reshape(6, -1) @ HIDDEN[0])
        logits = hidden @ HIDDEN[1]
        residual = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[LABELS]
        gradient = ((residual @ HIDDEN[1].T) * (1 - hidden**2)) @ HIDDEN[0].T
        stepped = points + alpha * np.sign(gradient).reshape(points.shape)
        points = np.clip(IMAGES + np.clip(stepped - IMAGES, -EPSILON, EPSILON), 0, 1)
    np.testing.assert_allclose(found, points, atol=1e-6)


def test_the_start_is_uniform_in_the_ball():
    start = threat.uniform_start(jnp.asarray(IMAGES), EPSILON, IMAGE_KEYS)
    noise = np.asarray(start - IMAGES)[(IMAGES > EPSILON) & (IMAGES < 1 - EPSILON)]
    assert abs(noise.mean()) < EPSILON / 5 and noise.std() == pytest.approx(EPSILON / np.sqrt(3), rel=0.1)


def test_no_gradient_flows_through_an_attack():
    def loss(scale):
        return PGD(EPSILON, 2)(lambda x: network(x) * scale, IMAGES, LABELS, IMAGE_KEYS).images.sum()

    assert jax.grad(loss)(2.0) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "pdg"}, "choose one of fgsm, pgd"),
        ({"name": "pgd", "epsilon_255": 300}, "pixel values"),
        ({"name": "pgd", "steps": 0}, "at least 1 step"),
        ({"name": "pgd", "step_rule": "fixed:x"}, "fixed:A"),
        ({"name": "pgd", "step_rule": "fixed:256"}, "fixed:A"),
        ({"name": "pgd", "norm": "l2", "step_rule": "fixed:inf"}, "fixed:A"),
        ({"name": "pgd", "step_rule": "mardy"}, "madry"),
        ({"name": "pgd", "step_rule": "epsilon_times:0"}, "epsilon_times:A"),
        ({"name": "pgd", "step_rule": "epsilon_times:nan"}, "epsilon_times:A"),
        ({"name": "pgd", "step_rule": "epsilon_times"}, "epsilon_times:A"),
        ({"name": "pgd", "step_rule": "epsilon_time:1"}, "epsilon_times:A"),
        ({"name": "pgd", "stepz": 3}, "stepz"),
        ({"name": "pgd", "start": "random"}, "uniform, zero"),
        ({"name": "pgd", "norm": "l1"}, "linf, l2"),
        ({"name": "pgd", "restarts": 0}, "at least 1 start"),
        ({"name": "pgd", "restarts": 2, "start": "zero"}, "otherwise all restarts are the same"),
        ({"name": "mi_fgsm", "norm": "l2"}, "norm=.l2., only linf"),
        ({"name": "fgsm", "epsilon_255": -1}, "pixel values"),
        ({"name": "apgd_ce", "loss": "dlr"}, "loss"),
        ({"name": "apgd_t", "targets": 0}, "at least 1 target"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.create(**options)
    assert attacks.create("pgd", epsilon_255=8, steps=10).epsilon == 8 / 255
    with pytest.raises(ValueError, match="choose one of ce, dlr"):
        attacks.APGD(loss="margin")


def test_nofrost_rule_is_one_pixel_value_in_the_papers_setting():
    assert threat.step_size("nofrost", 8 / 255, 10) * 255 == pytest.approx(1)
    assert threat.step_size("nofrost", 20 / 255, 10) * 255 == pytest.approx(2.4)


def test_single_steps_are_sized_in_radii():
    """FastAT's 1.25 epsilon and FreeAT's epsilon follow the radius, whatever the number of steps."""
    for epsilon in (2 / 255, 8 / 255):
        for steps in (1, 4):
            assert threat.step_size("epsilon_times:1.25", epsilon, steps) == pytest.approx(1.25 * epsilon)
            assert threat.step_size("epsilon_times:1", epsilon, steps) == pytest.approx(epsilon)
    assert threat.step_size("fixed:1.25", 8 / 255, 1) == pytest.approx(1.25 / 255)
