"""A small network twice, in JAX and in PyTorch, with the same weights, and images that it gets right but for a few.

Conv 3 -> 8 stride 2, activation, conv 8 -> 16 stride 2, activation, dense to 12 classes, on smooth 16 x 16 images with
some saturated pixels; normalization inside. Import it in a process with JAX_ENABLE_X64=1: everything is float64.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

CLASSES, SIZE = 12, 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ACTIVATIONS = {
    "relu": (jax.nn.relu, torch.nn.functional.relu),
    "silu": (jax.nn.silu, torch.nn.functional.silu),
}


class Row(NamedTuple):
    """One line of the certificate: the largest deviation of `what`, and the most that is allowed."""

    attack: str
    what: str
    deviation: float
    tolerance: float

    @property
    def ok(self):
        return bool(self.deviation <= self.tolerance)


@dataclasses.dataclass(frozen=True, eq=False)
class Fixture:
    """images NHWC [N, 16, 16, 3], labels [N] (the clean predictions, each tenth one changed), NumPy of one dtype."""

    images: np.ndarray
    labels: np.ndarray
    weights: dict
    activation: str

    def logits(self, images):
        """The JAX net: images NHWC in [0, 1] -> logits."""
        act, w = ACTIVATIONS[self.activation][0], self.weights
        x = (images - np.asarray(MEAN, images.dtype)) / np.asarray(STD, images.dtype)
        for name in ("conv1", "conv2"):
            kernel = jnp.asarray(w[name], images.dtype).transpose(2, 3, 1, 0)
            x = jax.lax.conv_general_dilated(
                x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = act(x + jnp.asarray(w[f"{name}_bias"], images.dtype))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        return x @ jnp.asarray(w["dense"], images.dtype).T + jnp.asarray(w["dense_bias"], images.dtype)

    @functools.cached_property
    def torch_net(self):
        """The PyTorch net: NCHW in [0, 1] -> logits, a Module in evaluation mode."""
        return _TorchNet(self.weights, ACTIVATIONS[self.activation][1], torch_of(self.images).dtype).eval()

    @property
    def torch_images(self):
        return torch_of(self.images)

    @property
    def torch_labels(self):
        return torch.from_numpy(self.labels.astype(np.int64))

    @property
    def keys(self):
        return jax.random.split(jax.random.key(0), len(self.images))


class _TorchNet(torch.nn.Module):
    def __init__(self, weights, act, dtype):
        super().__init__()
        for name, value in weights.items():
            self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(value).to(dtype), requires_grad=False))
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float64).to(dtype)[:, None, None])
        self.register_buffer("std", torch.tensor(STD, dtype=torch.float64).to(dtype)[:, None, None])
        self.act = act

    def forward(self, x):
        x = (x - self.mean) / self.std
        x = self.act(torch.nn.functional.conv2d(x, self.conv1, self.conv1_bias, stride=2, padding=1))
        x = self.act(torch.nn.functional.conv2d(x, self.conv2, self.conv2_bias, stride=2, padding=1))
        return torch.nn.functional.linear(x.flatten(1), self.dense, self.dense_bias)


def torch_of(images):
    """NHWC NumPy or JAX -> NCHW torch."""
    return torch.from_numpy(np.array(np.asarray(images).transpose(0, 3, 1, 2), order="C"))


def nhwc(images):
    """NCHW torch -> NHWC NumPy."""
    return images.detach().numpy().transpose(0, 2, 3, 1)


def make(count=48, activation="relu", dtype="float64", seed=0):
    """The Fixture; its net, images and labels follow from the arguments alone."""
    rng = np.random.default_rng(seed)
    weights = {
        "conv1": rng.normal(size=(8, 3, 3, 3)) * np.sqrt(2 / 27),
        "conv1_bias": 0.1 * rng.normal(size=8),
        "conv2": rng.normal(size=(16, 8, 3, 3)) * np.sqrt(2 / 72),
        "conv2_bias": 0.1 * rng.normal(size=16),
        "dense": rng.normal(size=(CLASSES, 16 * 4 * 4)) * np.sqrt(1 / 256),
        "dense_bias": 0.1 * rng.normal(size=CLASSES),
    }
    coarse = rng.uniform(-0.15, 1.15, size=(count, 5, 5, 3))
    smooth = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
    smooth = (smooth[:, :-1, :-1] + smooth[:, 1:, :-1] + smooth[:, :-1, 1:] + smooth[:, 1:, 1:]) / 4
    images = np.clip(smooth[:, 1 : SIZE + 1, 1 : SIZE + 1] + 0.02 * rng.normal(size=(count, SIZE, SIZE, 3)), 0, 1)
    bare = Fixture(images.astype(dtype), np.zeros(count, np.int32), weights, activation)
    labels = np.array(jnp.argmax(bare.logits(jnp.asarray(bare.images)), -1), np.int32)
    labels[::10] = (labels[::10] + 1) % CLASSES
    return dataclasses.replace(bare, labels=labels)
