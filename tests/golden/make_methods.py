"""Writes methods.json: what one training step of every row of configs/methods.py does, on a tiny net, in float64.

They are this project's own numbers, to notice a change that nobody meant. From the repository root:
JAX_PLATFORMS=cpu python -m tests.golden.make_methods
"""

import importlib
import json
import os
from pathlib import Path
from unittest import mock

import flax
import jax
import numpy as np

from configs.methods import ROWS, apply
from nofrost_jax import methods, models, optim, parallel
from nofrost_jax.classifier import create_model
from nofrost_jax.config import resolve
from nofrost_jax.state import TrainState
from tests.methods.helpers import with_coin
from tests.models.reference import as_if_trained, stream

PATH = Path(__file__).with_name("methods.json")
BATCH, SIZE, CLASSES, STEPS = 16, 8, 5, 5
FAVOUR = 8.0  # added to the first class's logit, which makes it the prediction for about half of the images


@mock.patch.dict(os.environ, {"NOFROST_CONV": "xla"})  # compiles sooner
def measure(row):
    """{number: value} of one step of a row.

    Images, parameters and noise are float64, or else rounding would turn signs of the attack's gradients over, on
    another CPU or under another jax. Weights and images come from NumPy's fixed streams, noise from the step's key.
    """
    with jax.enable_x64(True):
        return numbers(*take(row))


def take(row, dtype="float64", device=None, cast=lambda tree: tree):
    """(metrics, variables before, state after) of one step of a row, on the host. cast: puts arrays into `dtype`."""
    config = config_of(row)
    method = methods.TABLE[config.method.name]
    model = create_model(config.model, axis_name=parallel.AXIS, dtype=dtype)
    optimizer = optim.create(config, 10, method.updates(config))
    devices = parallel.Devices((device or jax.devices()[0],))
    kept = jax.tree.map(lambda leaf: leaf.astype(dtype), method.begin(config, SIZE))
    variables = cast(first_variables(model))
    images = {name: cast(value) if value.dtype == float else value for name, value in batch().items()}
    state = devices.replicate(TrainState.create(variables, optimizer, kept))
    step = devices.map_step(method.make_step(model, optimizer, config, 10))
    state, metrics = jax.device_get(step(state, devices.shard(images), devices.replicate(jax.random.key(7))))
    return metrics, variables, state


def config_of(row):
    """The paper's recipe of a row, but for a tiny net, fewer attack steps and a larger radius and rate."""
    config = apply(importlib.import_module("configs.common").get_config(), row)
    config.model.name = config.model.name.replace("50", "26")
    config.model.update({"num_classes": CLASSES, "stem": "small", "width": 0.125, "stage_sizes": (1,)})
    config.model.bn_group_size, config.batch_size, config.data.image_size = "8", BATCH, SIZE
    config.attack.update({"epsilon_255": 16.0, "steps": min(STEPS, config.attack.steps)})
    config.optimizer.learning_rate_batch = 0
    return resolve(config)


def first_variables(model):
    shapes = models.abstract_variables(model, SIZE)
    values = {path: as_if_trained(path, leaf.shape) for path, leaf in flat(shapes).items()}
    values["params/head/bias"] += FAVOUR * (np.arange(CLASSES) == 0)
    return flax.traverse_util.unflatten_dict(values, sep="/")


def batch():
    """Most labels are the class that the nets favour, so that an attack has something to change."""
    draw = stream("golden batch")
    images = np.clip(draw.uniform(-0.1, 1.1, (BATCH, SIZE, SIZE, 3)), 0, 1)
    labels = np.where(np.arange(BATCH) % 4 > 0, 0, draw.randint(0, CLASSES, BATCH))
    views = {name: stream(f"golden {name}").uniform(0, 1, images.shape) for name in ("deepaugment", "tda")}
    coins = stream("golden coins").uniform(size=BATCH) < 0.5
    return {"image": images, "label": labels.astype(np.int32), **with_coin(views, coins)}


def numbers(metrics, variables, state):
    """The step's metrics as means, and how far each part of the state went."""
    found = {name: float(total / count) for name, (total, count) in metrics.items()}
    before, after = flat(variables["params"]), flat(state.params)
    moves = {path: np.asarray(value - before[path]) for path, value in after.items()}
    for name in ("stem", "stage1_block1/conv2", "head"):
        found[f"{name} kernel, sum of |changes|"] = float(np.abs(moves[f"{name}/kernel"]).sum())
    # Random signs tell parameters apart that a plain sum would let trade places.
    found["all changes, with random signs"] = float(sum((signs(path, v) * v).sum() for path, v in moves.items()))
    for leaf in ("mean", "var"):
        values = {path: value for path, value in flat(state.batch_stats).items() if path.endswith(leaf)}
        if values:
            found[f"running {leaf}, with random signs"] = float(sum((signs(p, v) * v).sum() for p, v in values.items()))
    if state.method:
        noise = state.method["noise"]
        found["noise, sum of sizes"] = float(np.abs(noise).sum())
        found["noise, with random signs"] = float((signs("noise", noise) * noise).sum())
    return found


def signs(path, value):
    return np.where(stream(f"signs of {path}").uniform(size=value.shape) < 0.5, -1, 1)


def flat(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


def main():
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    PATH.write_text(json.dumps({row: measure(row) for row in ROWS}, indent=1) + "\n")


if __name__ == "__main__":
    main()
