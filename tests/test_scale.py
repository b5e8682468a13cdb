"""Costs on paper, against what programs hold: bytes exchanged, operations; and the arithmetic of machines."""

import pytest

from benchmarks import collectives
from nofrost_jax import accelerators, costs, scale
from nofrost_jax.errors import UserError


@pytest.mark.parametrize(("row", "count", "group"), [("nofrost", 8, "8"), ("mbnat", 2, "global"), ("freeat", 8, "8")])
def test_bytes_exchanged_are_those_in_the_compiled_step(monkeypatch, row, count, group):
    """Without groups that span devices nothing is exchanged layer by layer: one collective for what waits for nothing.
    `benchmarks/collectives.py` counts more rows on up to 64 devices."""
    monkeypatch.setenv("NOFROST_CONV", "xla")
    config = collectives.config_of(row, group)
    lowered, _, variables = collectives.lowered_step(config, count)
    found = collectives.counted(lowered.compile().as_text())
    wanted = collectives.predicted(config, variables, set(lowered.out_info[1]), count)
    assert {name: size for name, (_, size) in found.items()} == wanted
    if group != "global":
        assert found["all-reduce"][0] <= (2 * config.method.replays if row == "freeat" else 1)


@pytest.mark.parametrize("row", ["st", "sat", "trades", "fat", "fastat", "freeat", "combine", "nofrost_star"])
def test_operations_are_those_of_the_lowered_step(monkeypatch, row):
    """With one attack step: XLA's analysis counts a loop's body once. Random numbers, norms and the update are in the
    program and not in the model."""
    monkeypatch.setenv("NOFROST_CONV", "xla")
    fields = {"model.width": 1.0, "data.image_size": 32, "method.replays": 2, "batch_size": 32}
    config = collectives.config_of(row, "32", **fields)
    lowered, model, variables = collectives.lowered_step(config, 1)
    counted = lowered.cost_analysis()["flops"]
    with costs.xla_convolutions():
        forward = costs.forward_flops(model.clone(axis_name=None) if model.has_batch_stats else model, variables, 32)
    assert counted == pytest.approx(costs.step_flops(config, forward), rel=0.12)


def test_a_ring_moves_twice_the_bytes_less_a_share():
    device = accelerators.TABLE["h100"]
    assert accelerators.machine("h100") == accelerators.machine("8xh100") == accelerators.Machine(device, 8, 1)
    assert accelerators.machine("2x8xh100") == accelerators.Machine(device, 16, 2)
    eight, pair = accelerators.machine("8xh100"), accelerators.machine("2x8xh100")
    assert eight.ring_seconds(450e9, 1) == pytest.approx(2 * 7 / 8)
    assert pair.ring_seconds(450e9, 1) == pytest.approx(2 * 7 / 8 + 2 * 1 / 2 * 450 / 400)
    assert accelerators.machine("1xv100").ring_seconds(1e9, 1) == 0
    chip = accelerators.TABLE["tpu_v4"]
    assert (chip.rate("float32", "default"), chip.rate("float32", "highest")) == (275e12, 275e12 / 6)
    assert (device.rate("float32", "default"), device.rate("float32", "highest")) == (495e12, 67e12)


@pytest.mark.parametrize("text", ["h1000", "xh100", "0xh100", "2x2x2xh100", "8 h100"])
def test_an_unknown_machine_is_refused(text):
    with pytest.raises(UserError, match="is unknown; give one of v100, a100, h100"):
        accelerators.machine(text)


def test_small_batches_waste_devices():
    """The memory limits a large batch, the least time of a kernel a small one."""
    config, net = collectives.config_of("nofrost"), scale.Net(8e9, 11_000_000, 54, 102_000_000, 0, 50_000_000)
    config.batch_size = 4096
    steps = [scale.step_on(config, net, accelerators.machine(f"{count}xh100")) for count in (1, 8, 2048)]
    assert [step.limit for step in steps] == ["memory", "memory", "kernels"]
    assert steps[0].communication == 0 < steps[1].communication
    assert steps[0].seconds / 8 <= steps[1].seconds < steps[0].seconds / 7.9
    assert steps[2].seconds > 2 * steps[0].seconds / 2048
