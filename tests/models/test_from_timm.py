"""Conversion of timm's weights refuses what does not fit, by name."""

import numpy as np
import pytest

from nofrost_jax import models
from nofrost_jax.convert.timm import from_timm
from nofrost_jax.errors import UserError
from tests.models import reference

TINY = {"num_classes": 5, "width": 0.125, "stage_sizes": (1, 2)}


@pytest.fixture(params=["nf_resnet26", "resnet26"])
def model_and_weights(request):
    model = models.create(request.param, **TINY)
    return model, reference.state_dict(reference.torch_shapes(model))


def test_weights_arrive_in_our_layout():
    model = models.create("nf_resnet26", **TINY)
    weights = reference.state_dict(reference.torch_shapes(model))
    params = from_timm(weights, model)["params"]
    assert (
        params["stage2_block1"]["conv2"]["kernel"][2, 1, 3, 4] == weights["stages.1.0.conv2.weight"][4, 3, 2, 1]
    ).all()
    np.testing.assert_array_equal(params["stem"]["gain"], weights["stem.conv.gain"][:, 0, 0, 0])
    np.testing.assert_array_equal(params["head"]["kernel"], weights["head.fc.weight"].T)


def test_statistics_arrive_and_counters_are_left_out():
    model = models.create("resnet26", **TINY)
    weights = reference.state_dict(reference.torch_shapes(model))
    variables = from_timm(weights | {"bn1.num_batches_tracked": np.int64(7)}, model)
    stats = variables["batch_stats"]["stage1_block1"]["shortcut_norm"]
    np.testing.assert_array_equal(stats["var"], weights["layer1.0.downsample.1.running_var"])


def test_missing_unknown_and_misshaped_tensors_are_named(model_and_weights):
    model, weights = model_and_weights
    names = list(weights)
    broken = dict(weights)
    del broken[names[3]]
    broken["extra.weight"] = np.zeros(3)
    broken[names[0]] = np.zeros((2, 2))
    with pytest.raises(UserError) as caught:
        from_timm(broken, model)
    message = str(caught.value)
    assert f"{names[3]} is missing" in message and "extra.weight is unknown" in message and "\n" not in message
    assert f"{names[0]} has shape [2, 2]" in message


def test_the_wrong_network_and_the_wrong_norm_are_refused(model_and_weights):
    _, weights = model_and_weights
    with pytest.raises(UserError, match=r"; and .* more"):
        from_timm(weights, models.create("resnet50"))
    with pytest.raises(UserError, match="norm='in'"):
        from_timm(weights, models.create("resnet26", norm="in"))
