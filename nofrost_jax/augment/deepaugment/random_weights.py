"""Random parameters for both nets, without training: not the original.

Layers are initialized as in PyTorch, but their first channels pass the picture on: EDSR by nearest-neighbour
interpolation, the CAE by the mean of 4x4 pixels, dithered by its random bits. So one can see what the distortions do.
"""

import math

import numpy as np

from nofrost_jax.augment.deepaugment import cae, edsr

COLOURS = np.arange(3)
REST = 0.25  # share that is left of the random weights into the channels that carry the picture


def random_params(network: str, seed: int) -> dict:
    """Parameters, float32, of "edsr" or "cae"; a function of both arguments alone."""
    rng = np.random.default_rng([seed, *network.encode()])
    params = {}
    for name, shape in {"edsr": edsr, "cae": cae}[network].SHAPES.items():
        bound = math.prod(shape[-4:-1]) ** -0.5
        kernel, bias = (rng.uniform(-bound, bound, size) for size in (shape, (*shape[:-4], shape[-1])))
        params[name] = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    {"edsr": _carry_through_edsr, "cae": _carry_through_cae}[network](params)
    return params


def _carry(layer: dict, inputs: np.ndarray, outputs: np.ndarray, taps: dict, bias: float = 0.0) -> None:
    """Adds weights to some taps of the kernel, so that output channels carry input channels."""
    kernel, offset = layer["kernel"], layer["bias"]
    kernel[..., outputs] *= REST
    offset[outputs] = bias
    for tap, weight in taps.items():
        kernel[(*tap, inputs, outputs)] += weight


def _carry_through_edsr(params: dict) -> None:
    middle = {(1, 1): 1.0}
    _carry(params["head.0"], COLOURS, COLOURS, middle)
    for name in ("tail.0.0", "tail.0.2"):
        for place in range(4):  # of the pixel shuffle
            _carry(params[name], COLOURS, 4 * COLOURS + place, middle)
    _carry(params["tail.1"], COLOURS, COLOURS, middle)


def _carry_through_cae(params: dict) -> None:
    means = {(i, j): 0.25 for i in (1, 2) for j in (1, 2)}
    for name in ("e_conv_1.1", "e_conv_2.1"):
        _carry(params[name], COLOURS, COLOURS, means)
    bits = np.arange(cae.CHANNELS)
    _carry(params["e_conv_3.0"], bits % 3, bits, {(2, 2): 4.0}, -2.0)  # tanh of -2..2
    first = params["d_up_conv_1.0"]
    first["kernel"][..., COLOURS] *= REST
    first["bias"][COLOURS] = 1.0  # the mean of the bits, -1..1, as a positive number
    for colour in COLOURS:
        carriers = bits[bits % 3 == colour]
        first["kernel"][:, :, carriers, colour] += 1 / 16 / len(carriers)
        first["kernel"][1, 1, carriers, colour] += 7 / 16 / len(carriers)
    copies = {(i, j): 1.0 for i in (0, 1) for j in (0, 1)}
    for name in ("d_up_conv_1.3", "d_up_conv_2.3"):
        _carry(params[name], COLOURS, COLOURS, copies)
    for name in ("d_up_conv_2.0", "d_up_conv_3.0"):
        _carry(params[name], COLOURS, COLOURS, {(1, 1): 1.0})
    _carry(params["d_up_conv_3.3"], COLOURS, COLOURS, {(1, 1): 0.6})  # 0..2 to tanh of 0..1.2
