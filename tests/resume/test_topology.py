"""A run goes on with another number of devices from its checkpoint: the same result where the arithmetic allows it."""

import json
import shutil

import jax
import numpy as np
import pytest

from nofrost_jax import data, parallel, train
from nofrost_jax.config import prepare
from nofrost_jax.evaluate import evaluate_run
from nofrost_jax.evaluation import runs
from tests.conftest import tiny_config
from tests.methods.helpers import largest_difference

RUNS = {  # row: images that batch norm normalizes together (32 on each of 8 devices), devices that go on
    "nofrost": ("64", 1),
    "sat": ("64", 4),
    "mbnat": ("global", 1),
}


def go(config, folder, count, evaluated=False):
    """The final TrainState, on the host, of a run on `count` devices, which goes on from the folder's checkpoint."""
    devices = parallel.Devices(tuple(jax.devices()[:count]))
    dataset = data.open(config)
    with parallel.StopSignal() as stop:
        state = jax.device_get(train.fit(config, str(folder), dataset, devices, None, stop))
        if evaluated:
            evaluator = runs.evaluator(config, devices, dataset)
            evaluate_run(config, str(folder), dataset, evaluator, stop, reuse=True, final=True)
    return state


@pytest.mark.parametrize("row", RUNS)
@pytest.mark.slow
def test_another_number_of_devices_goes_on_to_the_same_result(row, tmp_path):
    """Trained in float64, so that no attack's sign step tips over; parameters are saved in float32. They
    agree to 1e-6, the metrics to 1e-5, and the outcomes of all images in the final evaluation exactly."""
    group, count = RUNS[row]
    fields = {"epochs": 1, "checkpoint__every_steps": 2, "checkpoint__keep": 3, "log__every_steps": 1}
    fields |= {"model__bn_group_size": group, "model__dtype": "float64", "evaluation__limit": 64}
    evaluated = row == "nofrost"
    with jax.enable_x64(True):
        config = prepare(tiny_config(row, **fields))
        whole, moved = tmp_path / "whole", tmp_path / "moved"
        undisturbed = go(config, whole, 8, evaluated)
        shutil.copytree(whole, moved)
        for step in ("4", "5"):
            shutil.rmtree(moved / "checkpoints" / step)
        shutil.rmtree(moved / "evaluations", ignore_errors=True)
        went_on = go(config, moved, count, evaluated)
    first = jax.tree.map(np.zeros_like, undisturbed.params)
    assert undisturbed.step == went_on.step == 5 and largest_difference(undisturbed.params, first) > 0.1
    assert largest_difference(jax.tree.leaves(undisturbed), jax.tree.leaves(went_on)) < 1e-6
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, moved)]
    assert len(lines[0]) == len(lines[1]) == 5 and lines[0][:2] == lines[1][:2]
    for one, other in zip(*lines, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    if evaluated:
        outcomes = [dict(np.load(run / "evaluations/final.npz")) for run in (whole, moved)]
        assert all(np.array_equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])
        results = [json.loads((run / "evaluations/final.json").read_text()) for run in (whole, moved)]
        assert results[0]["attacks"][0]["robust_accuracy"] == results[1]["attacks"][0]["robust_accuracy"]
