"""Trees of evaluation sets and a tiny run, which the tests of this folder share."""

import shutil

import pytest

from nofrost_jax import checkpoint, train
from tests.conftest import saved_with
from tests.evaluation import suite
from tests.shift import trees


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory):
    """(data_dir with every evaluation set, run, {name or cell: trees.Set})."""
    return trees.make_imagenet(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def copy(imagenet, tmp_path):
    """(data_dir, run) that a test may change."""
    root = tmp_path / "copy"
    shutil.copytree(imagenet[0], root)
    shutil.rmtree(root / "run/evaluations", ignore_errors=True)
    trees.change_config(root / "run", data_dir=str(root))
    return root, root / "run"


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A run whose net knows its evaluation images."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    folder.mkdir()
    config = suite.tiny_config(batch_size=64, limit=0, attacks={})
    train.write_config(config, str(folder))
    checkpoints = checkpoint.Checkpoints(str(folder))
    checkpoints.save(7, {"variables": suite.tiny_variables()}, saved_with(config))
    checkpoints.close()
    return folder
