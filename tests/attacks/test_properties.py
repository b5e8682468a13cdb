"""What holds for every attack, on any images and any model: the ball, the range, the counts, each image by itself."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from nofrost_jax import attacks, keys
from nofrost_jax.attacks import base

SETTINGS = hypothesis.settings(max_examples=8, deadline=None, derandomize=True, database=None)
CLASSES = 5
BUDGETS = {  # small ones; the attacks that count queries have no steps
    "fgsm": {},
    "square": {"queries": 12},
    "rays": {"queries": 40},
    "pgd_l2": {"steps": 3},
} | {
    name: {"steps": 3}
    for name in (
        *("pgd", "pgd_targeted", "pgd_kl", "friendly", "friendly_kl"),
        *("mi_fgsm", "cw", "apgd_ce", "apgd_dlr", "apgd_t", "fab_t"),
    )
}
ATTACKS = (*attacks.NAMES, "pgd_l2")
GRADIENT_ATTACKS = tuple(name for name in ATTACKS if name not in ("fab_t", "square", "rays"))
SHAPES = {(4, 5, 4, 3): 8 / 255, (1, 3, 7, 1): 0.5}  # of images, not square, one of them alone; and its radius


def test_the_budgets_are_complete():
    assert set(BUDGETS) == set(ATTACKS)


def create(name, epsilon, **overrides):
    if name == "pgd_l2":
        return attacks.PGD(10 * epsilon, norm="l2", **BUDGETS[name] | overrides)
    return attacks.create(name, epsilon_255=255 * epsilon, **BUDGETS[name] | overrides)


def network(images, weights):
    """Two layers; in `weights` the test sets its scale, the bias of the label 0, or NaN."""
    hidden, out, scale, bias = weights
    features = jnp.tanh((images.reshape(len(images), -1) - 0.5) @ hidden)
    return scale * (features @ out) + bias * jnp.eye(1, out.shape[1], dtype=images.dtype)


def weights_of(shape, seed=0, scale=1.0, bias=0.0, classes=CLASSES):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(np.prod(shape[1:]), 8)), rng.normal(size=(8, classes)), scale, bias
    return jax.tree.map(np.float32, numbers)


@functools.cache
def jitted(name, epsilon):
    """The attack on `network`; its arguments are images, labels, keys, active and weights."""
    attack = create(name, epsilon)

    @jax.jit
    def run(images, labels, image_keys, active, weights):
        return attack(lambda points: network(points, weights), images, labels, image_keys, active)

    return attack, run


def keys_of(count, seed=0):
    return keys.per_image(jax.random.key(seed), jnp.arange(count))


def draw_images(shape, kind, rng):
    if kind == "uniform":
        return rng.uniform(size=shape).astype(np.float32)
    if kind == "extreme":
        return rng.choice([0, 1e-6, 1 - 1e-6, 1], shape).astype(np.float32)
    return np.full(shape, {"black": 0, "white": 1}[kind], np.float32)


def assert_in_the_ball(attack, result, images):
    found = np.asarray(result.images)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    assert found.min() >= 0 and found.max() <= 1
    delta = (found.astype(np.float64) - images).reshape(len(images), -1)
    order = 2 if getattr(attack, "norm", "linf") == "l2" else np.inf
    assert np.linalg.norm(delta, order, axis=1).max() <= attack.epsilon + 1e-6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ATTACKS)
@SETTINGS
@hypothesis.given(
    kind=strategies.sampled_from(["uniform", "extreme", "black", "white"]),
    scale=strategies.sampled_from([1.0, 1e4, 0.0, float("nan"), float("inf")]),
    seed=strategies.integers(0, 1000),
)
def test_images_stay_in_the_ball_and_the_range(name, shape, kind, scale, seed):
    """Also on a model that is saturated, constant, or returns NaN, there to the last pixel finite."""
    attack, run = jitted(name, SHAPES[shape])
    rng = np.random.default_rng(seed)
    images, labels = draw_images(shape, kind, rng), rng.integers(0, CLASSES, shape[0]).astype(np.int32)
    active = rng.uniform(size=shape[0]) < 0.8
    result = run(images, labels, keys_of(shape[0], seed), active, weights_of(shape, seed, scale))
    assert_in_the_ball(attack, result, images)
    counts, most = np.stack([result.forwards, result.backwards]), np.array(attack.passes(CLASSES))
    assert (np.asarray(result.images)[~active] == images[~active]).all() and (counts[:, ~active] == 0).all()
    assert not np.asarray(result.zero_gradient)[~active].any()
    assert (counts <= most[:, None]).all() and (counts[0, active] > 0).all()
    if name in GRADIENT_ATTACKS and scale == 0:
        assert np.asarray(result.zero_gradient)[active].all()
    if name == "square" or name == "rays":
        assert not np.asarray(result.zero_gradient).any() and not counts[1].any()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_image_that_survives_costs_what_passes_says(name):
    shape = (4, 5, 4, 3)
    attack, run = jitted(name, SHAPES[shape])
    images = draw_images(shape, "uniform", np.random.default_rng(0))
    result = run(images, np.zeros(4, np.int32), keys_of(4), np.full(4, True), weights_of(shape, scale=0.01, bias=1.0))
    forwards, backwards = attack.passes(CLASSES)
    assert result.forwards.tolist() == [forwards] * 4 and result.backwards.tolist() == [backwards] * 4
    assert not result.zero_gradient.any()
    right = base.right(lambda points: network(points, weights_of(shape, scale=0.01, bias=1.0)), result.images, 0)
    assert right.all()


@pytest.mark.parametrize("name", GRADIENT_ATTACKS)
def test_an_image_depends_on_its_own_pixels_label_and_key_only(name):
    """In float64, where no rounding of another batch shape turns a sign."""
    attack = create(name, 8 / 255, **({} if name == "fgsm" else {"steps": 6}))
    shape = (5, 5, 4, 3)
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        images, weights = rng.uniform(size=shape), jax.tree.map(np.float64, weights_of(shape, 3))
        labels = np.asarray(jnp.argmax(network(images, weights), -1), np.int32)
        run = jax.jit(lambda *arguments: attack(lambda points: network(points, weights), *arguments))
        together = run(images, labels, keys_of(5))
        assert np.any(np.asarray(together.images) != images, axis=(1, 2, 3)).sum() > 2
        for row in range(5):
            alone = run(images[row : row + 1], labels[row : row + 1], keys_of(5)[row : row + 1])
            for one, all_of_them in zip(alone, together, strict=True):
                np.testing.assert_allclose(one[0], all_of_them[row], rtol=0, atol=1e-12)
        if name not in ("fgsm", "mi_fgsm"):
            others = run(images, labels, keys_of(5, seed=1)).images
            assert np.any(others != together.images)


def test_which_images_are_attacked_by_default():
    """Attacks that return their last iterate: all; those that stop at success: only what is right without them."""
    shape = (4, 5, 4, 3)
    images = draw_images(shape, "uniform", np.random.default_rng(0))
    labels = np.array([0, 1, 0, 2], np.int32)  # the logit of 0 is greatest
    weights = weights_of(shape, scale=0.01, bias=1.0)
    for name in ("fgsm", "apgd_ce", "square", "rays"):
        attack, _ = jitted(name, SHAPES[shape])
        run = jax.jit(functools.partial(attack, lambda points: network(points, weights)))
        result = run(images, labels, keys_of(4))
        attacked = np.asarray(result.forwards) > 0
        assert attacked.tolist() == ([True] * 4 if attack.attacks_misclassified else [True, False, True, False])
        assert (np.asarray(result.images)[~attacked] == images[~attacked]).all()
    all_of_them = {name for name in ATTACKS if create(name, 8 / 255).attacks_misclassified}
    last_iterate = {"fgsm", "pgd", "pgd_l2", "pgd_targeted", "pgd_kl", "friendly", "friendly_kl", "mi_fgsm", "cw"}
    assert all_of_them == last_iterate


@pytest.mark.parametrize("name", ATTACKS)
def test_no_images_are_no_problem(name):
    result = create(name, 8 / 255)(
        lambda points: jnp.zeros((len(points), CLASSES)), jnp.zeros((0, 5, 4, 3)), jnp.zeros(0, jnp.int32), keys_of(0)
    )
    assert [len(leaf) for leaf in result] == [0] * 4 and result.images.shape == (0, 5, 4, 3)


@pytest.mark.parametrize("name", ATTACKS)
def test_too_few_classes_are_refused_by_name(name):
    attack = create(name, 8 / 255)
    least = {"apgd_dlr": 3, "apgd_t": 4}.get(name, 2)
    shape = (2, 3, 3, 1)
    images = draw_images(shape, "uniform", np.random.default_rng(0))

    def run(images, classes):
        weights = weights_of(shape, classes=classes)
        return attack(lambda points: network(points, weights), images, np.zeros(2, np.int32), keys_of(2)).images

    with pytest.raises(ValueError, match=f"{type(attack).__name__}.* needs {least} classes or more, not {least - 1}"):
        jax.eval_shape(lambda images: run(images, least - 1), images)
    assert jax.eval_shape(lambda images: run(images, least), images).shape == shape


@pytest.mark.parametrize("name", [name for name in GRADIENT_ATTACKS if name != "fgsm"])
def test_compiles_one_iteration_whatever_the_steps(name):
    shape = (2, 3, 3, 1)
    images, weights = draw_images(shape, "uniform", np.random.default_rng(0)), weights_of(shape)

    def size(steps):
        attack = create(name, 8 / 255, steps=steps)
        run = lambda images: attack(lambda points: network(points, weights), images, np.zeros(2, np.int32), keys_of(2))  # noqa: E731
        return len(str(jax.make_jaxpr(run)(images)))

    assert abs(size(3) - size(70)) < 100


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": np.zeros((2, 3, 3, 1), np.uint8)}, "divide uint8"),
        ({"images": np.zeros((2, 9), np.float32)}, "N, H, W, C"),
        ({"labels": np.zeros(3, np.int32)}, "labels must be integers"),
        ({"labels": np.zeros(2, np.float32)}, "labels must be integers"),
        ({"keys": jax.random.key(0)}, "one typed PRNG key per image"),
        ({"keys": jax.random.split(jax.random.PRNGKey(0), 2)}, "typed PRNG key"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    arguments = {"images": np.zeros((2, 3, 3, 1), np.float32), "labels": np.zeros(2, np.int32), "keys": keys_of(2)}
    with pytest.raises(ValueError, match=message):
        attacks.PGD()(lambda points: jnp.zeros((len(points), 3)), **arguments | wrong)
