"""Where two methods meet: at the ends of a weight, a budget, a number of replays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import data, methods, optim, parallel
from nofrost_jax.attacks import AttackResult, threat
from nofrost_jax.keys import named
from nofrost_jax.methods import at, fat, trades
from nofrost_jax.state import TrainState
from tests.methods.helpers import (
    BATCH,
    CLASSES,
    DATA,
    PER_EPOCH,
    VIEWS,
    SmallNet,
    largest_difference,
    loss_and_gradients,
    run_steps,
    standard,
    tiny_config,
)


@pytest.mark.parametrize("norm", ["bn", ""])
def test_beta_zero_is_standard_training(norm):
    """In loss and gradients, with dropout on; TRADES moves the statistics of batch norm once more."""
    config, model = tiny_config("trades", method__beta=0.0), SmallNet(norm, dropout=0.25, axis_name=None)
    loss, gradients, stats = loss_and_gradients(trades.make_loss, config, model)
    plain_loss, plain_gradients, plain_stats = loss_and_gradients(standard, config, model)
    assert loss == pytest.approx(plain_loss, rel=1e-9)
    assert largest_difference(gradients, plain_gradients) < 1e-9
    if norm:
        assert largest_difference(stats, plain_stats) > 1e-3
    config.method.beta = 1.0
    assert loss_and_gradients(trades.make_loss, config, model)[0] > loss + 1e-6


def test_beta_weighs_a_divergence_of_both_predictions():
    """Loss and gradients are linear in beta, and the divergence is positive."""
    config, model = tiny_config("trades", recipe="paper", attack__epsilon_255=32.0), SmallNet("", axis_name=None)
    found = []
    for beta in (0.0, 1.0, 6.0):
        config.method.beta = beta
        found.append(loss_and_gradients(trades.make_loss, config, model))
    (zero, zero_gradients, _), (one, one_gradients, _), (six, six_gradients, _) = found
    assert six - zero == pytest.approx(6 * (one - zero), rel=1e-6) and one > zero
    steps = [jax.tree.map(lambda a, b: a - b, g, zero_gradients) for g in (one_gradients, six_gradients)]
    assert largest_difference(jax.tree.map(lambda g: 6 * g, steps[0]), steps[1]) < 1e-8


def test_weight_one_is_its_limit_and_pgdat_with_the_clean_forward():
    """In loss, gradients and statistics; without that forward the statistics are others."""
    model = SmallNet(axis_name=None)
    limit = loss_and_gradients(at.make_loss, tiny_config("sat", method__adversarial_weight=1 - 1e-9), model)
    config = tiny_config("pgdat", method__pgdat_clean_forward=True)
    assert largest_difference(limit, loss_and_gradients(at.make_loss, config, model)) < 1e-6
    config.method.pgdat_clean_forward = False
    assert largest_difference(limit[2], loss_and_gradients(at.make_loss, config, model)[2]) > 1e-3


def test_the_sum_of_losses_is_twice_their_mean():
    """In loss and gradients, so that it is a learning rate; at other weights it ignores them."""
    config, model = tiny_config("mbnat"), SmallNet("mbn", axis_name=None)
    mean = loss_and_gradients(at.make_loss, config, model)
    config.method.sum_losses, found = True, []
    for weight in (0.5, 0.2):
        config.method.adversarial_weight = weight
        found.append(loss_and_gradients(at.make_loss, config, model))
    assert largest_difference(found[0][:2], jax.tree.map(lambda leaf: 2 * leaf, mean[:2])) < 1e-9
    assert largest_difference(found[1], found[0]) == 0


@pytest.mark.parametrize("row", ["nofrost", "sat"])
def test_weight_zero_is_standard_training(row):
    """Equation 1 at lambda 0, with the attack left out; and a tiny lambda is near it, with the attack in."""
    model = SmallNet("" if row == "nofrost" else "bn")
    config = tiny_config(row, recipe="paper", method__adversarial_weight=0.0)
    zero, _ = run_steps(config, steps=2, model=model)
    config.method.name = "standard"
    plain, _ = run_steps(config, steps=2, model=model)
    assert largest_difference(zero.params, plain.params) == 0
    config.method.name, config.method.adversarial_weight = "at", 1e-6
    near, _ = run_steps(config, steps=2, model=model)
    assert 0 < largest_difference(near.params, plain.params) < 1e-4


def test_weight_one_trains_on_adversarial_images_only():
    """PGDAT with epsilon 0 is standard training, in one forward."""
    config = tiny_config("pgdat", recipe="paper", attack__epsilon_255=0.0)
    pgdat, metrics = run_steps(config, model=SmallNet())
    config.method.name = "standard"
    plain, _ = run_steps(config, model=SmallNet())
    assert "clean_accuracy" not in metrics
    assert largest_difference((pgdat.params, pgdat.batch_stats), (plain.params, plain.batch_stats)) < 1e-6


def box_pgd(steps, epsilon):
    """PGD in the box form as a plain loop: what FAT's attack is when it never stops."""
    alpha = min(1.25 * epsilon, epsilon + 4 / 255) / steps

    def attack(target, images, labels, image_keys):
        def total(points):
            return -jnp.sum(jax.nn.log_softmax(target(points))[jnp.arange(BATCH), labels])

        start_keys = named(jax.vmap(jax.random.fold_in, (0, None))(image_keys, 0), "start")
        points = jnp.clip(images + threat.uniform(images, start_keys, -epsilon, epsilon), 0, 1)
        for _ in range(steps):
            moved = points + alpha * jnp.sign(jax.grad(total)(points))
            points = jnp.clip(jnp.minimum(jnp.maximum(moved, images - epsilon), images + epsilon), 0, 1)
        points = jax.lax.stop_gradient(points)
        return AttackResult(points, *(jnp.full(BATCH, steps),) * 2, jnp.zeros(BATCH, bool))

    return attack


