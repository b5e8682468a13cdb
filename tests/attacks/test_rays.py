"""RayS: the per-image NumPy reference, budgets, the ball without tolerance, each image by itself."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import keys
from nofrost_jax.attacks import rays
from nofrost_jax.attacks.rays import RayS
from tests.attacks import rays_reference

RNG = np.random.default_rng(0)
SHAPE, COUNT, EPSILON = (6, 5, 3), 14, 12 / 255  # not square
IMAGES = RNG.uniform(0, 1, (COUNT, *SHAPE)).astype(np.float32)
HIDDEN = RNG.normal(size=(90, 16)).astype(np.float32) / 4, RNG.normal(size=(16, 4)).astype(np.float32)
IMAGE_KEYS = keys.per_image(jax.random.key(1), jnp.arange(COUNT))


@jax.jit
def network(images):
    return jnp.tanh((images.reshape(len(images), -1) - 0.5) @ HIDDEN[0]) @ HIDDEN[1]


LABELS = np.asarray(jnp.argmax(network(IMAGES), -1), np.int32)
EVERY = jnp.ones(COUNT, bool)


@functools.cache
def jitted(attack, logits_fn=network):
    return jax.jit(lambda *arguments: attack(logits_fn, *arguments))


def run(attack, logits_fn, images, labels):
    """The State after all stages, all images attacked."""

    @jax.jit
    def stages(images, labels):
        state = attack.begin(images, jnp.ones(len(images), bool))
        for index in range(attack.stages(2)):
            state = attack.stage(logits_fn, images, labels, None, state, jnp.int32(index))
        return state

    return stages(jnp.asarray(images), jnp.asarray(labels))


def constant(images):
    """Always class 0."""
    return jnp.zeros((len(images), 2)).at[:, 0].set(1) + 0 * images.sum()


@pytest.mark.parametrize("limit", [25, 90])
@pytest.mark.parametrize("options", [{}, {"strict_budget": False}, {"official": True}], ids=str)
def test_equals_the_numpy_reference(limit, options):
    attack = RayS(EPSILON, limit, **options)
    labels = np.where(np.arange(COUNT) < 2, (LABELS + 1) % 4, LABELS)  # two are wrong without any attack
    state = run(attack, network, IMAGES, labels)
    predict = lambda image: int(jnp.argmax(network(image[None])))  # noqa: E731
    strict, official = attack.strict_budget, attack.official
    found = 0
    for i, (image, label) in enumerate(zip(IMAGES, labels, strict=True)):
        expected, spent, first = rays_reference.rays(
            predict, image, label, EPSILON, limit, strict=strict, official=official
        )
        found += expected is not None
        assert (state.forwards[i], state.carry.first_success[i]) == (spent, first)
        np.testing.assert_allclose(state.images[i], image if expected is None else expected, atol=3e-6)
    assert 2 <= found <= COUNT - 2
    assert (limit < state.forwards.max() <= attack.passes(4)[0]) == (official or not strict)


@pytest.mark.parametrize("budget", [1, 13, 260])
@pytest.mark.parametrize("model", ["constant", "network"])
def test_strict_budgets_are_kept_to_the_query(budget, model):
    """An image whose label never changes is only probed, one of the network is cut off within a bisection, too."""
    calls = []

    def counted(images):
        jax.debug.callback(lambda _: calls.append(len(images)), images[0, 0, 0, 0])
        return constant(images) if model == "constant" else network(images)

    attack = RayS(1e-6, budget)  # out of reach
    labels = np.zeros(1, np.int32) if model == "constant" else LABELS[:1]
    result = jax.jit(lambda *a: attack(counted, *a, active=EVERY[:1]))(IMAGES[:1], labels, IMAGE_KEYS[:1])
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert result.forwards.tolist() == [len(calls)] == [budget] == [attack.passes(4)[0]]
    assert attack.passes(4)[1] == 0 and result.backwards.tolist() == [0]
    np.testing.assert_array_equal(result.images, IMAGES[:1])


def test_a_cut_off_bisection_commits_what_it_verified():
    """One probe and 3 midpoints: the distance is some eighths of the diagonal, and the model is fooled there."""
    state = run(RayS(1.0, 4), network, IMAGES, LABELS)
    fooled = np.asarray(state.carry.first_success) == 4
    assert fooled.sum() >= 3
    eighths = np.asarray(state.carry.distance)[fooled] / math.sqrt(90) * 8
    np.testing.assert_allclose(eighths, np.round(eighths), atol=1e-5)
    assert np.all(np.argmax(network(state.images), -1)[fooled] != LABELS[fooled])


def test_finds_the_boundary_of_a_linear_model():
    """Weights of one sign: the first probe flips all signs into the best direction, the bisection finds its length."""
    weights = RNG.uniform(0.5, 1, 90).astype(np.float32)
    share = jnp.asarray([0.02, 0.05, 0.0505, 0.2])  # of the pixel range, the l-infinity distance to the boundary
    images = np.full((4, *SHAPE), 0.5, np.float32)

    def model(x):
        score = (x - 0.5).reshape(4, -1) @ weights + share * weights.sum()
        return jnp.stack([score, -score], -1)

    attack = RayS(0.051, 100)
    state = run(attack, model, images, np.zeros(4, np.int32))
    # 1 probe, then 14 midpoints from sqrt(90) to below 1e-3.
    assert state.forwards.tolist() == [15, 15, 15, 100]
    change = np.abs(state.images - images).max((1, 2, 3))
    assert np.all((share[:3] < change[:3]) & (change[:3] < share[:3] + 1e-3 / math.sqrt(90))) and change[3] == 0
    assert float(state.carry.distance[3]) == pytest.approx(0.2 * math.sqrt(90), abs=1e-3)


def test_successes_are_within_epsilon_without_tolerance_and_verified():
    images = np.concatenate([IMAGES, np.zeros_like(IMAGES[:1]), np.ones_like(IMAGES[:1])])
    labels = np.asarray(jnp.argmax(network(images), -1), np.int32)
    for epsilon in (EPSILON, 0.5):
        result = jitted(RayS(epsilon, 150))(images, labels, keys.per_image(jax.random.key(1), jnp.arange(COUNT + 2)))
        assert np.abs(result.images - images).max() <= np.float32(epsilon)
        assert result.images.min() >= 0 and result.images.max() <= 1
        changed = np.any(result.images != images, axis=(1, 2, 3))
        np.testing.assert_array_equal(changed, np.argmax(network(result.images), -1) != labels)
        assert np.all(result.forwards[~changed] == 150)
        assert changed.sum() >= 3


@pytest.mark.parametrize(("shape", "official"), [((1, 1, 1), False), ((7, 2, 3), True), ((2, 9, 1), False)])
def test_a_constant_model_is_never_fooled(shape, official):
    """A white image is within epsilon of the white image that the search starts with; many levels of a tiny image."""
    images = np.stack([np.zeros(shape), np.ones(shape), np.full(shape, 0.3)]).astype(np.float32)
    attack = RayS(1.0, 70, official=official)
    result = attack(constant, images, np.zeros(3, np.int32), IMAGE_KEYS[:3])
    assert result.forwards.tolist() == [70] * 3
    np.testing.assert_array_equal(result.images, images)


def test_official_accounting_of_images_already_wrong():
    """16 queries at 768 values: one probe, and 15 midpoints from sqrt(768) down to 1e-3."""
    images = np.full((1, 16, 16, 3), 0.5, np.float32)
    state = run(RayS(8 / 255, 40, official=True), constant, images, np.ones(1, np.int32))
    assert state.carry.first_success.tolist() == [16]
    assert RayS(official=True).attacks_misclassified and not RayS().attacks_misclassified


def test_an_image_does_not_depend_on_the_others():
    attack = jitted(RayS(EPSILON, 60))
    together = attack(IMAGES, LABELS, IMAGE_KEYS)
    alone = [attack(IMAGES[i : i + 1], LABELS[i : i + 1], IMAGE_KEYS[:1]) for i in range(COUNT)]
    np.testing.assert_array_equal(together.images, np.concatenate([result.images for result in alone]))
    np.testing.assert_array_equal(together.forwards, np.concatenate([result.forwards for result in alone]))


@pytest.mark.parametrize("official", [False, True])
def test_the_length_of_a_stage_does_not_matter(monkeypatch, official):
    attack = RayS(EPSILON, 60, official=official)
    one = jitted(attack)(IMAGES, LABELS, IMAGE_KEYS)
    monkeypatch.setattr(rays, "STAGE", 7)
    assert attack.stages(4) == (14 if official else 9)
    many = jax.jit(lambda *a: attack(network, *a))(IMAGES, LABELS, IMAGE_KEYS)
    jax.tree.map(np.testing.assert_array_equal, one, many)


@pytest.mark.parametrize(
    ("options", "message"), [({"epsilon": 8}, "pixel values"), ({"queries": 0}, "at least 1 query")]
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RayS(**options)
