"""Conversion of timm's weights refuses what does not fit, by name."""

import jax
import ml_dtypes
import numpy as np
import pytest

from nofrost_jax import models
from nofrost_jax.convert.timm import from_timm
from nofrost_jax.errors import UserError
from tests.models import reference

torch = pytest.importorskip("torch", reason="PyTorch writes the files: requirements-parity.txt")

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


def assert_same(found, expected, rtol=0):
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=rtol), found, expected)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found))


@pytest.fixture
def saved():
    """(model, weights, what comes of them)."""
    model = models.create("resnet26", **TINY)
    weights = reference.state_dict(reference.torch_shapes(model))
    return model, weights, from_timm(weights, model)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "module.model."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_weights_as_they_are_saved(saved, prefix, wrapper):
    """By DataParallel, with a normalizer, by torch.compile; within what a training script keeps."""
    model, weights, expected = saved
    given = {f"{prefix}{name}": value for name, value in weights.items()}
    outer = prefix.removesuffix("model.")
    given |= {f"{outer}mean": np.zeros(3), f"{outer}normalizer.new_std": np.ones(3), "std": np.ones(3)}
    assert_same(from_timm({wrapper: given, "epoch": 90} if wrapper else given, model), expected)


def test_tensors_of_pytorch_and_half_precision(saved):
    model, weights, expected = saved
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    assert_same(from_timm({name: torch.nn.Parameter(value) for name, value in tensors.items()}, model), expected)
    assert_same(from_timm({name: value.double() for name, value in tensors.items()}, model), expected)
    for one in (
        {name: value.bfloat16() for name, value in tensors.items()},
        {name: value.astype(ml_dtypes.bfloat16) for name, value in weights.items()},
    ):
        assert_same(from_timm(one, model), expected, rtol=2**-8)
    assert_same(from_timm({name: value.half() for name, value in tensors.items()}, model), expected, rtol=2**-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_path_of_a_pytorch_file(saved, tmp_path, dtype):
    """Read without PyTorch; what else a script keeps in it is left alone."""
    model, weights, expected = saved
    state = {f"module.{name}": torch.from_numpy(value).to(dtype) for name, value in weights.items()}
    torch.save({"state_dict": state, "epoch": 90, "optimizer": {"lr": 0.1}}, tmp_path / "best.pth.tar")
    assert_same(from_timm(tmp_path / "best.pth.tar", model), expected, rtol=2**-8 if dtype != torch.float32 else 0)


def test_what_no_net_should_start_from_is_refused(saved, tmp_path):
    model, weights, _ = saved
    broken = weights["fc.weight"].copy()
    broken[0, 0] = np.nan
    with pytest.raises(UserError, match=r"^fc\.weight has numbers that are not finite"):
        from_timm(weights | {"fc.weight": broken}, model)
    name = "layer1.0.conv1.weight"
    for value, words in [
        (weights[name] * np.nan, f"{name} has numbers that are not finite: its training failed"),
        (weights[name].astype(np.int8), f"{name} is int8, not floating-point"),
    ]:
        with pytest.raises(UserError, match=words):
            from_timm(weights | {name: value}, model)
    head = {"fc.weight": np.zeros((1000, 256), np.float32), "fc.bias": np.zeros(1000, np.float32)}
    with pytest.raises(UserError, match=r"a head of 1000 classes, the model one of 5: create .* num_classes=1000"):
        from_timm(weights | head, model)
    with pytest.raises(UserError, match="No such file"):
        from_timm(tmp_path / "model.pth", model)
    for nothing in (None, 5, [weights]):
        with pytest.raises(ValueError, match="from_timm takes a state dict"):
            from_timm(nothing, model)
