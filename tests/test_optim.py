"""Learning-rate schedules against values by hand; several optimizer steps of one training step share one rate."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nofrost_jax import optim
from nofrost_jax.config import prepare
from nofrost_jax.errors import UserError
from tests.conftest import tiny_config

PER_EPOCH = 4


def make_config(schedule, **fields):
    plain = {"learning_rate": 0.4, "learning_rate_batch": 0, "momentum": 0.0, "weight_decay": 0.0, "agc": 0.0}
    config = tiny_config(epochs=15, **{f"optimizer__{name}": value for name, value in plain.items()})
    config.optimizer.nesterov = False
    config.optimizer.schedule = schedule
    for name, value in fields.items():
        config.optimizer[name] = value
    return config


def rates(config, epochs):
    """The rate at these epochs; fractions fall on a step."""
    schedule = optim.learning_rate(config, PER_EPOCH)
    return [float(schedule(np.int32(round(epoch * PER_EPOCH)))) for epoch in epochs]


def test_points_are_joined_by_straight_lines():
    """FastAT's own: 0 -> .4 -> .04 at epochs 0, 1, 6, then .004 at 12 and .0004 at 15, here as shares of the peak."""
    config = make_config("points", point_epochs=(0.0, 1.0, 6.0, 12.0, 15.0), point_shares=(0.0, 1.0, 0.1, 0.01, 0.001))
    found = rates(config, [0, 0.25, 0.5, 1, 2, 3.5, 6, 9, 12, 13.5, 15, 20])
    expected = [0, 0.1, 0.2, 0.4, 0.328, 0.22, 0.04, 0.022, 0.004, 0.0022, 0.0004, 0.0004]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_one_point_is_a_constant_rate_and_the_first_holds_before_it():
    assert rates(make_config("points"), [0, 3, 14]) == pytest.approx([0.4] * 3)
    config = make_config("points", point_epochs=(2.0, 4.0), point_shares=(0.5, 0.25))
    assert rates(config, [0, 2, 3, 4, 9]) == pytest.approx([0.2, 0.2, 0.15, 0.1, 0.1])


def test_decay_takes_a_tenth_after_every_so_many_epochs():
    config = make_config("decay", decay_epochs=3)
    found = rates(config, [0, 2.75, 3, 5.75, 6, 9])
    assert found == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.0004], rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("cosine_epochs", [1, 1, 0.5 * (1 + np.cos(np.pi / 15)), 0.5 * (1 + np.cos(np.pi * 14 / 15))]),
        ("cosine", [1, 0.5 * (1 + np.cos(np.pi * 0.75 / 15)), 0.5 * (1 + np.cos(np.pi / 15)), None]),
    ],
)
def test_the_older_schedules_are_as_they_were(schedule, expected):
    found = rates(make_config(schedule), [0, 0.75, 1, 14])
    for rate, share in zip(found, expected, strict=True):
        assert share is None or rate == pytest.approx(0.4 * share, rel=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "cosine_epochs"])
def test_the_cosine_goes_its_whole_way_after_the_warm_up(schedule):
    """From the peak, where the warm-up ends, over the epochs that are left: as a run that is shorter by the warm-up."""
    warm = make_config(schedule, warmup_epochs=2.5)
    warm.epochs = 12
    steps = np.arange(12 * PER_EPOCH)
    found = np.array(rates(warm, steps / PER_EPOCH))
    np.testing.assert_allclose(found[:10], 0.4 * np.arange(1, 11) / 10, rtol=1e-6)
    moved = (steps[10:] - 10) // (PER_EPOCH if schedule == "cosine_epochs" else 1)
    left = 9.5 if schedule == "cosine_epochs" else 38
    np.testing.assert_allclose(found[10:], 0.2 * (1 + np.cos(np.pi * moved / left)), rtol=1e-5, atol=1e-7)


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(UserError, match=r"warmup_epochs=3.0 .* config.epochs=3"):
        prepare(tiny_config(optimizer__warmup_epochs=3.0))


@pytest.mark.parametrize("schedule", ["constant", "points", "decay"])
def test_warm_up_multiplies_the_other_schedules(schedule):
    fields = {"point_epochs": (0.0, 4.0), "point_shares": (1.0, 0.5), "decay_epochs": 1}
    plain = rates(make_config(schedule, **fields), [0, 0.25, 1, 1.75, 2, 3])
    warm = rates(make_config(schedule, warmup_epochs=2.0, **fields), [0, 0.25, 1, 1.75, 2, 3])
    np.testing.assert_allclose(warm, plain * np.array([1 / 8, 2 / 8, 5 / 8, 1, 1, 1]), rtol=1e-5)


def test_the_rate_scales_with_the_batch():
    config = make_config("points", learning_rate_batch=128)
    assert rates(config, [0]) == pytest.approx([0.8]) and config.batch_size == 256


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("schedule", ["points", "decay", "cosine"])
def test_updates_of_one_step_share_its_rate(schedule, updates):
    """Plain SGD on a gradient of one moves a weight by exactly the rate of the training step."""
    fields = {"point_epochs": (0.0, 2.0), "point_shares": (0.5, 1.0), "decay_epochs": 1}
    config = make_config(schedule, **fields)
    optimizer = optim.create(config, PER_EPOCH, updates)
    params = {"head": {"kernel": jnp.zeros((1, 1))}}
    state, moved = optimizer.init(params), []
    for _ in range(6 * updates):
        change, state = optimizer.update({"head": {"kernel": jnp.ones((1, 1))}}, state, params)
        moved.append(-float(change["head"]["kernel"][0, 0]))
    expected = np.repeat(rates(config, np.arange(6) / PER_EPOCH), updates)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    assert len(set(expected)) > 1 and int(optax.tree.get(state, "count")) == 6 * updates
