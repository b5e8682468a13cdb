"""Layers that the networks share: convolutions, pooling, normalizations and per-image regularization.

Feature maps are [N, H, W, C], kernels HWIO, padding symmetric. Parameters and statistics are float32; layers compute in
their `dtype`, statistics and standardization in float32 at least. Convolutions follow `jax_default_matmul_precision`.
"""

import dataclasses
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from nofrost_jax.errors import UserError
from nofrost_jax.models import convolutions, initializers

BRANCHES = ("clean", "adversarial")
EPSILON, MOMENTUM = 1e-5, 0.1  # of every normalization; MOMENTUM weighs the new running statistics, as in PyTorch


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity: `weights` may be tracers
class Mixture:
    """Both branches of a mixture-BN net at once, in place of one `branch`; evaluation mode only (paper, Appendix A).

    The images come as 2N rows, first the clean branch's, then the adversarial branch's. A layer whose path is in
    `mixed`, names joined by "/", replaces both halves by their weighted sum. weights: floats or traced scalars.
    """

    weights: tuple[float | jax.Array, float | jax.Array]
    mixed: frozenset[str] = frozenset()

    def sum(self, clean: jax.Array, adversarial: jax.Array) -> jax.Array:
        """The weighted sum of both branches' values, in their dtype."""
        first, second = (jnp.asarray(weight, clean.dtype) for weight in self.weights)
        return first * clean + second * adversarial


def accumulation_dtype(dtype: Any) -> jnp.dtype:
    """float32, or float64 where the computation is in float64."""
    return jnp.promote_types(jnp.float32, dtype)


