"""A net's PyTorch transcription and its random weights, for the test file that names it as NETWORK."""

import jax
import numpy as np
import pytest


def in_float64(function):
    """The function compiled and called in float64, once for all arguments of the same shapes."""
    compiled = jax.jit(function)

    def call(*arguments):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, compiled(*arguments))

    return call


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("torch")
    from tests.augment import reference

    return reference


@pytest.fixture(scope="module")
def state(request, reference):
    return reference.state_dict(request.module.NETWORK)


@pytest.fixture(scope="module")
def params(reference, state):
    return reference.as_params(state)
