"""PyTorch weights of timm's networks: a state dict, as NumPy arrays, to the variables of the same network here."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from nofrost_jax import models, weights
from nofrost_jax.convert import saved
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


def from_timm(
    state_dict: Mapping[str, Any] | str | os.PathLike,
    model: nn.Module,
    place: Callable[[np.ndarray], Any] = lambda array: array,
) -> dict:
    """The variables of `model` (an nf_resnet, or a resnet with norm="bn") from the weights of the timm network of the
    same name, as float32 NumPy arrays, or what `place` makes of each, e.g. `jax.device_put`.

    state_dict: arrays or PyTorch tensors by name, or the path of a file with them (`weights.read`), which is read
    without PyTorch and without running its code. Wrappers and prefixes are taken off (`saved.cleaned`). A normalizer's
    mean and std and the counters `num_batches_tracked` are left out: `Classifier` normalizes.

    Strict: raises UserError that names tensors which are missing, unknown, of another shape or not finite; ValueError
    for anything but a state dict.
    """
    if getattr(model, "norm", "bn") != "bn":
        raise UserError(f"timm has no network with norm={model.norm!r}; convert to one with norm='bn'")
    shapes = models.abstract_variables(model, 64)
    if isinstance(state_dict, (str, os.PathLike)):
        state_dict = weights.read(state_dict)
    if not isinstance(state_dict, Mapping):
        kind = type(state_dict).__name__
        raise ValueError(f"from_timm takes a state dict, names with arrays or tensors, or the path of one, not {kind}")
    given = saved.cleaned(state_dict).weights
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    values, wrong, wanted, normalizer_free = [], [], set(), not model.has_batch_stats
    for path, expected in leaves:
        path = tuple(entry.key for entry in path)[1:]
        name = timm_key(path, normalizer_free)
        wanted.add(name)
        if name not in given:
            wrong.append(f"{name} is missing")
            continue
        array = saved.array(given[name])
        if not jax.numpy.issubdtype(array.dtype, np.floating):
            wrong.append(f"{name} is {array.dtype}, not floating-point")
            continue
        value = _to_ours(array, path[-1])
        if value.shape != expected.shape:
            wrong.append(f"{name} has shape {list(array.shape)} (ours would be {list(expected.shape)})")
            continue
        with np.errstate(over="ignore"):  # beyond float32 is not finite, as the next line says
            value = value.astype(np.float32, order="C")
        if np.isfinite(value).all():
            values.append(place(value))
        else:
            wrong.append(f"{name} has numbers that are not finite")
    wrong += [f"{name} is unknown" for name in given if name not in wanted]
    head = timm_key(("head", "bias"), normalizer_free)
    is_head = wrong and all(line.startswith(head.removesuffix("bias")) for line in wrong)
    if is_head and head in given and np.ndim(given[head]) == 1 and len(given[head]) != model.num_classes:
        raise UserError(
            f"the weights have a head of {len(given[head])} classes, the model one of {model.num_classes}: create the "
            f"model with num_classes={len(given[head])}"
        )
    if wrong:
        listed = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
        if all(line.endswith("finite") for line in wrong):
            raise UserError(f"{listed}: its training failed, or the file is damaged; take other weights")
        raise UserError(f"the state dict does not fit the network: {listed}; check the network's name and num_classes")
    return jax.tree_util.tree_unflatten(tree, values)
