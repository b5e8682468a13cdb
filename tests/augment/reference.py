"""The two nets and all of their distortions in plain PyTorch, transcribed from the rules alone: layouts and names are
PyTorch's, loops are written out. Draws come in as NumPy arrays, those of the code under test."""

import numpy as np
import torch
from torch.nn import functional

from nofrost_jax.augment.deepaugment import weights

S = (0, 3, 6, 9)


def state_dict(network, seed=0):
    """A random state dict with the published names and shapes, float64; sizes that keep the signal alive."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.normal(size=shape) * (0.1 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5))
        for name, shape in weights.torch_shapes(network).items()
    }


def as_params(state):
    """The same as the project's parameters, float64, by another conversion. A part of it gives a part."""
    flat = {}
    for name, tensor in state.items():
        layer, _, part = name.rpartition(".")
        array = tensor.numpy()
        if part == "weight":
            transposed = layer in ("d_up_conv_1.3", "d_up_conv_2.3")
            array = np.einsum("iohw->hwio" if transposed else "oihw->hwio", array)
        flat.setdefault(layer, {})[{"weight": "kernel", "bias": "bias"}[part]] = array
    if "body.0.body.0" in flat:
        body = {
            part: np.array([[flat[f"body.{i}.body.{j}"][part] for j in (0, 2)] for i in range(16)])
            for part in ("kernel", "bias")
        }
        flat = {name: layer for name, layer in flat.items() if not name.startswith("body.") or name == "body.16"}
        flat["body"] = body
    return flat


def nchw(array):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(array, np.float64), -1, -3)))


def nhwc(tensor):
    return np.moveaxis(tensor.numpy(), -3, -1)


