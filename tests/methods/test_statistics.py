"""Batch statistics: which forwards move them, in which order, and what an attack sees of them."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import attacks, methods
from nofrost_jax.methods import at, augmented, trades
from tests.methods.helpers import (
    DATA,
    VIEWS,
    SmallNet,
    largest_difference,
    random_variables,
    run_steps,
    step_keys,
    tiny_config,
)

M = 3  # FreeAT's replays
FORWARDS = {  # train-mode forwards of a step
    "st": 1,
    "pgdat": 1,
    "sat": 2,
    "fat": 1,
    "trades": 2,
    "trades_fat": 2,
    "fastat": 2,
    "freeat": M,
    "deepaugment": 2,
    "tda": 1,
    "combine": 4,
}


def running_means(config):
    """The running mean after one step with radius 0, where every forward sees the clean batch, and with rate 0."""
    config.attack.epsilon_255, config.optimizer.learning_rate = 0.0, 0.0
    config.deepaugment.mode = "files"
    same = DATA | VIEWS | dict.fromkeys(("deepaugment", "tda", "augmented"), DATA["image"])
    with mock.patch.object(augmented.tda, "colours", lambda images, image_keys: images):
        state, _ = run_steps(config, model=SmallNet(), batch=same)
    return state.batch_stats["norm"]["mean"]


@pytest.fixture(scope="module")
def batch_mean():
    """The mean that one forward of the clean batch finds, averaged over the groups."""
    return running_means(tiny_config("st", recipe="paper")) / 0.1


@pytest.mark.parametrize("row", [*FORWARDS, "trades of three forwards", "pgdat with a clean forward"])
def test_statistics_move_once_for_each_forward_in_train_mode(row, batch_mean):
    """The running mean goes 0 -> 0.1 m -> 0.19 m -> 0.271 m; an attack in train mode would go further."""
    config = tiny_config(row.split(" ")[0], recipe="paper", method__replays=M)
    forwards = FORWARDS[row.split(" ")[0]] + (" " in row)
    config.method.trades_forwards = 3 if row.startswith("trades of") else 2
    config.method.pgdat_clean_forward = row.startswith("pgdat with")
    np.testing.assert_allclose(running_means(config), (1 - 0.9**forwards) * batch_mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "make_loss", "order", "sees"),
    [
        ("sat", at.make_loss, ("clean", "adversarial"), 1),
        ("pgdat", at.make_loss, ("adversarial",), 0),
        ("fat", at.make_loss, ("adversarial",), 0),
        ("trades", trades.make_loss, ("clean", "adversarial"), 0),
        ("trades_fat", trades.make_loss, ("clean", "adversarial"), 0),
        ("trades of three forwards", trades.make_loss, ("clean", "adversarial", "clean"), 0),
        ("combine", augmented.make_loss, ("clean", "deepaugment", "tda", "adversarial"), 3),
        ("deepaugment", augmented.make_loss, ("clean", "deepaugment"), None),
        ("nofrost_star", augmented.make_loss, ("clean", "augmented", "adversarial"), 2),
    ],
)
def test_statistics_thread_through_the_forwards_in_order(row, make_loss, order, sees):
    """Bit for bit those of the train-mode forwards alone; the attack sees the statistics after `sees` of them."""
    config = tiny_config(row.split(" ")[0], recipe="paper", attack__epsilon_255=64.0, attack__steps=2)
    config.method.trades_forwards, config.deepaugment.mode = 3 if " " in row else 2, "files"
    model, attack = SmallNet(axis_name=None), attacks.create(**config.attack)
    variables = random_variables(model)
    mean, std = (jnp.asarray(value) for value in (config.data.mean, config.data.std))

    def both(params, stats, batch):
        seen = {}

        def watched(target, *arguments):
            seen["stats"] = target.variables["batch_stats"]
            seen["images"] = attack(target, *arguments).images
            return attack(target, *arguments)

        _, (after, _) = make_loss(model, config, watched)(params, stats, batch, step_keys())
        images = {"clean": batch["image"].astype(jnp.float32) / 255, "adversarial": seen.get("images")}
        for name in set(order) - set(images):
            images[name] = augmented.stream(name, config, {}, batch, step_keys())
        threaded = [stats]
        for name in order:
            variables = {"params": params, "batch_stats": threaded[-1]}
            inputs = (images[name] - mean) / std
            _, updated = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
            threaded.append(updated["batch_stats"])
        return after, seen.get("stats"), threaded

    after, attacked, threaded = jax.jit(both)(variables["params"], variables["batch_stats"], DATA | VIEWS)
    assert largest_difference(after, threaded[-1]) == 0
    assert attacked is None if sees is None else largest_difference(attacked, threaded[sees]) == 0
    assert all(largest_difference(one, after) > 1e-3 for one in threaded[:-1])


def test_mixture_bn_routes_each_distribution_to_its_own_branch():
    config, model = tiny_config("mbnat", recipe="paper", attack__epsilon_255=64.0), SmallNet("mbn")
    moved, _ = run_steps(config, model=model)
    start = random_variables(model)["batch_stats"]["norm"]
    moved = moved.batch_stats["norm"]
    for branch in ("clean", "adversarial"):
        assert all(np.abs(moved[branch][name] - start[branch][name]).min() > 0 for name in ("mean", "var"))
    assert np.abs(moved["clean"]["mean"] - moved["adversarial"]["mean"]).max() > 1e-4


def test_every_method_that_attacks_is_here():
    assert {tiny_config(row).method.name for row in FORWARDS} == set(methods.NAMES)
