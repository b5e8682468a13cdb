"""Normalizer-free ResNets (Brock et al., 2021), with the details of the networks that the paper trained.

Differences from the original description: the gamma of the ReLU is folded into every standardized kernel, the
shortcut of a strided block is an average pooling before its 1x1 convolution, and the residual branches start at zero
through the gains of their last convolutions rather than through one scalar.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from nofrost_jax.models import convolutions, initializers, layers
from nofrost_jax.models.blocks import BlockSpec, block_specs, make_divisible, recomputed
from nofrost_jax.models.standardized import WSConv, frozen

ALPHA = 0.2


def activation_scales(specs: list[BlockSpec]) -> list[float]:
    """beta of every block: one over its input's expected standard deviation at initialization.

    The shortcut convolution of a stage's first block resets the variance to 1; every block adds ALPHA^2.
    """
    scales, variance = [], 1.0
    for spec in specs:
        scales.append(variance**-0.5)
        variance = (1.0 if spec.opens_stage else variance) + ALPHA**2
    return scales


def conv_scales(beta: float) -> dict[str, tuple[float, float]]:
    """{convolution of a block: the constant factors of its input and of its result, which its kernel takes up}."""
    return {"shortcut": (beta, 1.0), "conv1": (beta, 1.0), "conv2": (1.0, 1.0), "conv3": (1.0, ALPHA)}


class NFBlock(nn.Module):
    """Pre-activation bottleneck x -> shortcut + ALPHA * f(beta * relu(x)), [N, H, W, C] -> [N, H', W', features]."""

    spec: BlockSpec
    beta: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, image_keys: jax.Array | None) -> jax.Array:
        features, stride = self.spec.features, self.spec.stride
        middle, scales = make_divisible(features * 0.25), conv_scales(self.beta)

        def conv(name, x, features, size, stride=1, gain_init=initializers.ones):
            before, after = scales[name]
            return WSConv(features, size, stride, gain_init, before, after, self.dtype, name=name)(x)

        out, shortcut = layers.relu(x), x
        if stride > 1 or x.shape[-1] != features:
            shortcut = conv("shortcut", layers.avg_pool_2x2(out) if stride > 1 else out, features, 1)
        out = layers.relu(conv("conv1", out, middle, 1))
        out = layers.relu(conv("conv2", out, middle, 3, stride))
        out = conv("conv3", out, features, 1, gain_init=initializers.zeros)
        if train and self.spec.drop_path > 0:
            out = layers.drop(out, self.spec.drop_path, image_keys, 1 + self.spec.index, whole=True)
        return out + shortcut


class NFResNet(nn.Module):
    """A normalizer-free ResNet; make it with `nofrost_jax.models.create`."""

    stage_sizes: tuple[int, ...]
    num_classes: int = 1000
    stem: str = "imagenet"
    width: float = 1.0
    dropout: float = 0.0
    drop_path: float = 0.0
    remat: str = "none"
    dtype: Any = jnp.float32

    has_batch_stats = False
    has_branches = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, branch: str = "clean", image_keys: jax.Array | None = None
    ) -> jax.Array:
        """Normalized images [N, H, W, 3] -> logits [N, num_classes], at least float32.

        `image_keys` [N], typed PRNG keys, are needed in train mode with dropout or drop path. `branch` has no effect.
        """
        layers.check_call(x, branch, train, train and max(self.dropout, self.drop_path) > 0, image_keys)
        small = self.stem == "small"
        stem_features = make_divisible(64 * self.width)
        x = WSConv(stem_features, 3 if small else 7, 1 if small else 2, dtype=self.dtype, name="stem")(x)
        x = x if small else convolutions.max_pool(x)
        block = recomputed(NFBlock, self.remat, train, static_argnums=(2,))
        specs = block_specs(self.stage_sizes, self.width, self.drop_path)
        for spec, beta in zip(specs, activation_scales(specs), strict=True):
            x = block(spec, beta, self.dtype, name=spec.name)(x, train, image_keys)
        dtype = layers.accumulation_dtype(self.dtype)
        x = layers.relu(x).astype(dtype).mean((1, 2))
        if train and self.dropout > 0:
            x = layers.drop(x, self.dropout, image_keys, 0)
        return nn.Dense(self.num_classes, dtype=dtype, kernel_init=initializers.normal(0.01), name="head")(x)

    def frozen(self, params: dict[str, Any]) -> dict[str, Any]:
        """`params` for many passes that do not change them: kernels are standardized and in `dtype`, without gains.

        XLA standardizes them anew in each turn of a loop on a GPU.
        """
        specs = block_specs(self.stage_sizes, self.width, self.drop_path)
        found = {**params, "stem": frozen(params["stem"], self.dtype)}
        for spec, beta in zip(specs, activation_scales(specs), strict=True):
            scales, block = conv_scales(beta), params[spec.name]
            found[spec.name] = {name: frozen(conv, self.dtype, *scales[name]) for name, conv in block.items()}
        return found
