"""A whole training step against PyTorch: two forwards, the attack between them, loss, optimizer, statistics."""

import importlib

import jax
import numpy as np
import pytest

from benchmarks.tasks.torch_step import Step
from nofrost_jax import keys, methods, optim, parallel
from nofrost_jax.attacks import base, threat
from nofrost_jax.classifier import create_model
from nofrost_jax.config import resolve
from nofrost_jax.convert.timm import from_timm
from nofrost_jax.state import TrainState
from tests.models import reference

BATCH, SIZE, CLASSES, STEPS = 8, 40, 10, 3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = RNG.integers(0, CLASSES, BATCH).astype(np.int32)


def make_config(name):
    """The authors' recipe but for the random masks, which no two libraries share."""
    config = importlib.import_module("configs.common").get_config()
    config.recipe = "authors"
    config.model.update(
        {"name": name, "num_classes": CLASSES, "bn_group_size": "global", "dropout": 0.0, "drop_path": 0.0}
    )
    config.batch_size, config.attack.steps = BATCH, STEPS
    return resolve(config)


def our_step(config, weights):
    """(loss, variables before, variables after) of one step, computed in float64 with float32 parameters."""
    with jax.enable_x64(True):
        model = create_model(config.model, axis_name=parallel.AXIS, dtype="float64")
        optimizer = optim.create(config, steps_per_epoch=100)
        variables = from_timm(weights, model)
        devices = parallel.Devices((jax.devices()[0],))
        state = devices.replicate(TrainState.create(variables, optimizer))
        step = devices.map_step(methods.TABLE["at"].make_step(model, optimizer, config))
        batch = devices.shard({"image": IMAGES, "label": LABELS})
        state, metrics = step(state, batch, devices.replicate(jax.random.key(5)))
        return float(metrics["loss"][0]), variables, jax.device_get(state.variables)


def torch_step(timm, config, weights):
    """(loss, state dict after) of the same step by torch.optim.SGD, timm's net in float64 and the same random start."""
    import torch

    net = reference.timm_network(timm, config.model.name, weights, CLASSES).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1 * BATCH / 256, momentum=0.9, nesterov=True, weight_decay=5e-5)
    step_size = threat.step_size("nofrost", 8 / 255, STEPS)
    step = Step(net, optimizer, steps=STEPS, step_size=step_size, smoothing=0.1)
    image_keys = keys.per_image(jax.random.fold_in(jax.random.key(5), 0), np.arange(BATCH))
    start_keys = keys.named(base.fold(keys.named(image_keys, "attack"), 0), "start")  # of the first restart
    start = threat.uniform_start(jax.numpy.asarray(IMAGES, "float32") / 255, 8 / 255, start_keys)
    start = torch.from_numpy(np.array(start)).double().permute(0, 3, 1, 2)
    loss = step(torch.from_numpy(IMAGES), torch.from_numpy(LABELS).long(), start)
    return loss.item(), {name: value.detach().numpy() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet26", "nf_resnet26"])
def test_a_step_equals_pytorchs(name):
    try:
        timm = reference.import_timm()
    except ImportError as error:
        pytest.skip(f"needs PyTorch and timm: {error}")
    config = make_config(name)
    model = create_model(config.model)
    weights = reference.state_dict(reference.torch_shapes(model))
    loss, before, after = our_step(config, weights)
    torch_loss, torch_after = torch_step(timm, config, {k: v.copy() for k, v in weights.items()})
    assert loss == pytest.approx(torch_loss, rel=1e-6)
    expected = from_timm({k: v.astype(np.float64) for k, v in torch_after.items()}, model)
    for collection in before:
        leaves = [jax.tree.leaves(tree[collection]) for tree in (before, after, expected)]
        for old, ours, theirs in zip(*leaves, strict=True):
            moved = np.abs(theirs - old).max()
            assert moved > 0
            # What is left is float32's rounding of the parameter itself.
            assert np.abs(ours - theirs).max() < 1e-4 * moved + 3e-7 * np.abs(old).max()
