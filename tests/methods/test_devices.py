"""A step on one device and on four is the same step, for every method."""

import jax
import pytest

from nofrost_jax import parallel
from nofrost_jax.classifier import create_model
from tests.methods.helpers import SmallNet, largest_difference, one_device, random_variables, run_steps, tiny_config

NETS = ("nofrost", "sat")  # on the nets themselves; what differs in the step or the normalization, on a small one
ROWS = {  # row: normalization of the small net
    "sat_in": "in",
    "mbnat": "mbn",
    "trades": "bn",
    "trades on an NF net": "",
    "fat": "bn",
    "trades_fat": "bn",
    "fastat": "bn",
    "freeat": "bn",
    "deepaugment": "bn",
    "combine": "bn",
    "nofrost_star": "",
}


@pytest.mark.parametrize("row", [*NETS, *ROWS])
def test_one_device_equals_four(row):
    """Computed in float64, so that no attack's sign step tips over: what is left is float32's rounding of parameters.

    Updates are of the order of 0.1; parameters, momenta, statistics, noise and metrics agree to 1e-6. A group of batch
    norm spans two of the four devices.
    """
    config = tiny_config(row.split(" ")[0], optimizer__agc=0.1)
    config.deepaugment.mode = "noise2net" if row == "deepaugment" else "files"
    config.model.stage_sizes = (1,)
    model = SmallNet(ROWS[row], dropout=0.25) if row in ROWS else create_model(config.model, axis_name=parallel.AXIS)
    start = random_variables(model)
    with jax.enable_x64(True):
        net = InFloat64(model) if row in ROWS else model.clone(dtype="float64")
        (alone, alone_metrics), (spread, spread_metrics) = (
            run_steps(config, devices, steps=2, model=net, variables=start)
            for devices in (one_device(), parallel.Devices(tuple(jax.devices()[:4])))
        )
    assert largest_difference(alone.params, start["params"]) > 0.01
    assert alone.batch_stats.keys() == spread.batch_stats.keys()
    assert largest_difference((alone.params, alone.opt_state), (spread.params, spread.opt_state)) < 1e-6
    if alone.batch_stats:
        assert largest_difference(alone.batch_stats, start["batch_stats"]) > 0.01
        assert largest_difference(alone.batch_stats, spread.batch_stats) < 1e-6
    assert set(alone.method) == set(spread.method) == ({"noise"} if row == "freeat" else set())
    if row == "freeat":  # a row for each image of the global batch, on its own position
        assert len({one.tobytes() for one in alone.method["noise"]}) == config.batch_size
        assert largest_difference(alone.method, spread.method) < 1e-6
    for name, (value, count) in alone_metrics.items():
        assert value / count == pytest.approx(spread_metrics[name][0] / spread_metrics[name][1], rel=1e-5), name


class InFloat64:
    """A net whose inputs are float64."""

    def __init__(self, model):
        self.model, self.has_batch_stats, self.has_branches = model, model.has_batch_stats, model.has_branches

    def apply(self, variables, inputs, **options):
        return self.model.apply(variables, inputs.astype("float64"), **options)

    def frozen(self, params):
        return self.model.frozen(params)
