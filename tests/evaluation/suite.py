"""A tiny net, and a suite of every kind of attack in miniature, for the engine's tests."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np

from nofrost_jax import checkpoint, data, models, parallel, train
from nofrost_jax.classifier import Classifier, create_model, normalize
from nofrost_jax.config import prepare, resolve
from nofrost_jax.data.choice import Choice
from nofrost_jax.evaluation import runs, store
from tests import conftest
from tests.data.helpers import dataset_of
from tests.test_interpolation import random_like

MEMBERS = {
    "apgd_ce": {"name": "apgd_ce", "steps": 1},
    "apgd_t": {"name": "apgd_t", "steps": 3, "targets": 2},
    "fab_t": {"name": "fab_t", "steps": 3, "targets": 2},
    "square": {"name": "square", "queries": 12},
}
ATTACKS = {
    "pgd_20": {"name": "pgd", "steps": 3, "step_rule": "madry"},
    "rays": {"name": "rays", "queries": 30, "limit": 10},
    "cascade": {"name": "cascade", "members": MEMBERS},
}
COUNT = 50


def tiny_config(batch_size=16, limit=COUNT, attacks=ATTACKS, **evaluation):
    """The resolved config of a tiny net on digits, with `attacks` at a radius that fools about half of the images."""
    config = importlib.import_module("configs.digits").get_config("nofrost")
    config.model.update({"width": 0.0625, "stage_sizes": (1,)})
    config.attack.epsilon_255 = 1.5
    with config.unlocked():
        config.evaluation.attacks = attacks
        config.evaluation.while_training = ()
    config.evaluation.update({"batch_size": batch_size, "limit": limit, "chunk_size": 30, **evaluation})
    return resolve(config)


def tiny_variables():
    """Fresh variables, and a head fitted to the images that are evaluated, so that there is something to attack."""
    config = tiny_config()
    model = create_model(config.model)
    fresh = models.init(model, jax.random.key(0), 8)
    (batch,) = dataset_of(config, Choice(128)).eval_batches(128)
    images = normalize(jnp.asarray(batch["image"] / 255.0, jnp.float32), config.data.mean, config.data.std)
    head = fresh["params"]["head"]
    width, classes = head["kernel"].shape

    @jax.jit
    def logits(kernel):
        variables = fresh | {"params": fresh["params"] | {"head": head | {"kernel": kernel}}}
        return model.apply(variables, images, train=False)

    # The features, ten at a time: with such a kernel the logits are the features.
    blocks = [logits(jnp.eye(width, classes, -first))[:, : width - first] for first in range(0, width, classes)]
    features = np.concatenate([np.asarray(block) for block in blocks], axis=1)
    targets = 8 * np.eye(classes)[batch["label"]] - 0.8
    kernel = np.linalg.solve(features.T @ features + 1e-3 * np.eye(width), features.T @ targets)
    fresh["params"]["head"] = head | {"kernel": jnp.asarray(kernel, jnp.float32)}
    return fresh


def first_devices(count=1):
    return parallel.Devices(tuple(jax.devices()[:count]))


def make(config, count=1):
    """(Evaluator, Devices) on the first `count` devices."""
    devices = first_devices(count)
    return runs.evaluator(config, devices, data.open(config)), devices


def classifier(config, variables):
    return Classifier(variables, create_model(config.model), tuple(config.data.mean), tuple(config.data.std))


def identity(config, params="sha"):
    """What outcomes of a config's net are kept under."""
    return store.identity(params, runs.net_of(config), runs.Split(dataset_of(config)), config.seed)


def make_run(folder, row="mbnat", **fields):
    """A run's folder with one checkpoint, of random variables; nothing is trained."""
    config = prepare(conftest.tiny_config(row, **fields))
    folder.mkdir()
    train.write_config(config, str(folder))
    shapes = models.abstract_variables(create_model(config.model), 8)
    checkpoints = checkpoint.Checkpoints(str(folder))
    checkpoints.save(7, {"variables": jax.tree.map(jnp.asarray, random_like(shapes))}, conftest.saved_with(config))
    checkpoints.close()
    return folder
