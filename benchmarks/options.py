"""Other ways to compute the attack of a training step: what `gpu_program.py` predicts and the queue's task measures.

Each of OPTIONS replaces something of the package while the program is traced, or sets a flag of the compiler; what wins
on a device belongs into the package. "as it is" is the package's own way.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from nofrost_jax import attacks
from nofrost_jax.classifier import create_model, to_float
from nofrost_jax.methods.base import frozen_classifier
from nofrost_jax.models import convolutions, layers, nf_resnet

CONV2D, MAX_POOL = convolutions.conv2d, convolutions.max_pool


@dataclasses.dataclass(frozen=True)
class Option:
    """replaced: ((object, name, value), ...). flags: of XLA, for this program."""

    replaced: tuple = ()
    flags: tuple = ()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for where, name, value in self.replaced:
                stack.enter_context(mock.patch.object(where, name, value))
            yield


def products(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """`convolutions.conv2d` with 1x1 convolutions as matrix products, into which XLA can fuse what is around them."""
    if kernel.shape[0] > 1:
        return CONV2D(x, kernel, stride, padding, "xla")
    return lax.dot_general(x[:, ::stride, ::stride], kernel[0, 0], (((3,), (0,)), ((), ())))


def deep_stem(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """`convolutions.conv2d` with the 7x7 stem of stride 2 as a 4x4 one on blocks of 2x2 pixels: 12 channels."""
    if (kernel.shape[0], stride) != (7, 2):
        return CONV2D(x, kernel, stride, padding, "xla")
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, height // 2, width // 2, 4 * channels)
    # Output i sees rows 2i - 3 to 2i + 3: with a row of zeros before them, pairs i - 2 to i + 1.
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0))).reshape(4, 2, 4, 2, channels, -1)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 4 * channels, -1)
    return lax.conv_general_dilated(x, kernel, (1, 1), [(2, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def sliced_pool(x: jax.Array) -> jax.Array:
    return MAX_POOL(x, implementation="slices")


OPTIONS = {
    "as it is": Option(),
    "1x1 convolutions as products": Option(((convolutions, "conv2d", products),)),
    "max pool by slices": Option(((convolutions, "max_pool", sliced_pool),)),
    "stem on 12 channels": Option(((convolutions, "conv2d", deep_stem),)),
    "kernels standardized in each step": Option(((nf_resnet.NFResNet, "frozen", lambda net, params: params),)),
    "ReLU keeps its argument": Option(((layers, "relu", nn.relu),)),
    "no command buffers": Option(flags=(("xla_gpu_enable_command_buffer", ""),)),
    "no Triton products": Option(flags=(("xla_gpu_enable_triton_gemm", "false"),)),
}


def attack_program(config: Any) -> Callable:
    """`f(params, statistics, uint8 images, labels, keys) -> adversarial images` of a training step's attack."""
    model, attack = create_model(config.model), attacks.create(**config.attack)

    def program(params, stats, images, labels, image_keys):
        target = frozen_classifier(model, config, params, stats)
        return attack(target, to_float(images), labels, image_keys).images

    return program


def gradient_program(config: Any) -> Callable:
    """The same of one input gradient alone, at parameters that are frozen beforehand."""
    model = create_model(config.model)

    def program(params, stats, images, labels):
        with mock.patch.object(type(model), "frozen", lambda net, params: params):
            target = frozen_classifier(model, config, params, stats)
        return attacks.base.evaluate(target, lambda logits: attacks.losses.cross_entropy(logits, labels), images)[2]

    return program
