"""Parameters of the two nets: from the published PyTorch files, or random.

The published files are `edsr_baseline_x4.pt` (EDSR-PyTorch) and `model_final.state` (the CAE), both in the paper's
repository (hendrycks/imagenet-r, folders EDSR_Weights and CAE_Weights). The layers' names show which net a file is of.
"""

import os

import numpy as np

from nofrost_jax import files
from nofrost_jax.augment.deepaugment import cae, edsr, random_weights
from nofrost_jax.errors import UserError
from nofrost_jax.weights import torch_file

NETWORKS = {"edsr": edsr, "cae": cae}
TRANSPOSED = ("d_up_conv_1.3", "d_up_conv_2.3")
_IGNORED = ("sub_mean.", "add_mean.")  # EDSR's mean, which is a constant here
_MARKS = {"edsr": "head.0", "cae": "e_conv_1.1"}  # a layer that only this net has
WHERE = "the files are in the folders EDSR_Weights and CAE_Weights of github.com/hendrycks/imagenet-r"
RANDOM = "random:"  # as a file name: a seed follows


def load(text: str, networks: tuple[str, ...]) -> dict[str, dict]:
    """{network: parameters} for `--weights=...`: files, with commas, or "random:SEED". Raises UserError for a network
    without weights, see also `read`."""
    found = {}
    for item in filter(None, text.split(",")):
        if item.startswith(RANDOM):
            seed = item.removeprefix(RANDOM)
            if not seed.isdecimal():
                raise UserError(f"--weights={item}: the seed must be a whole number, e.g. --weights=random:0")
            found = {network: random_weights.random_params(network, int(seed)) for network in networks} | found
        else:
            network, params = read(item)
            found[network] = params
    missing = [network for network in networks if network not in found]
    if missing:
        raise UserError(
            f"no weights for {missing[0]}; --weights={text}; give its file (edsr_baseline_x4.pt or "
            "model_final.state; both with a comma between them), or random:SEED, which is not the original; "
            f"{WHERE}"
        )
    return {network: found[network] for network in networks}


def read(path: str) -> tuple[str, dict]:
    """(network, parameters, float32) of a published file.

    Raises UserError if it is missing or another file, a kernel is all zero, or a number is not finite.
    """
    path = os.path.expanduser(path)
    state = torch_file.read(path)
    for prefix in ("module.", "model."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): array for name, array in state.items()}
    network = _network({name.removesuffix(".weight") for name in state}, path)
    params = from_state_dict(network, state, path)
    check_numbers(network, params, path)
    return network, params


def from_state_dict(network: str, state: dict[str, np.ndarray], where: str = "state dict") -> dict:
    """Parameters from a PyTorch state dict of arrays: OIHW to HWIO. Raises UserError: a name or a shape is wrong."""
    state = {name: array for name, array in state.items() if not name.startswith(_IGNORED)}
    expected = torch_shapes(network)
    _check({name: array.shape for name, array in state.items()}, expected, network, where)
    layers = {}
    for name in {name.rpartition(".")[0]: None for name in expected}:
        axes = (2, 3, 0, 1) if name in TRANSPOSED else (2, 3, 1, 0)
        kernel = state[f"{name}.weight"].astype(np.float32).transpose(axes)
        layers[name] = {"kernel": np.ascontiguousarray(kernel), "bias": state[f"{name}.bias"].astype(np.float32)}
    if network == "edsr":
        blocks = [[layers.pop(f"body.{i}.body.{j}") for j in (0, 2)] for i in range(edsr.BLOCKS)]
        layers["body"] = {
            part: np.stack([np.stack([conv[part] for conv in block]) for block in blocks])
            for part in ("kernel", "bias")
        }
    return {name: layers[name] for name in NETWORKS[network].SHAPES}


def torch_shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict, without those that are constants here."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in NETWORKS[network].SHAPES.items():
        height, width, inputs, outputs = shape[-4:]
        pair = (inputs, outputs) if name in TRANSPOSED else (outputs, inputs)
        names = [name]
        if len(shape) > 4:
            names = [f"{name}.{i}.body.{j}" for i in range(shape[0]) for j in (0, 2)]
        for layer in names:
            shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = (*pair, height, width), (outputs,)
    return shapes


def digest(params: dict) -> str:
    """SHA-256 of all parameters."""
    return files.sha256(*(params[name][part] for name in sorted(params) for part in ("kernel", "bias")))


def _network(layers: set[str], path: str) -> str:
    for network, mark in _MARKS.items():
        if mark in layers:
            return network
    raise UserError(
        f"these are the weights of another net, neither EDSR nor the CAE; {path}; "
        "take edsr_baseline_x4.pt or model_final.state"
    )


def _check(shapes: dict, expected: dict, network: str, where: str) -> None:
    wrong = [name for name in expected if shapes.get(name) != expected[name]]
    wrong += [name for name in shapes if name not in expected]
    if wrong:
        name = wrong[0]
        has, wants = (list(each[name]) if name in each else "nothing" for each in (shapes, expected))
        raise UserError(
            f"{name} is {has}, {network} has {wants} there; {where}; "
            "take the published file (a baseline x4 EDSR, or the 32-channel CAE)"
        )


def check_numbers(network: str, params: dict, path: str) -> None:
    """Raises UserError for what a trained net does not contain. (The published files' hashes are not known.)"""
    wrong = []
    for name, layer in params.items():
        for part, array in layer.items():
            axes = tuple(range(array.ndim - 4, array.ndim))  # a kernel's own, not those of EDSR's stack
            if not np.isfinite(array).all():
                wrong.append(f"numbers in the {part} of {name} that are not finite")
            elif part == "kernel" and not np.any(array, axes).all():
                wrong.append(f"nothing but zeros in the {part} of {name}")
    if wrong:
        raise UserError(f"{wrong[0]}, which trained weights of {network} do not have; {path}; take the published file")
