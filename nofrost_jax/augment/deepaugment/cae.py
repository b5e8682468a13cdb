"""CAE (compressive autoencoder, after Theis et al., 2017): 32 binary channels at a quarter of the size, and back.

Parameters are {name: {"kernel", "bias"}} with the names of the published state dict. Kernels are HWIO, those of the
transposed convolutions (2, 2, in, out).
"""

import jax
import jax.numpy as jnp

from nofrost_jax.augment.deepaugment import distort_cae, layers
from nofrost_jax.augment.deepaugment.distort_cae import CHANNELS

SCALE = 4
SLOPE = 0.01
_BLOCKS = [f"{side}_block_{block}.{conv}" for side in "ed" for block in (1, 2, 3) for conv in (1, 4)]
#: Kernel shapes, in the order of the layers' numbers 0..20.
SHAPES = {
    "e_conv_1.1": (5, 5, 3, 64),
    "e_conv_2.1": (5, 5, 64, 128),
    **dict.fromkeys(_BLOCKS[:6], (3, 3, 128, 128)),
    "e_conv_3.0": (5, 5, 128, CHANNELS),
    "d_up_conv_1.0": (3, 3, CHANNELS, 64),
    "d_up_conv_1.3": (2, 2, 64, 128),
    **dict.fromkeys(_BLOCKS[6:], (3, 3, 128, 128)),
    "d_up_conv_2.0": (3, 3, 128, 32),
    "d_up_conv_2.3": (2, 2, 32, 256),
    "d_up_conv_3.0": (3, 3, 256, 16),
    "d_up_conv_3.3": (3, 3, 16, 3),
}


def _relu(x: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(x, SLOPE)


def _residual(x: jax.Array, params: dict, name: str) -> jax.Array:
    for block in (1, 2, 3):
        first, second = (params[f"{name}_block_{block}.{conv}"] for conv in (1, 4))
        x = x + layers.conv(_relu(layers.conv(x, first, 1)), second, 1)
    return x


def encode(params: dict, images: jax.Array) -> jax.Array:
    """Images in [0, 1] [N, H, W, 3] -> code in (-1, 1) [N, H // 2 // 2, W // 2 // 2, 32]."""
    x = _relu(layers.conv(images, params["e_conv_1.1"], (1, 2), 2))
    x = _relu(layers.conv(x, params["e_conv_2.1"], (1, 2), 2))
    return jnp.tanh(layers.conv(_residual(x, params, "e"), params["e_conv_3.0"], 2))


def decode(params: dict, encoded: jax.Array) -> jax.Array:
    """Bits (or distorted ones) [N, h, w, 32] -> image [N, 4 h, 4 w, 3] in (-1, 1), not clamped to [0, 1]."""
    x = _relu(layers.conv(2 * encoded - 1, params["d_up_conv_1.0"]))
    x = layers.transposed_conv_2x2(layers.pad(x, 1), params["d_up_conv_1.3"])
    x = _relu(layers.conv(_residual(x, params, "d"), params["d_up_conv_2.0"]))
    x = layers.transposed_conv_2x2(layers.pad(x, 1), params["d_up_conv_2.3"])
    x = _relu(layers.conv(x, params["d_up_conv_3.0"]))
    return jnp.tanh(layers.conv(layers.pad(x, 2, "reflect"), params["d_up_conv_3.3"]))


def forward(params: dict, images: jax.Array, latents: distort_cae.Latent) -> jax.Array:
    """Images in [0, 1] [N, H, W, 3] -> [N, 4 (H // 2 // 2), 4 (W // 2 // 2), 3], not clamped.

    latents: the distortion of each code and its binarisation, leading axis N; image by image, since their draws differ.
    """
    encoded = jax.lax.map(lambda pair: distort_cae.distort_latent(*pair), (encode(params, images), latents))
    return decode(params, encoded)