def test_fat_that_never_stops_is_pgdat_on_the_box_form():
    config, model = tiny_config("fat", attack__steps=3, attack__tau=3), SmallNet(axis_name=None)
    friendly = loss_and_gradients(at.make_loss, config, model)
    plain = loss_and_gradients(at.make_loss, config, model, box_pgd(3, 8 / 255))
    assert largest_difference(friendly, plain) < 1e-9
    config.attack.tau = 0
    assert loss_and_gradients(at.make_loss, config, model)[0] < friendly[0] - 1e-3  # friendlier images


# Dynamic tau


def taus(config, steps):
    """The attack's tau at these steps, by a loss that only reports it."""

    def make_loss(model, config, attack):
        return lambda *_: (jnp.float32(0), ({}, {"tau": jnp.stack([jnp.float32(attack.tau), jnp.float32(1)])}))

    optimizer = optim.create(config, PER_EPOCH)
    step = parallel.Devices((jax.devices()[0],)).map_step(fat.with_tau(make_loss, None, optimizer, config, PER_EPOCH))
    batch, found = {"label": np.zeros((1, BATCH), np.int32)}, []
    for number in steps:
        state = TrainState.create({"params": {"w": jnp.zeros(1)}}, optimizer).replace(step=jnp.int32(number))
        found.append(int(step(state, batch, jax.random.key(0))[1]["tau"][0]))
    return found


def test_tau_grows_by_one_after_each_epoch_of_a_list():
    """After 50 epochs are done: the 51st, number 50, is the first with the greater tau."""
    config = tiny_config("fat", attack__tau=0)
    config.method.tau_epochs = (50, 90)
    epochs = np.array([0, 49, 50, 89, 90, 119])
    assert taus(config, epochs * PER_EPOCH) == [0, 0, 1, 1, 2, 2]
    assert taus(config, epochs * PER_EPOCH + PER_EPOCH - 1) == [0, 0, 1, 1, 2, 2]
    config.attack.tau = 2
    assert taus(config, [0, 50 * PER_EPOCH]) == [2, 3]


@pytest.mark.parametrize("row", ["fat", "trades_fat"])
def test_dynamic_tau_must_know_the_length_of_an_epoch(row):
    config = tiny_config(row, attack__tau=0)
    config.method.tau_epochs = (1,)
    with pytest.raises(ValueError, match="tau_epochs needs steps_per_epoch"):
        methods.TABLE[row].make_step(SmallNet(), optim.create(config, PER_EPOCH), config)


# The table of methods


def test_every_method_honours_the_contract():
    for row in ("st", "sat", "trades", "fat", "trades_fat", "fastat", "freeat", "nofrost_star"):
        config = tiny_config(row)
        method = methods.TABLE[config.method.name]
        assert callable(method.make_step) and len(method.passes(config)) == 3
        assert method.updates(config) == (config.method.replays if row == "freeat" else 1)
        assert set(method.begin(config, 8)) == ({"noise"} if row == "freeat" else set())
    assert methods.NAMES == ("standard", "at", "trades", "fat", "trades_fat", "fast", "free", "augmented")


def test_data_and_methods_agree_on_batches():

    def shapes(batch):
        return {name: (value.dtype, value.shape[1:]) for name, value in batch.items()}

    either = {name: VIEWS[name] for name in ("augmented", "is_deepaugment")}
    both = {name: VIEWS[name] for name in ("deepaugment", "tda")}
    for row, expected in (("nofrost", DATA), ("nofrost_star", DATA | either), ("combine", DATA | both)):
        config = tiny_config(row)
        config.data.source, config.data.fake_train, config.data.augmentation = "fake", 64, "none"
        batch = next(data.open(config, ()).train_batches(0))
        assert shapes(batch) == shapes(expected)
    assert jnp.asarray(batch["label"]).max() < CLASSES
