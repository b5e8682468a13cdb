"""Early stopping against a plain loop, one image at a time in NumPy; limits; what is refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import attacks, keys
from nofrost_jax.attacks import FriendlyPGD, threat

COUNT, CLASSES, STEPS, EPSILON = 24, 4, 6, 16 / 255
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (COUNT, 5, 4, 3))  # not square
IMAGES[:4] = RNG.choice([0.0, 1.0], (4, 5, 4, 3))  # on the border of the range
HIDDEN = RNG.normal(size=(60, 16)) / 4, RNG.normal(size=(16, CLASSES))
IMAGE_KEYS = keys.per_image(jax.random.key(1), jnp.arange(COUNT))


def network(images):
    hidden, out = (weights.astype(images.dtype) for weights in HIDDEN)
    return jnp.tanh((images.reshape(len(images), -1) - 0.5) @ hidden) @ out


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def numpy_network(image):
    """(logits, function from a gradient to them to one to the image) of one image."""
    hidden = np.tanh((image.ravel() - 0.5) @ HIDDEN[0])
    return hidden @ HIDDEN[1], lambda g: ((g @ HIDDEN[1].T) * (1 - hidden**2) @ HIDDEN[0].T).reshape(image.shape)


# Most images are right, and near the border to another class; a few are wrong without any attack.
LOGITS = np.stack([numpy_network(image)[0] for image in IMAGES])
LABELS = np.where(np.arange(COUNT) % 6 == 5, LOGITS.argmin(1), LOGITS.argmax(1)).astype(np.int32)


def noises(draw, purpose):
    """[COUNT, 5, 4, 3]: what each image draws, of its key for restart 0 and the purpose."""
    first = jax.vmap(jax.random.fold_in, (0, None))(IMAGE_KEYS, 0)
    return draw(jnp.asarray(IMAGES), keys.named(first, purpose))


def one_image(image, label, noise, loss, tau, clip_start, alpha, jitters=None):
    """(point, forwards, backwards) by the pseudo-code of the attack, in a loop over the steps of one image."""
    clean = softmax(numpy_network(image)[0])
    low, high = image - EPSILON, image + EPSILON
    point = np.clip(image + noise, 0, 1) if clip_start else image + noise
    forwards, backwards, budget = int(loss == "kl"), 0, tau
    for number in range(STEPS):
        logits, back = numpy_network(point)
        forwards += 1
        if tau is not None and logits.argmax() != label:
            if budget == 0:
                break
            budget -= 1
        backwards += 1
        target = clean if loss == "kl" else np.eye(CLASSES)[label]
        moved = point + alpha * np.sign(back(softmax(logits) - target))
        if jitters is not None:
            moved = moved + jitters[number]
        point = np.clip(np.minimum(np.maximum(moved, low), high), 0, 1)
    return point, forwards, backwards


def run(attack, images=IMAGES, labels=LABELS):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(lambda: attack(network, images, labels, IMAGE_KEYS))())


@functools.cache
def counted(name):
    """As `run`, compiled once for every tau: a function of (images, tau), with a number or an array of the program."""
    with jax.enable_x64(True):

        def attacked(images, tau):
            return FriendlyPGD(EPSILON, STEPS, **attacks.TABLE[name][1], tau=tau)(network, images, LABELS, IMAGE_KEYS)

        compiled = jax.jit(attacked)

    def call(images, tau):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, compiled(images, jnp.int32(tau)))

    return call


def start_noise(start):
    with jax.enable_x64(True):
        if start == "uniform":
            return np.asarray(noises(lambda x, k: threat.uniform(x, k, -EPSILON, EPSILON), "start"))
        return 0.001 * np.asarray(noises(threat.normal, "start"))


@pytest.mark.parametrize("tau", [0, 1, 2, None])
@pytest.mark.parametrize(("name", "loss", "start"), [("friendly", "ce", "uniform"), ("friendly_kl", "kl", "normal")])
def test_equals_a_loop_over_each_image(name, loss, start, tau):
    never = attacks.create(name, epsilon=EPSILON, steps=STEPS, tau=None)
    found = run(never) if tau is None else counted(name)(IMAGES, tau)
    noise, alpha = start_noise(start), min(1.25 * EPSILON, EPSILON + 4 / 255) / STEPS
    rows = [one_image(*row, loss, tau, True, alpha) for row in zip(IMAGES, LABELS, noise, strict=True)]
    points, forwards, backwards = map(np.array, zip(*rows, strict=True))
    assert found.backwards.tolist() == backwards.tolist()
    assert found.forwards.tolist() == forwards.tolist()
    np.testing.assert_allclose(found.images, points, rtol=0, atol=1e-12)
    wrong_at_first = np.arange(COUNT) % 6 == 5
    if tau is None:
        assert (backwards == STEPS).all()
    else:  # the loop above tells these apart: wrong from the start, wrong on the way, never wrong for long enough
        assert set(backwards[wrong_at_first]) == {tau} and len(set(backwards)) >= 3 and STEPS in backwards


def test_trades_attack_is_the_loop_without_a_stop_and_with_an_uncut_start():
    """From one step, where the projection has not yet hidden the start: only images on the border show the cut."""
    found = run(attacks.create("pgd_kl", epsilon=EPSILON, steps=STEPS))
    noise, alpha = start_noise("normal"), min(1.25 * EPSILON, EPSILON + 4 / 255) / STEPS
    uncut, cut = (
        np.stack([one_image(*row, "kl", None, clip, alpha)[0] for row in zip(IMAGES, LABELS, noise, strict=True)])
        for clip in (False, True)
    )
    np.testing.assert_allclose(found.images, uncut, rtol=0, atol=1e-12)
    assert np.abs(uncut - cut).max() > 1e-4
    assert found.backwards.tolist() == [STEPS] * COUNT and found.forwards.tolist() == [STEPS + 1] * COUNT


def test_jitter_is_normal_noise_on_each_step_before_the_projection():
    with jax.enable_x64(True):
        jitters = np.zeros((STEPS, *IMAGES.shape))
        first = jax.vmap(jax.random.fold_in, (0, None))(IMAGE_KEYS, 0)
        for number in range(STEPS):
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys.named(first, "jitter"), number)
            jitters[number] = 0.255 / 255 * np.asarray(threat.normal(jnp.asarray(IMAGES), step_keys))
    assert jitters.std() == pytest.approx(0.001, rel=0.05)
    attack = attacks.create("friendly", epsilon=EPSILON, steps=STEPS, step_rule="fixed:1.785", jitter_255=0.255)
    found, noise = run(attack), start_noise("uniform")
    rows = [one_image(IMAGES[i], LABELS[i], noise[i], "ce", 1, True, 1.785 / 255, jitters[:, i]) for i in range(COUNT)]
    np.testing.assert_allclose(found.images, np.stack([point for point, _, _ in rows]), rtol=0, atol=1e-12)
    assert found.backwards.tolist() == [count for _, _, count in rows]


@pytest.mark.parametrize("name", ["friendly", "friendly_kl"])
def test_a_greater_tau_never_costs_less(name):
    """Without jitter all budgets follow one path from one start, and stop later and later on it."""
    counts = [counted(name)(IMAGES, tau).backwards for tau in (0, 1, 2, STEPS)]
    assert all((less <= more).all() for less, more in itertools.pairwise(counts))
    assert len({int(count.sum()) for count in counts}) == 4 and (counts[-1] == STEPS).all()


@pytest.mark.parametrize(("name", "epsilon_255"), [("friendly", 8.0), ("friendly_kl", 8.0), ("friendly_kl", 0.25)])
def test_stays_in_the_ball_and_the_range_with_large_steps_and_jitter(name, epsilon_255):
    """Also where the normal start alone would leave a small ball: a wrong image may stop right there."""
    images = np.concatenate([IMAGES[:-2], np.zeros((1, 5, 4, 3)), np.ones((1, 5, 4, 3))]).astype(np.float32)
    options = {"epsilon": epsilon_255 / 255, "steps": 2, "step_rule": "fixed:20", "jitter_255": 10.0}
    attack = jax.jit(
        lambda tau: FriendlyPGD(**attacks.TABLE[name][1], **options, tau=tau)(network, images, LABELS, IMAGE_KEYS)
    )
    for tau in (0, 1, 2):
        found = np.asarray(attack(jnp.int32(tau)).images)
        assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
        greatest = np.abs(found.astype(np.float64) - images).max()
        assert 0.9 * epsilon_255 / 255 < greatest <= epsilon_255 / 255 + 1e-7


@pytest.mark.parametrize("tau", [0, np.int64(2)])
def test_tau_is_a_plain_number_or_one_of_a_traced_program(tau):
    plain = run(attacks.create("friendly", epsilon=EPSILON, steps=STEPS, tau=tau))
    traced = counted("friendly")(IMAGES, tau)
    for one, other in zip(plain, traced, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": -1}, "tau must be a whole number of 0 or more, or None, got -1"),
        ({"tau": True}, "tau must be a whole number"),
        ({"tau": 1.0}, "tau must be a whole number"),
        ({"tau": "1"}, "tau must be a whole number"),
        ({"loss": "dlr"}, "unknown loss 'dlr'; choose one of ce, kl"),
        ({"start": "zero"}, "unknown start 'zero'; choose uniform or normal"),
        ({"jitter_255": -1.0}, "jitter_255 must lie in 0 to 255"),
        ({"jitter_255": float("nan")}, "jitter_255 must lie in 0 to 255"),
        ({"steps": 0}, "at least 1 step"),
        ({"epsilon": 2.0}, "epsilon must be on the"),
        ({"step_rule": "fast"}, "unknown step_rule"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FriendlyPGD(**options)


@pytest.mark.parametrize("name", ["pgd_kl", "friendly", "friendly_kl"])
def test_what_a_name_stands_for_is_fixed(name):
    with pytest.raises(ValueError, match="does not take these options"):
        attacks.create(name, epsilon_255=8, loss="ce")
    assert attacks.create(name, epsilon_255=8).tau == (None if name == "pgd_kl" else 1)  # the paper's
    assert attacks.create(name, epsilon_255=8).jitter_255 == 0
