"""The names of tensors as training scripts save them: wrappers and prefixes in any order come off."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from nofrost_jax import weights
from nofrost_jax.convert import saved
from nofrost_jax.errors import UserError
from nofrost_jax.weights import torch_file

WEIGHTS = {"conv1.weight": np.ones((2, 3, 1, 1), np.float32), "layer1.0.bn1.running_mean": np.zeros(2, np.float32)}
PREFIXES = ("module.", "model.", "_orig_mod.", "net.")
WRAPPERS = ("state_dict", "model", "net", "model_state_dict")


@pytest.mark.parametrize("prefix", ["".join(some) for n in range(4) for some in itertools.permutations(PREFIXES, n)])
def test_prefixes_in_any_order(prefix):
    state = {f"{prefix}{name}": value for name, value in WEIGHTS.items()}
    assert saved.cleaned(state).weights.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("wrappers", [some for n in range(4) for some in itertools.permutations(WRAPPERS, n)])
def test_wrappers_in_any_order(wrappers):
    state = WEIGHTS
    for wrapper in wrappers:
        state = {wrapper: state, "epoch": 3, "best_acc": 0.5}
    assert saved.cleaned(state).weights.keys() == WEIGHTS.keys()


def test_dictionaries_without_an_end():
    state = {}
    state["model"] = state
    with pytest.raises(ValueError, match="without an end"):
        torch_file.unwrapped(state)


def test_only_one_of_mean_and_std_is_no_normalization():
    assert saved.cleaned(WEIGHTS | {"normalize.mean": np.ones(3)}).normalization is None
    found = saved.cleaned(WEIGHTS | {"normalize.mean": np.float32([0.1] * 3), "normalize.std": np.float32([0.2] * 3)})
    assert found.normalization == ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2)) and found.weights.keys() == WEIGHTS.keys()


def test_a_mean_of_another_size_is_a_tensor_like_others():
    assert "mean" in saved.cleaned({"mean": np.ones(7)}).weights


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.bool_])
def test_kinds_of_numbers_in_a_safetensors_file(tmp_path, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch writes the files: requirements-parity.txt")
    from safetensors.torch import save_file

    kinds = {np.float64: torch.float64, np.float16: torch.half, np.int8: torch.int8, np.bool_: torch.bool}
    numbers = torch.tensor([[1.0, 0.0, 1.0]]).to(kinds.get(dtype, torch.bfloat16))
    save_file({"w": numbers}, tmp_path / "a.safetensors")
    found = weights.read(tmp_path / "a.safetensors")["w"]
    assert found.dtype == dtype and found.shape == (1, 3) and list(found[0].astype(float)) == [1, 0, 1]


@pytest.mark.parametrize("name", ["no_file.pth", "no_file.safetensors", "."])
def test_what_is_no_file(tmp_path, name):
    with pytest.raises(UserError, match="check the path"):
        weights.read(tmp_path / name)
