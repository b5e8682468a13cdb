"""Tiny nets and one evaluation, which the tests of this folder share."""

import collections

import pytest

from nofrost_jax import parallel
from tests.evaluation import suite

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
