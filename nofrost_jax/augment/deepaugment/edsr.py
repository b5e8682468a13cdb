"""EDSR baseline x4 (Lim et al., 2017): super-resolution with 16 residual blocks, as DeepAugment uses it.

Parameters are {name: {"kernel", "bias"}} with the names of the published state dict; only the residual blocks are
stacked, as "body" (kernel [16, 2, 3, 3, 64, 64], bias [16, 2, 64]; axes: block, first or second convolution).
"""

import jax
import jax.numpy as jnp
from jax import lax

from nofrost_jax.augment.deepaugment import distort_edsr, layers
from nofrost_jax.augment.deepaugment.distort_edsr import BLOCKS, FEATURES

MEAN = (255 * 0.4488, 255 * 0.4371, 255 * 0.4040)  # of DIV2K, on the pixels' scale
SCALE = 4
#: Kernel shapes; "body" as it is stacked.
SHAPES = {
    "head.0": (3, 3, 3, FEATURES),
    "body": (BLOCKS, 2, 3, 3, FEATURES, FEATURES),
    "body.16": (3, 3, FEATURES, FEATURES),
    "tail.0.0": (3, 3, FEATURES, 4 * FEATURES),
    "tail.0.2": (3, 3, FEATURES, 4 * FEATURES),
    "tail.1": (3, 3, FEATURES, 3),
}


def forward(params: dict, pixels: jax.Array, signal: distort_edsr.Signal | None = None) -> jax.Array:
    """Images in 0..255 [N, h, w, 3] -> [N, 4 h, 4 w, 3] on the same scale, not clamped.

    signal: the feed-forward distortion, leading axis N, or None for none. All images share one pass over the blocks.
    """
    mean = jnp.asarray(MEAN, pixels.dtype)
    head = layers.conv(pixels - mean, params["head.0"], 1)
    if signal is not None:
        head = distort_edsr.distort_head(head, signal)
    # A net whose skipped modules leave only module s, applied to the head: there the map restarts from the head before
    # module s and is kept after it.
    chosen = jnp.full(len(pixels), -1) if signal is None else signal.survivor
    chosen = chosen[:, None, None, None]

    def block(carry, inputs):
        x, kept = carry
        index, block = inputs
        first, second = ({"kernel": block["kernel"][i], "bias": block["bias"][i]} for i in range(2))
        x = jnp.where(chosen == index, head, x)
        x = x + layers.conv(jax.nn.relu(layers.conv(x, first, 1)), second, 1)
        if signal is not None:
            x = distort_edsr.distort_body(x, signal, index)
        return (x, jnp.where(chosen == index, x, kept)), None

    (x, kept), _ = lax.scan(block, (head, head), (jnp.arange(BLOCKS), params["body"]))
    x = layers.conv(jnp.where(chosen == BLOCKS, head, x), params["body.16"], 1)
    x = jnp.where((chosen >= 0) & (chosen < BLOCKS), kept, x) + head
    for name in ("tail.0.0", "tail.0.2"):
        x = layers.pixel_shuffle(layers.conv(x, params[name], 1))
    return layers.conv(x, params["tail.1"], 1) + mean
