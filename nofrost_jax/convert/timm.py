"""PyTorch weights of timm's networks: a state dict, as NumPy arrays, to the variables of the same network here."""

import re
from collections.abc import Mapping

import jax
import numpy as np
from flax import linen as nn

from nofrost_jax import models
from nofrost_jax.errors import UserError

# Our module and leaf names -> timm's, for both families; names that are equal are left out.
_NF_MODULES = {"stem": "stem.conv", "head": "head.fc", "shortcut": "downsample.conv"}
_BN_MODULES = {"stem": "conv1", "stem_norm": "bn1", "head": "fc"}
_BN_MODULES |= {"shortcut_conv": "downsample.0", "shortcut_norm": "downsample.1"}
_BN_MODULES |= {"norm1": "bn1", "norm2": "bn2", "norm3": "bn3"}
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def timm_key(path: tuple[str, ...], normalizer_free: bool) -> str:
    """timm's name of the tensor at a path of ours, for example ("stage1_block2", "conv1", "kernel")."""
    *block, module, leaf = path
    prefix = ""
    if block:
        stage, number = (int(digits) for digits in re.findall(r"\d+", block[0]))
        prefix = f"stages.{stage - 1}.{number - 1}." if normalizer_free else f"layer{stage}.{number - 1}."
    modules = _NF_MODULES if normalizer_free else _BN_MODULES
    return f"{prefix}{modules.get(module, module)}.{_LEAVES.get(leaf, leaf)}"


def _to_ours(value: np.ndarray, leaf: str) -> np.ndarray:
    """A tensor in our layout: OIHW -> HWIO, [O, I] -> [I, O], gains [O, 1, 1, 1] -> [O]."""
    if value.ndim == 4:
        return value.reshape(-1) if leaf == "gain" else value.transpose(2, 3, 1, 0)
    return value.T


def from_timm(state_dict: Mapping[str, np.ndarray], model: nn.Module) -> dict:
    """The variables of `model` (an nf_resnet, or a resnet with norm="bn") from a state dict of the timm network of
    the same name, as float32 NumPy arrays.

    Strict: raises UserError that names the tensors which are missing, unknown or of another shape. The counters
    `num_batches_tracked` are left out.
    """
    if getattr(model, "norm", "bn") != "bn":
        raise UserError(f"timm has no network with norm={model.norm!r}; convert to one with norm='bn'")
    shapes = jax.eval_shape(lambda key: models.init(model, key, 64), jax.random.key(0))
    given = {name: value for name, value in state_dict.items() if not name.endswith(".num_batches_tracked")}
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    values, wrong, wanted = [], [], set()
    for path, expected in leaves:
        path = tuple(entry.key for entry in path)[1:]
        name = timm_key(path, normalizer_free=not model.has_batch_stats)
        wanted.add(name)
        if name not in given:
            wrong.append(f"{name} is missing")
            continue
        value = _to_ours(np.asarray(given[name]), path[-1])
        if value.shape != expected.shape:
            wrong.append(f"{name} has shape {list(np.shape(given[name]))} (ours would be {list(expected.shape)})")
        values.append(np.ascontiguousarray(value, np.float32))
    wrong += [f"{name} is unknown" for name in given if name not in wanted]
    if wrong:
        listed = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
        raise UserError(f"the state dict does not fit the network: {listed}; check the network's name and num_classes")
    return jax.tree_util.tree_unflatten(tree, values)
