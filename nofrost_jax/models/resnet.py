"""ResNets (He et al., 2016) with the stride on the 3x3 convolution and an injected normalization."""

import functools
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn

from nofrost_jax.models import convolutions, initializers, layers
from nofrost_jax.models.blocks import BlockSpec, block_specs, make_divisible, recomputed


def make_norm(norm: str, group_size: int, running: str, axis_name: str | None, dtype: Any) -> Callable[..., nn.Module]:
    """A function of (name, scale_init) that makes the normalization "bn", "mbn" or "in"."""
    if norm == "in":
        return functools.partial(layers.InstanceNorm, dtype=dtype)
    batch_norm = functools.partial(
        layers.BatchNorm, group_size=group_size, running=running, axis_name=axis_name, dtype=dtype
    )
    return functools.partial(layers.MixtureBatchNorm, norm=batch_norm) if norm == "mbn" else batch_norm


class Bottleneck(nn.Module):
    """Post-activation bottleneck, [N, H, W, C] -> [N, H', W', features].

    bottleneck: channels inside, as a share of `features`. `norm(name=..., scale_init=...)` makes a normalization; the
    last one starts at scale 0 (Goyal et al., 2017).
    """

    spec: BlockSpec
    norm: Any
    bottleneck: float = 0.25
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, branch: str | layers.Mixture, image_keys: jax.Array | None
    ) -> jax.Array:
        features, stride = self.spec.features, self.spec.stride
        middle, conv = make_divisible(features * self.bottleneck), functools.partial(layers.Conv, dtype=self.dtype)
        out = conv(middle, 1, name="conv1")(x)
        out = layers.relu(self.norm(name="norm1")(out, train, branch))
        out = conv(middle, 3, stride, name="conv2")(out)
        out = layers.relu(self.norm(name="norm2")(out, train, branch))
        out = conv(features, 1, name="conv3")(out)
        out = self.norm(name="norm3", scale_init=initializers.zeros)(out, train, branch)
        if train and self.spec.drop_path > 0:
            out = layers.drop(out, self.spec.drop_path, image_keys, 1 + self.spec.index, whole=True)
        if stride > 1 or x.shape[-1] != features:
            x = conv(features, 1, stride, name="shortcut_conv")(x)
            x = self.norm(name="shortcut_norm")(x, train, branch)
        return layers.relu(out + x)


class ResNet(nn.Module):
    """A ResNet with normalization "bn", "mbn" or "in"; make it with `nofrost_jax.models.create`."""

    stage_sizes: tuple[int, ...]
    num_classes: int = 1000
    norm: str = "bn"
    stem: str = "imagenet"
    width: float = 1.0
    bottleneck: float = 0.25
    dropout: float = 0.0
    drop_path: float = 0.0
    bn_group_size: int = 0
    bn_running: str = "mean"
    axis_name: str | None = None
    remat: str = "none"
    dtype: Any = jnp.float32

    @property
    def has_batch_stats(self) -> bool:
        """Whether the variables hold running statistics, `batch_stats`."""
        return self.norm in ("bn", "mbn")

    @property
    def has_branches(self) -> bool:
        """Whether `branch` matters."""
        return self.norm == "mbn"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        branch: str | layers.Mixture = "clean",
        image_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Normalized images [N, H, W, 3] -> logits [N, num_classes], at least float32.

        `image_keys` [N], typed PRNG keys, are needed in train mode with dropout or drop path. Train mode with batch
        statistics needs `mutable=["batch_stats"]`. `branch` picks the normalizations of an "mbn" network: "clean",
        "adversarial", or in evaluation mode a `layers.Mixture` of both, with 2N images in and 2N rows of logits out.
        """
        layers.check_call(x, branch, train, train and max(self.dropout, self.drop_path) > 0, image_keys)
        small = self.stem == "small"
        stem_features = make_divisible(64 * self.width)
        x = layers.Conv(stem_features, 3 if small else 7, 1 if small else 2, dtype=self.dtype, name="stem")(x)
        norm = make_norm(self.norm, self.bn_group_size, self.bn_running, self.axis_name, self.dtype)
        x = layers.relu(norm(name="stem_norm")(x, train, branch))
        x = x if small else convolutions.max_pool(x)
        block = recomputed(Bottleneck, self.remat, train, static_argnums=(2, 3))
        for spec in block_specs(self.stage_sizes, self.width, self.drop_path):
            x = block(spec, norm, self.bottleneck, self.dtype, name=spec.name)(x, train, branch, image_keys)
        dtype = layers.accumulation_dtype(self.dtype)
        x = x.astype(dtype).mean((1, 2))
        if train and self.dropout > 0:
            x = layers.drop(x, self.dropout, image_keys, 0)
        uniform = initializers.symmetric_uniform(x.shape[-1] ** -0.5)  # as PyTorch's linear layer
        return nn.Dense(self.num_classes, dtype=dtype, kernel_init=uniform, bias_init=uniform, name="head")(x)

    def frozen(self, params: dict[str, Any]) -> dict[str, Any]:
        """`params` for many passes that do not change them: kernels are in `dtype`."""
        flat = flax.traverse_util.flatten_dict(params)
        cast = {path: leaf.astype(self.dtype) for path, leaf in flat.items() if leaf.ndim == 4}
        return flax.traverse_util.unflatten_dict(flat | cast)
