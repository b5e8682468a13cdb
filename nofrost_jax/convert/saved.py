"""State dicts as they are saved: wrappers, prefixes, layers that normalize, copies. What remains is one net."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nofrost_jax.errors import UserError
from nofrost_jax.weights import torch_file

# Of DataParallel, of a wrapper with a normalizer, of torch.compile, of training scripts; in any order.
_PREFIXES = re.compile(r"^(?:(?:module|model|_orig_mod|net)\.)+")
_COPY = "attacker."  # robustness saves the net a second time below its attacker
_COUNTER = "num_batches_tracked"
_NORMALIZES = re.compile(r"(?:^|\.)(?:new_)?(mean|std)$")


class State(NamedTuple):
    """A net's tensors by name, and the mean and std of the layer that normalizes its images, if the file has one."""

    weights: dict[str, Any]
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None


def cleaned(state: Mapping[str, Any]) -> State:
    """The net in a state dict, or in a dictionary around one.

    Raises UserError for two different tensors of one name, and for layers that normalize in different ways.
    """
    weights, found = {}, {"mean": {}, "std": {}}
    for name, value in torch_file.unwrapped(state).items():
        short = _PREFIXES.sub("", name)
        normalizes = _NORMALIZES.search(short)
        if normalizes and math.prod(value.shape) == 3:
            found[normalizes[1]][tuple(map(_shortest, array(value).ravel()))] = name
        elif not short.startswith(_COPY) and not short.endswith(_COUNTER):
            if short in weights and not np.array_equal(array(weights[short]), array(value)):
                raise UserError(f"the state dict has two different tensors {short}; save the state dict of one net")
            weights[short] = value
    for values in found.values():
        if len(values) > 1:
            names = " and ".join(list(values.values())[:2])
            raise UserError(f"{names} normalize the images in different ways; save the state dict of one net")
    (mean,), (std,) = (list(found[name]) or [None] for name in ("mean", "std"))
    return State(weights, (mean, std) if mean and std and len(mean) == len(std) == 3 else None)


def array(value: Any) -> np.ndarray:
    """An array, or a PyTorch tensor on any device, as one that NumPy can convert."""
    return value.detach().cpu().float().numpy() if hasattr(value, "detach") else np.asarray(value)


def _shortest(value: Any) -> float:
    """A float32 as the decimal number that someone wrote: 0.485, not 0.48500001."""
    return float(str(np.float32(value)))
