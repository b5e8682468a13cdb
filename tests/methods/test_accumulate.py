"""A step in micro-batches is the same step, for every method: its update, statistics, metrics and random numbers."""

import jax
import pytest

from nofrost_jax import parallel
from nofrost_jax.config import check_devices
from nofrost_jax.errors import UserError
from tests.methods.helpers import (
    BATCH,
    SmallNet,
    largest_difference,
    one_device,
    random_variables,
    run_steps,
    tiny_config,
)
from tests.methods.test_devices import InFloat64

ROWS = {  # row: normalization of the small net, how running statistics of groups are chosen
    "st": ("bn", "first"),
    "pgdat": ("bn", "mean"),
    "mbnat": ("mbn", "first"),
    "trades": ("bn", "first"),
    "fat": ("bn", "mean"),
    "trades_fat": ("bn", "mean"),
    "fastat": ("bn", "first"),
    "freeat": ("bn", "mean"),
    "combine": ("bn", "mean"),
    "nofrost_star": ("", "mean"),
}


@pytest.mark.parametrize("row", ROWS)
def test_micro_batches_are_the_same_step(row):
    """In float64 (see test_devices), against four on one device or two on each of two; groups of two images.

    FAT's attacks stop early, each image at its own step. PGDAT has its clean forward, whose statistics the attack sees.
    """
    norm, running = ROWS[row]
    config = tiny_config(row, deepaugment__mode="files", model__bn_running=running, method__replays=2)
    config.method.pgdat_clean_forward = row == "pgdat"
    model = SmallNet(norm, dropout=0.25, group=2, running=running)
    start = random_variables(model)

    def run(accumulate, devices):
        config.accumulate = accumulate
        return run_steps(config, devices, steps=2, model=InFloat64(model), variables=start)

    with jax.enable_x64(True):
        whole, metrics = run(1, one_device())
        of_two = parallel.Devices(tuple(jax.devices()[:2]))
        cut, cut_metrics = run(2, of_two) if list(ROWS).index(row) % 2 else run(4, one_device())
    assert largest_difference(whole.params, start["params"]) > 0.01
    assert largest_difference(jax.tree.leaves(whole), jax.tree.leaves(cut)) < 1e-6
    assert cut_metrics.keys() == metrics.keys()
    for name, (value, count) in metrics.items():
        assert value / count == pytest.approx(cut_metrics[name][0] / cut_metrics[name][1], rel=1e-5), name
    counts = {name: metrics[name][1] for name in metrics if name.endswith("accuracy")}
    assert counts and set(counts.values()) == {BATCH * (2 if row == "freeat" else 1)}
    assert all(cut_metrics[name][1] == count for name, count in counts.items())


@pytest.mark.parametrize(
    ("fields", "uses_groups", "words"),
    [
        (
            {"accumulate": 3},
            False,
            "accumulate=3 does not divide a device's 8 images .*; choose one of 1, 2, 4, 8",
        ),
        (
            {"accumulate": 4, "model.bn_group_size": "4"},
            True,
            "of 2 images.*bn_group_size=4.*to 2 at most",
        ),
        ({"accumulate": 2, "model.bn_group_size": "16"}, True, "bn_group_size=16.*to 1 at most"),
        ({"accumulate": 2, "model.bn_group_size": "global"}, True, "bn_group_size=global.*to 1 at most"),
        ({"accumulate": 2, "model.bn_group_size": "4"}, True, ""),
        ({"accumulate": 8, "model.bn_group_size": "global"}, False, ""),
    ],
)
def test_micro_batches_must_be_equal_and_hold_whole_groups(fields, uses_groups, words):
    config = tiny_config("sat")
    config.update_from_flattened_dict(fields)
    if not words:
        return check_devices(config, 2, 1, uses_groups)
    with pytest.raises(UserError, match=words):
        check_devices(config, 2, 1, uses_groups)
