"""The programs of an evaluation: weights that are standardized once are the same net."""

import jax
import numpy as np
import pytest

from nofrost_jax import classifier
from nofrost_jax.evaluation import runs
from nofrost_jax.models import init
from tests.evaluation import suite


@pytest.fixture(scope="module")
def config():
    return suite.tiny_config(attack_dtype="bfloat16")


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_weights_are_standardized_once(config, dtype, bound):
    programs = runs.programs(config, suite.first_devices())
    variables = init(classifier.create_model(config.model), jax.random.key(0), 8)
    ready = programs.ready(variables)
    assert "gain" in variables["params"]["stem"] and "gain" not in ready["params"]["stem"]
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    logits_fn = jax.jit(classifier.logits_fns(config)[dtype])
    expected = logits_fn(variables, images)
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits_fn(ready, images), expected, rtol=0, atol=bound * np.abs(expected).max())


def test_a_net_without_such_weights_stays_as_it_is(config):
    config = config.copy_and_resolve_references()
    config.model.name = "resnet26"
    programs = runs.programs(config, suite.first_devices())
    variables = programs.devices.replicate(init(classifier.create_model(config.model), jax.random.key(0), 8))
    assert all(map(lambda ours, given: ours is given, *map(jax.tree.leaves, (programs.ready(variables), variables))))
    assert not programs.compile_seconds
