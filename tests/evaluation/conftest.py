"""Tiny nets, one evaluation and trees of evaluation sets, which the tests of this folder share."""

import collections
import shutil

import pytest

from nofrost_jax import checkpoint, parallel, train
from tests.conftest import saved_with
from tests.evaluation import shift_trees, suite

Reference = collections.namedtuple("Reference", "evaluator devices variables outcomes folder")


@pytest.fixture(scope="session")
def variables():
    return suite.tiny_variables()


@pytest.fixture(scope="session")
def reference(variables, tmp_path_factory):
    """The whole suite in batches of 16 and chunks of 30, on one device; its Evaluator has everything compiled."""
    evaluator, devices = suite.make(suite.tiny_config())
    folder = tmp_path_factory.mktemp("outcomes")
    placed = devices.replicate(variables)
    outcomes = evaluator.run(placed, parallel.StopSignal(), folder)
    return Reference(evaluator, devices, placed, outcomes, folder)


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory):
    """(data_dir with every evaluation set, run, {name or cell: shift_trees.Set})."""
    return shift_trees.make_imagenet(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def copy(imagenet, tmp_path):
    """(data_dir, run) that a test may change."""
    root = tmp_path / "copy"
    shutil.copytree(imagenet[0], root)
    shutil.rmtree(root / "run/evaluations", ignore_errors=True)
    shift_trees.change_config(root / "run", data_dir=str(root))
    return root, root / "run"


@pytest.fixture(scope="session")
def digits(tmp_path_factory, variables):
    """A run whose net knows its evaluation images."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    folder.mkdir()
    config = suite.tiny_config(batch_size=64, limit=0, attacks={})
    train.write_config(config, str(folder))
    checkpoints = checkpoint.Checkpoints(str(folder))
    checkpoints.save(7, {"variables": variables}, saved_with(config))
    checkpoints.close()
    return folder
