"""Noise2Net (Hendrycks et al., 2021, with DeepAugment): every image goes through a random residual net of its own.

Four blocks x + epsilon * block(x) in the form of Res2Net (Gao et al., 2019; scale 4, width 16), fresh weights for every
image, instance statistics. It needs no published weights, and nothing is clipped afterwards. The original draws epsilon
for each batch and kernel sizes and dilations for each epoch; here all are drawn for each image. Biases before the
normalizations are left out, because instance statistics remove them exactly.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from nofrost_jax.keys import named

BLOCKS = 4
SCALE = 4  # groups of channels in a block; the last one is not changed
WIDTH = 16  # channels in a group
DILATIONS = 3  # of a 3x3 convolution: 1, 2 or 3
NORM_EPSILON = 1e-5
IMPLEMENTATIONS = ("map", "vmap")
MULTIPLY_ADDS = 29_184  # for each pixel, with 3x3 convolutions everywhere


class Network(NamedTuple):
    """The random numbers of one image; leading axis: the blocks. Kernels are HWIO.

    dilations int32 [4, 3]: of the 3x3 convolution of a group, 0 for a 1x1 convolution, which uses its middle only.
    """

    entry: jax.Array  # [4, 3, 64]
    kernels: jax.Array  # [4, 3, 3, 3, 16, 16]
    exit: jax.Array  # [4, 64, 3]
    dilations: jax.Array
    epsilon: jax.Array  # []


def apply(
    images: jax.Array,
    image_keys: jax.Array,
    *,
    maximum: float = 0.75,
    implementation: str | None = None,
    chosen: jax.Array | None = None,
) -> jax.Array:
    """Images through one random net each: float32 [N, H, W, 3] -> the same shape; jit-able.

    images: normalized by mean and standard deviation, as a classifier's net sees them. image_keys: typed keys [N]; an
    image's outcome depends on its own key alone. maximum: epsilon is uniform between half of this and this.
    implementation: "map" runs image by image and computes only the taps that a kernel has, "vmap" all images at once;
    None takes "map" on a CPU. They agree up to summation order. chosen: bool [N], the images to distort, or None for
    all; the others are returned as they are.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or image_keys.shape != images.shape[:1]:
        raise ValueError(f"noise2net: images {images.shape} must be [N, H, W, 3] and keys {image_keys.shape} [N]")
    implementation = implementation or ("map" if jax.default_backend() == "cpu" else "vmap")
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"noise2net: implementation={implementation!r} is not one of {IMPLEMENTATIONS}")
    # A switch over a batched index computes every branch; then one 7x7 kernel that holds them all is cheaper.
    convolve = _switched if implementation == "map" else _scattered

    def single(image, key):
        return transform(image, draw(key, maximum), convolve)

    chosen = jnp.ones(len(images), bool) if chosen is None else chosen
    if implementation == "map":
        rows = (chosen, images, image_keys)
        return lax.map(lambda row: lax.cond(row[0], single, lambda image, key: image, *row[1:]), rows)
    return jnp.where(chosen[:, None, None, None], jax.vmap(single)(images, image_keys), images)


def draw(key: jax.Array, maximum: float) -> Network:
    """The net of one typed key: weights uniform within 1 / sqrt(fan-in), PyTorch's default for a convolution."""

    def uniform(name, shape, fan_in):
        return jax.random.uniform(named(key, name), shape, jnp.float32, -1, 1) * fan_in**-0.5

    channels, groups = SCALE * WIDTH, SCALE - 1
    choices = jax.random.randint(named(key, "noise2net/dilations"), (BLOCKS, SCALE - 1), 0, 2 * DILATIONS, jnp.int32)
    dilations = jnp.maximum(choices - DILATIONS + 1, 0)  # kernel size 1 (here 0) or 3, each with probability 1/2
    fan_in = WIDTH * jnp.where(dilations == 0, 1.0, 9.0)[..., None, None, None, None]
    return Network(
        entry=uniform("noise2net/entry", (BLOCKS, 3, channels), 3.0),
        kernels=uniform("noise2net/kernels", (BLOCKS, groups, 3, 3, WIDTH, WIDTH), fan_in),
        exit=uniform("noise2net/exit", (BLOCKS, channels, 3), float(channels)),
        dilations=dilations,
        epsilon=jax.random.uniform(named(key, "noise2net/epsilon"), (), jnp.float32, maximum / 2, maximum),
    )


def transform(image: jax.Array, network: Network, convolve: Callable) -> jax.Array:
    """One image [H, W, 3] through its net, in the image's dtype."""
    network = jax.tree.map(lambda x: x if x.dtype == jnp.int32 else x.astype(image.dtype), network)

    def block(x, weights):
        entry, kernels, leave, dilations = weights
        *groups, untouched = jnp.split(_relu_norm(x @ entry), SCALE, axis=-1)
        outputs, previous = [], 0.0
        for group, kernel, dilation in zip(groups, kernels, dilations, strict=True):
            previous = _relu_norm(convolve(group + previous, kernel, dilation))
            outputs.append(previous)
        return x + network.epsilon * _norm(jnp.concatenate([*outputs, untouched], axis=-1) @ leave), None

    return lax.scan(block, image, network[:4])[0]


def _norm(x: jax.Array) -> jax.Array:
    """Each channel of x [H, W, C] to mean 0 and variance 1: batch normalization of one image, without parameters."""
    centred = x - x.mean((0, 1))
    return centred * lax.rsqrt(jnp.square(centred).mean((0, 1)) + NORM_EPSILON)


def _relu_norm(x: jax.Array) -> jax.Array:
    return jax.nn.relu(_norm(x))


def _switched(x: jax.Array, kernel: jax.Array, dilation: jax.Array) -> jax.Array:
    """Same-size convolution of x [H, W, I] as a matrix product of the existing taps; a branch for each dilation."""

    def dilated(dilation, x, kernel):
        height, width, _ = x.shape
        padded = jnp.pad(x, ((dilation, dilation), (dilation, dilation), (0, 0)))
        rows = [padded[i * dilation : i * dilation + height] for i in range(3)]
        taps = [row[:, j * dilation : j * dilation + width] for row in rows for j in range(3)]
        return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])

    branches = [functools.partial(dilated, dilation) for dilation in range(1, DILATIONS + 1)]
    return lax.switch(dilation, [lambda x, kernel: x @ kernel[1, 1], *branches], x, kernel)


def _scattered(x: jax.Array, kernel: jax.Array, dilation: jax.Array) -> jax.Array:
    """The same as one 7x7 convolution, the nine taps scattered over zeros."""
    reach = DILATIONS
    place = reach + dilation * jnp.arange(-1, 2)  # with dilation 0 all taps meet in the middle: one of them may count
    kernel = jnp.where((dilation > 0) | (jnp.arange(9).reshape(3, 3, 1, 1) == 4), kernel, 0)
    size = 2 * reach + 1
    wide = jnp.zeros((size, size, *kernel.shape[2:]), kernel.dtype).at[place[:, None], place[None, :]].add(kernel)
    return lax.conv_general_dilated(
        x[None], wide, (1, 1), [(reach, reach)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]
