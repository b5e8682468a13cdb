"""FastAT's and FreeAT's noise, which no attack makes: against NumPy on a linear net, and in the training state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nofrost_jax import keys
from nofrost_jax.attacks import threat
from nofrost_jax.methods.base import clip_pixels
from tests.methods.helpers import (
    BATCH,
    CLASSES,
    DATA,
    SIZE,
    SmallNet,
    Trainer,
    largest_difference,
    random_variables,
    run_steps,
    step_keys,
    tiny_config,
)

EPSILON = 8 / 255
RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(SIZE * SIZE * 3, CLASSES)).astype(np.float32)
IMAGES = np.where(RNG.uniform(size=DATA["image"].shape) < 0.3, RNG.choice([0, 255], DATA["image"].shape), DATA["image"])
BATCHES = [DATA | {"image": images.astype(np.uint8)} for images in (IMAGES, IMAGES[::-1, ::-1])]  # 30 % on the border


class Linear:
    """A net that writes down what it is given; its weights are its parameters."""

    has_batch_stats = has_branches = False

    def __init__(self):
        self.inputs = []

    def apply(self, variables, inputs, *, train, **_):
        assert train
        jax.debug.callback(self.inputs.append, inputs)
        return inputs.reshape(len(inputs), -1) @ variables["params"]["head"], {}


def linear_trainer(row, **options):
    """(trainer, the net) on pixels as they are; the rate is zero, so that the weights stay."""
    config = tiny_config(row, recipe="paper", optimizer__learning_rate=0.0, **options)
    config.data.mean, config.data.std = (0.0,) * 3, (1.0,) * 3
    net = Linear()
    return Trainer(config, model=net, variables={"params": {"head": WEIGHTS}}), net


def gradients(points, labels):
    """Of the cross-entropy to the images, by hand; pixels outside the range have none."""
    logits = np.clip(points, 0, 1).reshape(BATCH, -1) @ WEIGHTS.astype(np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    residual = powers / powers.sum(1, keepdims=True) - np.eye(CLASSES)[labels]
    return (residual @ WEIGHTS.T).reshape(points.shape) * ((points >= 0) & (points <= 1))


def test_a_pixel_beyond_the_range_has_no_gradient():
    points = jnp.array([-0.1, 0.0, 0.5, 1.0, 1.1])
    np.testing.assert_array_equal(clip_pixels(points), np.clip(points, 0, 1))
    np.testing.assert_array_equal(jax.grad(lambda x: clip_pixels(x).sum())(points), [0, 1, 1, 1, 0])


def test_fast_takes_one_step_from_noise_that_the_range_does_not_cut():
    trainer, net = linear_trainer("fastat")
    _, metrics = jax.device_get(trainer(trainer.start(), BATCHES[0]))
    jax.effects_barrier()
    images = BATCHES[0]["image"].astype(np.float32) / 255
    noise = np.asarray(threat.uniform(jnp.asarray(images), keys.named(step_keys(), "start"), -EPSILON, EPSILON))
    outside = (images + noise < 0) | (images + noise > 1)
    assert 0.05 < outside.mean() < 0.5 and noise.std() == pytest.approx(EPSILON / np.sqrt(3), rel=0.05)
    gradient = gradients((images + noise).astype(np.float64), DATA["label"])
    assert (gradient[outside] == 0).all() and (gradient[~outside] != 0).all()
    moved = np.clip(noise + 1.25 * EPSILON * np.sign(gradient), -EPSILON, EPSILON)
    first, second = sorted(net.inputs, key=lambda inputs: np.abs(inputs - np.clip(images + noise, 0, 1)).max())
    np.testing.assert_allclose(first, np.clip(images + noise, 0, 1), atol=1e-6)
    np.testing.assert_allclose(second, np.clip(images + moved, 0, 1), atol=1e-6)
    assert np.abs(np.asarray(second) - images).max() <= EPSILON + 1e-6
    assert metrics["perturbation_linf_255"][0] / BATCH == pytest.approx(8, abs=0.1)


def test_fast_draws_anew_for_every_batch():
    trainer, net = linear_trainer("fastat")
    state = trainer.start()
    for _ in range(2):
        state, _ = trainer(state)
    jax.effects_barrier()
    assert state.method == {} and len({inputs.tobytes() for inputs in map(np.asarray, net.inputs)}) == 4


def test_free_noise_lives_on_from_replay_to_replay_and_batch_to_batch():
    """Sign steps of epsilon, cut to epsilon, of the gradient at each replay; the first is on clean images."""
    replays = 3
    trainer, net = linear_trainer("freeat", method__replays=replays)
    state, noise, seen = trainer.start(), np.zeros(IMAGES.shape), []
    assert state.method["noise"].shape == IMAGES.shape and not state.method["noise"].any()
    for batch in BATCHES:
        state, metrics = trainer(state, batch)
        images = (batch["image"].astype(np.float32) / 255).astype(np.float64)
        for _ in range(replays):
            seen.append(np.clip(images + noise, 0, 1))
            noise = np.clip(noise + EPSILON * np.sign(gradients(images + noise, batch["label"])), -EPSILON, EPSILON)
        np.testing.assert_allclose(state.method["noise"], noise, atol=1e-7)
        assert float(jnp.abs(state.method["noise"]).max()) <= EPSILON * (1 + 1e-6)
        assert metrics["loss"][1] == replays and metrics["adversarial_accuracy"][1] == replays * BATCH
    jax.effects_barrier()
    assert len(net.inputs) == 2 * replays
    for expected in seen:
        assert min(np.abs(expected - np.asarray(inputs)).max() for inputs in net.inputs) < 1e-6
    assert np.abs(seen[replays] - np.clip(images, 0, 1)).max() > EPSILON / 2  # the second batch begins with noise


def test_free_with_one_replay_begins_as_standard_training():
    """The first batch is clean: the same parameters; the noise is epsilon times the sign of the images' gradient."""
    model = SmallNet()
    free, metrics = run_steps(tiny_config("freeat", recipe="paper", method__replays=1), model=model)
    plain, plain_metrics = run_steps(tiny_config("st", recipe="paper"), model=model)
    assert largest_difference(free.params, random_variables(model)["params"]) > 1e-3
    assert largest_difference((free.params, free.batch_stats), (plain.params, plain.batch_stats)) < 1e-6
    assert metrics["loss"][0] == pytest.approx(plain_metrics["loss"][0], rel=1e-6)

    config = tiny_config("st", recipe="paper")
    single, variables = model.clone(axis_name=None), random_variables(model)

    def total(images):
        inputs = (images - jnp.asarray(config.data.mean)) / jnp.asarray(config.data.std)
        logits, _ = single.apply(variables, inputs, train=True, mutable=["batch_stats"])
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(BATCH), DATA["label"]])

    gradient = np.asarray(jax.jit(jax.grad(total))(DATA["image"].astype(np.float32) / 255))
    clear = np.abs(gradient) > 1e-6
    assert clear.mean() > 0.99
    np.testing.assert_allclose(free.method["noise"][clear], EPSILON * np.sign(gradient[clear]), rtol=1e-6)


def test_replays_are_optimizer_steps_of_one_rate_and_one_step_of_the_run():
    """A rate that falls a hundredfold at the second step: its replays move the weights a hundredth as far."""
    config = tiny_config("freeat", recipe="paper", method__replays=3, attack__epsilon_255=0.0)
    config.optimizer.update({"momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1e-3, "schedule": "points"})
    config.optimizer.point_epochs, config.optimizer.point_shares = (0.0, 1.0), (1.0, 0.01)
    trainer = Trainer(config, model=SmallNet(), per_epoch=1)
    state, places = trainer.start(), [trainer.variables["params"]]
    for _ in range(2):
        state, _ = trainer(state)
        places.append(jax.device_get(state.params))
    assert int(state.step) == 2 and int(optax.tree.get(state.opt_state, "count")) == 6
    first, second = (jax.tree.map(lambda a, b: b - a, *pair) for pair in (places[:2], places[1:]))
    kernel = "head", "kernel"
    ratio = np.linalg.norm(second[kernel[0]][kernel[1]]) / np.linalg.norm(first[kernel[0]][kernel[1]])
    assert ratio == pytest.approx(0.01, rel=0.05)