def avg_pool_2x2(x: jax.Array) -> jax.Array:
    """Mean over 2x2 windows of x [N, H, W, C] with stride 2; at an odd border, over the elements that exist."""
    n, height, width, channels = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    x = jnp.pad(x, ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)))
    total = x.reshape(n, rows, 2, columns, 2, channels).sum((2, 4))
    in_row, in_column = (np.minimum(2, length - 2 * np.arange((length + 1) // 2)) for length in (height, width))
    return total * (1.0 / np.outer(in_row, in_column)[None, :, :, None]).astype(x.dtype)


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0); its gradient at 0 is 0.

    The gradient asks for the result, which the next layer keeps anyway, and not for x: a GPU's convolution can then end
    with the ReLU and write one map instead of two. (It asks != 0: XLA makes x > 0 of max(x, 0) > 0.)
    """
    return jnp.maximum(x, 0)


relu.defjvps(lambda tangent, result, x: jnp.where(result != 0, tangent, 0))


class Conv(nn.Module):
    """Convolution without bias, padding size // 2; He initialization by fan-out, as ResNets use it."""

    features: int
    size: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", initializers.he_normal_fan_out, shape, jnp.float32)
        return convolutions.conv2d(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.size // 2)


class BatchNorm(nn.Module):
    """Batch normalization over groups of `group_size` consecutive images of the global batch; 0 = one group of all.

    Under a mapped axis `axis_name` the images are one shard of the global batch, and the output does not depend on the
    number of shards. Train mode updates the running statistics (`batch_stats`, mutable) with the unbiased variance, as
    PyTorch does: by the "mean" over the shard's groups or by its "first" group (`running`). `shared_statistics` makes
    one of all shards', for all layers at once.
    """

    group_size: int = 0
    running: str = "mean"
    axis_name: str | None = None
    scale_init: Any = initializers.ones
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, branch: str = "clean") -> jax.Array:
        features = x.shape[-1]
        scale = self.param("scale", self.scale_init, (features,), jnp.float32)
        bias = self.param("bias", initializers.zeros, (features,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", np.zeros, (features,), np.float32)
        running_var = self.variable("batch_stats", "var", np.ones, (features,), np.float32)
        if self.is_initializing():
            return x
        dtype = accumulation_dtype(self.dtype)
        grouped, mean, var = x.astype(dtype)[None], running_mean.value.astype(dtype), running_var.value.astype(dtype)
        if train:
            grouped, mean, var, count = group_statistics(grouped[0], self.group_size, self.axis_name)
            new = jnp.stack([mean, var * (count / (count - 1))], axis=-2).reshape(-1, 2, features)
            new = lax.stop_gradient(new.mean(0) if self.running == "mean" else new[0]).astype(jnp.float32)
            running_mean.value += MOMENTUM * (new[0] - running_mean.value)
            running_var.value += MOMENTUM * (new[1] - running_var.value)
        y = (grouped - mean) * (lax.rsqrt(var + EPSILON) * scale) + bias
        return y.reshape(x.shape).astype(self.dtype)


def shared_statistics(stats: Any, running: str, axis_name: str) -> Any:
    """The running statistics of the global batch, on every shard of the mapped axis, from those of the shards: their
    mean, or with `running="first"` the first shard's. One array of all is exchanged: XLA would not join so many."""
    if not stats:
        return stats
    flat, unflatten = jax.flatten_util.ravel_pytree(stats)
    if running == "first":
        return unflatten(lax.psum(jnp.where(lax.axis_index(axis_name) == 0, flat, 0), axis_name))
    return unflatten(lax.pmean(flat, axis_name))


def group_span(group_size: int, shard: int, shards: int) -> int:
    """How many of `shards` devices, with `shard` images each, one group of batch norm spans. Raises UserError if groups
    do not fit the batch."""
    if (shard * shards) % group_size or (shard % group_size and group_size % shard):
        raise UserError(
            f"bn_group_size={group_size} must divide the batch of {shard * shards} images, and divide or be a multiple "
            f"of a device's {shard}; or make all images one group: 0, in a config global"
        )
    return max(1, group_size // shard)


def group_statistics(x: jax.Array, group_size: int, axis_name: str | None) -> tuple[Any, Any, Any, int]:
    """(x as [groups, N / groups, H, W, C], its mean and biased variance, both [groups, 1, 1, 1, C], and how many values
    are behind each) of x [N, H, W, C]. Raises UserError for groups that do not fit, or have one value per channel."""
    n, height, width, features = x.shape
    shards = 1 if axis_name is None else lax.axis_size(axis_name)
    group_size = group_size or n * shards
    span = group_span(group_size, n, shards)
    count = group_size * height * width
    if count < 2:
        raise UserError("batch normalization of one value per channel; use larger images, batches or bn_group_size")

    members = None if span == shards else [list(range(first, first + span)) for first in range(0, shards, span)]

    def average(values):
        values = values.mean((1, 2, 3), keepdims=True)
        return values if span == 1 else lax.pmean(values, axis_name, axis_index_groups=members)

    grouped = x.reshape(max(1, n // group_size), -1, height, width, features)
    mean = average(grouped)
    return grouped, mean, average(jnp.square(grouped - mean)), count


class MixtureBatchNorm(nn.Module):
    """Two batch normalizations with their own statistics, scale and bias (Xie & Yuille, 2020). branch: the one to use,
    or a `Mixture` of both. norm: `norm(name=..., scale_init=...)` makes one of them."""

    norm: Any
    scale_init: Any = initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, branch: str | Mixture = "clean") -> jax.Array:
        norms = {name: self.norm(name=name, scale_init=self.scale_init) for name in BRANCHES}
        if self.is_initializing():
            for norm in norms.values():  # make the variables of both
                norm(x, train)
        if isinstance(branch, str):
            return norms[branch](x, train)
        clean, adversarial = (norms[name](half, train) for name, half in zip(BRANCHES, jnp.split(x, 2), strict=True))
        if "/".join(self.path) in branch.mixed:
            clean = adversarial = branch.sum(clean, adversarial)
        return jnp.concatenate([clean, adversarial])


class InstanceNorm(nn.Module):
    """Normalization of each image's channels over their pixels, with learned scale and bias (Ulyanov et al., 2016)."""

    scale_init: Any = initializers.ones
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, branch: str = "clean") -> jax.Array:
        scale = self.param("scale", self.scale_init, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", initializers.zeros, (x.shape[-1],), jnp.float32)
        if self.is_initializing():
            return x
        if x.shape[1] * x.shape[2] == 1:
            raise UserError("instance normalization of a 1x1 map erases the image; use larger images or fewer stages")
        values = x.astype(accumulation_dtype(self.dtype))
        centred = values - values.mean((1, 2), keepdims=True)
        var = jnp.square(centred).mean((1, 2), keepdims=True)
        return (centred * (lax.rsqrt(var + EPSILON) * scale) + bias).astype(self.dtype)


def check_call(
    x: jax.Array, branch: str | Mixture, train: bool, needs_keys: bool, image_keys: jax.Array | None
) -> None:
    """Raises ValueError for images, a branch or keys that a network cannot use."""
    if x.ndim != 4 or x.shape[-1] != 3:
        raise ValueError(f"a network takes images [N, H, W, 3], got {x.shape}")
    if isinstance(branch, Mixture):
        if train or x.shape[0] % 2:
            raise ValueError(f"a Mixture takes 2N images in evaluation mode, got {x.shape[0]} with train={train}")
    elif branch not in BRANCHES:
        raise ValueError(f"branch={branch!r} is unknown; choose one of {BRANCHES}")
    if needs_keys and (image_keys is None or image_keys.shape != x.shape[:1]):
        given = None if image_keys is None else image_keys.shape
        raise ValueError(f"dropout and drop path need image_keys, a typed PRNG key per image [{len(x)}], got {given}")


def drop(x: jax.Array, rate: float, image_keys: jax.Array | None, layer: int, whole: bool = False) -> jax.Array:
    """Inverted dropout of x [N, ...]: single values, or with `whole` whole images (drop path; Huang et al., 2016).
    An image's mask depends on its own key and on `layer` alone."""
    assert image_keys is not None  # `check_call` has refused a call without

    def keep(key):
        shape = () if whole else x.shape[1:]
        return jax.random.bernoulli(jax.random.fold_in(key, layer), jnp.float32(1.0 - rate), shape)

    mask = jax.vmap(keep)(image_keys)
    mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    return jnp.where(mask, x / (1.0 - rate), 0.0).astype(x.dtype)