def oihw(array):
    """A kernel-shaped array HWIO as PyTorch has it."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(array, np.float64).transpose(3, 2, 0, 1)))


def edsr(state, images, signal=None):
    """images [N, 3, h, w] in 0..255. signal: draws of one image (N = 1)."""

    def conv(x, name):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def module(x, i):
        if i == 16:
            return conv(x, "body.16")
        return x + conv(torch.relu(conv(x, f"body.{i}.body.0")), f"body.{i}.body.2")

    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.float64).reshape(3, 1, 1)
    h = conv(images - mean, "head.0")
    if signal is not None:
        field = nchw(signal.field)
        if signal.pre == 1:
            for to, origin in signal.copies:
                h[:, to] = h[:, origin]
        elif signal.pre == 2:
            h = h * (field < 0.95)
        elif signal.pre == 3:
            h = h * torch.where(field < 0.025, -1.0, 1.0)
    if signal is not None and signal.body == 4:
        x = module(h, int(signal.survivor))
    else:
        x = h
        for i in range(17):
            x = module(x, i)
            if i == 4 and signal is not None:
                first = signal.variant < 1 / 3
                if signal.body == 1:
                    x = -x
                elif signal.body == 2:
                    x = torch.relu(x) if first else functional.gelu(x)
                elif signal.body == 3:
                    x = torch.flip(x, (1, 2) if first else (1, 3))
    x = x + h
    for name in ("tail.0.0", "tail.0.2"):
        x = functional.pixel_shuffle(conv(x, name), 2)
    return conv(x, "tail.1") + mean


def cae_encode(state, x):
    def conv(x, name, **options):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    for name in ("e_conv_1.1", "e_conv_2.1"):
        x = functional.leaky_relu(conv(functional.pad(x, (1, 2, 1, 2)), name, stride=2), 0.01)
    for i in (1, 2, 3):
        x = x + conv(functional.leaky_relu(conv(x, f"e_block_{i}.1", padding=1), 0.01), f"e_block_{i}.4", padding=1)
    return torch.tanh(conv(x, "e_conv_3.0", padding=2))


def cae_decode(state, encoded):
    def conv(x, name, **options):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def up(x, name):
        x = functional.pad(functional.leaky_relu(conv(x, f"{name}.0"), 0.01), (1, 1, 1, 1))
        return functional.conv_transpose2d(x, state[f"{name}.3.weight"], state[f"{name}.3.bias"], stride=2)

    x = up(2 * encoded - 1, "d_up_conv_1")
    for i in (1, 2, 3):
        x = x + conv(functional.leaky_relu(conv(x, f"d_block_{i}.1", padding=1), 0.01), f"d_block_{i}.4", padding=1)
    x = functional.leaky_relu(conv(up(x, "d_up_conv_2"), "d_up_conv_3.0"), 0.01)
    return torch.tanh(conv(functional.pad(x, (2, 2, 2, 2), mode="reflect"), "d_up_conv_3.3"))


def edit_edsr(state, edit):
    """E0 to E16 on a copy of the state dict."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    option, sparse = int(edit.option), S[edit.choices[0]]
    early, spread = (1, 4, 7)[edit.choices[1]], (1, 5, 9)[edit.choices[2]]

    def w(i, conv):
        return f"body.{i}.body.{(0, 2)[conv]}.weight"

    def b(i, conv):
        return f"body.{i}.body.{(0, 2)[conv]}.bias"

    if option == 0:
        for conv in (0, 1):
            state[w(sparse, conv)], state[b(sparse, conv)] = (state[name(sparse, conv)].flip(0) for name in (w, b))
    elif option == 1:
        state[w(early, 0)] *= -1
        state[b(early, 0)] *= -1
    elif option == 2:
        state[w(sparse, 0)] *= 0
        state[b(sparse, 0)] *= 0
    elif option == 3:
        for conv in (0, 1):
            state[w(sparse, conv)] = -functional.gelu(state[w(sparse, conv)])
    elif option in (4, 5):
        stencil = [[0, 1, 0], [1, -4, 1], [0, 1, 0]] if option == 4 else [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
        state[w(sparse, 0)] *= torch.tensor(stencil)
    elif option == 6:
        state[w(sparse, 1)] *= 1 + 4 * float(edit.amount) * oihw(edit.field[0])
    elif option == 7:
        state[w(sparse, 0)] = state[w(sparse, 0)].flip(3)
        state[w(sparse, 1)] *= -1
    elif option == 8:
        z = torch.zeros(64, 64, 3, 3, dtype=torch.float64)
        for j in range(64):
            z[:, j, edit.taps[j] // 3, edit.taps[j] % 3] = float(edit.signs[j])
        state[w(spread, 0)] = functional.conv2d(state[w(spread, 0)], z, padding=1)
    elif option == 9:
        z = (2 * float(edit.amount) * oihw(edit.field[0]) - 1) / 6
        state[w(sparse, 0)] = functional.conv2d(state[w(sparse, 0)], z, padding=1)
    elif option == 10:
        state[w(spread, 1)] = functional.conv2d(state[w(spread, 1)], oihw(edit.dirichlet), padding=1)
    elif option == 11:
        state[w(int(edit.blocks[0]), 1)] += oihw(edit.field[0]) - 0.5
    else:
        for t in range(5):
            i, conv = int(edit.blocks[t]), int(edit.second[t])
            if option == 12:
                axes = (0, 1) if edit.channel_axes[t] else (2, 3)
                state[w(i, conv)] = torch.rot90(state[w(i, conv)], int(edit.turns[t]), axes)
            elif option == 13:
                state[w(i, 0)] *= torch.where(oihw(edit.field[t]) < 0.5, 1.0, -1.0)
            elif option == 14:
                state[w(i, 0)] *= oihw(edit.field[t]) < 0.5
            elif option == 15:
                for k in set(edit.filters[t].tolist()):
                    state[w(i, 0)][k] *= -1
            else:
                flat = state[w(i, conv)].reshape(64, 64, 9)
                state[w(i, conv)] = (flat * (flat == flat.max(-1, keepdim=True).values)).reshape(64, 64, 3, 3)
    return state


CAE_LAYERS = (
    *("e_conv_1.1", "e_conv_2.1", "e_block_1.1", "e_block_1.4", "e_block_2.1", "e_block_2.4", "e_block_3.1"),
    *("e_block_3.4", "e_conv_3.0", "d_up_conv_1.0", "d_up_conv_1.3", "d_block_1.1", "d_block_1.4", "d_block_2.1"),
    *("d_block_2.4", "d_block_3.1", "d_block_3.4", "d_up_conv_2.0", "d_up_conv_2.3", "d_up_conv_3.0", "d_up_conv_3.3"),
)


def edit_cae(state, edit):
    """W0 to W8 on a copy of the state dict."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    option, number = int(edit.option), int(edit.layers[0])
    layer = CAE_LAYERS[number]
    weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
    n = len(weight)
    rows = [int(row) for row in np.floor(np.asarray(edit.rows, np.float32) * np.float32(n))]

    def field(which, tensor, number):
        flat = np.asarray(edit.fields[which], np.float64)[: tensor.numel()]
        first, second, height, width = tensor.shape  # the field fills HWIO
        if number == 10:
            return torch.from_numpy(flat.reshape(height, width, first, second).transpose(2, 3, 0, 1).copy())
        return torch.from_numpy(flat.reshape(height, width, second, first).transpose(3, 2, 0, 1).copy())

    if option == 0:
        state[f"{layer}.weight"], state[f"{layer}.bias"] = weight.flip(0), bias.flip(0)
    elif option == 1:
        for k in rows[:12]:
            weight[k] *= -1
            bias[k] *= -1
    elif option == 2:
        for k in rows[:25]:
            weight[k] = 0
            bias[k] = 0
    elif option == 3:
        for k in rows[:25]:
            weight[k] = -functional.gelu(weight[k])
            bias[k] = -functional.gelu(bias[k])
    elif option == 4:
        for which in (0, 1):
            number = int(edit.layers[which])
            tensor = state[f"{CAE_LAYERS[number]}.weight"]
            tensor *= 1 + 8 * float(edit.amounts[which]) * field(which, tensor, number)
    elif option == 5:
        half = field(0, weight, number) < 0.5
        weight *= torch.where(half, 1.0, -1.0) if edit.signs else half.double()
    elif option == 6:
        state[f"{layer}.weight"] = torch.rot90(weight, int(edit.turns), (2, 3))
    elif option == 7:
        for k in set(rows[: n // 5]):
            weight[k] *= -1
    else:
        flat = weight.flatten(2)
        state[f"{layer}.weight"] = (flat * (flat == flat.max(-1, keepdim=True).values)).reshape(weight.shape)
    return state


def distort_code(code, latent):
    """A0 to A8 and the binarisation of one code [32, h, w]."""
    option = int(latent.option)
    encoded = code.clone()
    if option == 1:
        encoded = code * (torch.from_numpy(latent.places) < 0.8)
    elif option == 2:
        encoded = code * torch.where(torch.from_numpy(latent.places) < 0.1, -1.0, 1.0)
    elif option == 3:
        for k in range(10):
            encoded[k] = code[int(latent.permutation[k])]
    elif option in (4, 5):
        axes = ((0,), (1,), (0, 1))[int(latent.flip)]
        for k in latent.channels.tolist() if option == 4 else range(32):
            encoded[k] = torch.flip(encoded[k], axes)
    elif option >= 6:
        kernel = torch.zeros(32, 32, 3, 3, dtype=torch.float64)
        for k in range(32):
            place = int(latent.shifts[k]) if option == 8 else 4
            kernel[k, k, place // 3, place % 3] = 1
        if option == 6:
            kernel += oihw(latent.mixing)
        elif option == 7:
            for k in range(32):
                if latent.present[k]:
                    kernel[k, int(latent.origins[k]), latent.taps[k] // 3, latent.taps[k] % 3] = 1
        encoded = functional.conv2d(code[None], kernel, padding=1)[0]
    encoded = (nchw(latent.threshold) <= (1 + encoded) / 2).double()
    if option == 0:
        encoded = encoded * (3 + 4 * float(latent.amount) * nchw(latent.field))
    return encoded
