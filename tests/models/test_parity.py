"""The networks equal timm's on the same random weights: live where PyTorch is installed, else by stored numbers."""

import numpy as np
import pytest

from nofrost_jax import models
from nofrost_jax.convert.timm import from_timm
from tests.golden import make_models
from tests.models import reference


@pytest.fixture(scope="session")
def timm():
    try:
        return reference.import_timm()
    except ImportError as error:
        pytest.skip(f"needs PyTorch and timm: {error}")


@pytest.fixture(scope="session")
def converted():
    """(model, timm's state dict, variables) by network name and classes; the weights are made once."""
    cache = {}

    def get(name, classes):
        if (name, classes) not in cache:
            model = models.create(name, num_classes=classes)
            weights = reference.state_dict(reference.torch_shapes(model))
            cache.clear()  # a network's weights are 100 MB
            cache[name, classes] = model, weights, from_timm(weights, model)
        return cache[name, classes]

    return get


# 72 pixels, where maps are odd and average pooling meets a border, and 224 as in training, which does not depend on the
# depth; one implementation each.
@pytest.mark.parametrize(
    ("name", "size", "implementation"),
    [*((name, 72, "slices") for name in models.NAMES), *((name, 224, "xla") for name in models.NAMES if "26" in name)],
)
def test_logits_and_input_gradients_equal_timm(timm, converted, monkeypatch, name, size, implementation):
    model, weights, variables = converted(name, 1000)
    net = reference.timm_network(timm, name, weights, 1000)
    images, direction = reference.inputs(size, 1000)
    expected, expected_gradient = reference.torch_float64_logits_and_input_gradient(net, images, direction)
    monkeypatch.setenv("NOFROST_CONV", implementation)
    logits = reference.float32_logits(model, variables, images)
    assert logits.dtype == np.float32
    assert reference.relative_error(logits, expected) < reference.TOLERANCE
    monkeypatch.setenv("NOFROST_CONV", "slices")  # XLA has no fast float64 convolution on CPU
    logits, gradient = reference.float64_logits_and_input_gradient(model, variables, images, direction)
    assert reference.relative_error(logits, expected) < reference.FLOAT64_TOLERANCE
    assert reference.relative_error(gradient, expected_gradient) < reference.FLOAT64_TOLERANCE


@pytest.mark.parametrize("name", models.NAMES)
def test_logits_equal_the_stored_ones(converted, name):
    model, _, variables = converted(name, make_models.CLASSES)
    images, _ = reference.inputs(make_models.SIZE, make_models.CLASSES)
    with np.load(make_models.PATH) as stored:
        expected = stored[f"{name}/logits"]
    assert reference.relative_error(reference.float32_logits(model, variables, images), expected) < reference.TOLERANCE


@pytest.mark.parametrize("name", make_models.GRADIENTS)
def test_input_gradients_equal_the_stored_ones(converted, name):
    model, _, variables = converted(name, make_models.CLASSES)
    images, direction = reference.inputs(make_models.SIZE, make_models.CLASSES)
    with np.load(make_models.PATH) as stored:
        expected = stored[f"{name}/gradient"]
    _, gradient = reference.float64_logits_and_input_gradient(model, variables, images, direction)
    assert reference.relative_error(gradient, expected) < reference.TOLERANCE
