"""Operations of the two nets: maps are [N, H, W, C], kernels HWIO, a layer is {"kernel", "bias"}.

The convolution is XLA's own, on a CPU too: on maps this large it is the fastest.
"""

import jax
import jax.numpy as jnp
from jax import lax


def conv(x: jax.Array, layer: dict, padding: tuple[int, int] | int = 0, stride: int = 1) -> jax.Array:
    """Convolution with bias; padding: zeros (before, after) in both directions, or the same number on all sides."""
    padding = (padding, padding) if isinstance(padding, int) else padding
    x = lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), [padding] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return x + layer["bias"]


def transposed_conv_2x2(x: jax.Array, layer: dict) -> jax.Array:
    """Transposed 2x2 convolution with stride 2: every pixel becomes a 2x2 block, blocks do not overlap."""
    n, height, width, _ = x.shape
    blocks = jnp.einsum("nhwi,yxio->nhywxo", x, layer["kernel"])
    return blocks.reshape(n, 2 * height, 2 * width, -1) + layer["bias"]


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """[N, H, W, 4 C] -> [N, 2 H, 2 W, C]; channel c * 4 + dy * 2 + dx goes to channel c of the pixel (dy, dx)."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, channels // 4, 2, 2)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * height, 2 * width, channels // 4)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, by erf."""
    return jax.nn.gelu(x, approximate=False)


def pad(x: jax.Array, width: int, mode: str = "constant") -> jax.Array:
    """Pads height and width on both sides, with zeros or by mode "reflect"."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)), mode=mode)


def largest_tap(kernel: jax.Array) -> jax.Array:
    """Keeps the largest element (with its sign: the greatest) of every slice over the two first axes."""
    flat = kernel.reshape(-1, *kernel.shape[2:])
    return jnp.where(jnp.arange(len(flat))[:, None, None] == flat.argmax(0), flat, 0).reshape(kernel.shape)
