"""DeepAugment inside a training step: an approximation of the original.

It works on the training crop, not on the whole image at 512 pixels; nothing is rounded to 8 bits or compressed as JPEG;
and the images of a group share a set of distorted weights, instead of runs of 20 images on average.
"""

import jax
import jax.numpy as jnp
from jax import lax

from nofrost_jax.augment.deepaugment import cae, distort_cae, distort_edsr, edsr
from nofrost_jax.keys import named

NETWORKS = ("edsr", "cae")
MULTIPLY_ADDS = {"edsr": 123_948, "cae": 354_000}  # for each pixel of the image
SMALLEST = 12  # pixels; the CAE's reflection needs a map of three


def distort(
    images: jax.Array,
    image_keys: jax.Array,
    params: dict,
    *,
    network: str = "edsr",
    group: int = 16,
    chosen: jax.Array | None = None,
) -> jax.Array:
    """Distorted images, in [0, 1]: float32 [N, H, W, 3] in [0, 1] -> the same shape; jit-able.

    EDSR sees the image at a quarter of its size and enlarges it; a side that 4 does not divide is rounded, and the
    result resized back. Groups run one after the other, so only the drawn distortion is computed, and a group without a
    chosen image costs nothing.

    image_keys: typed keys [N]. A group's weights depend on the key of its first image, all else on an image's own key.
    params: of the net, see `weights.load`. network: "edsr" or "cae". group: most images that share a set of distorted
    weights; groups have equal size. chosen: bool [N], the images to distort, or None for all; the others are
    returned as they are.
    """
    n, height, width, channels = images.shape
    if channels != 3 or image_keys.shape != (n,) or min(height, width) < SMALLEST:
        raise ValueError(
            f"deepaugment: images {images.shape} must be [N, H, W, 3] of {SMALLEST} pixels or more and keys "
            f"{image_keys.shape} [N]"
        )
    if network not in NETWORKS or group < 1:
        raise ValueError(f"deepaugment: network={network!r} must be one of {NETWORKS} and group={group} 1 or more")
    chosen = jnp.ones(n, bool) if chosen is None else chosen
    groups = -(-n // group)
    size = -(-n // groups)
    order = jnp.argsort(~chosen)  # stable: the chosen images first, so that few groups have one
    rows = order[jnp.arange(groups * size) % n]  # the last group is filled up with the first images

    def distorted(rows):
        keys = image_keys[rows]
        edited = distort_weights(network, params, keys[0])
        return transform(network, edited, images[rows], keys)

    def one(rows):
        return lax.cond(chosen[rows[0]], distorted, lambda rows: images[rows], rows)

    found = lax.map(one, rows.reshape(groups, size)).reshape(-1, height, width, 3)[:n]
    return jnp.where(chosen[:, None, None, None], images.at[order].set(found), images)


def distort_weights(network: str, params: dict, key: jax.Array) -> dict:
    """One set of distorted weights."""
    if network == "edsr":
        return distort_edsr.apply_edits(params, distort_edsr.draw_edits(key))
    return distort_cae.apply_edit(params, distort_cae.draw_edit(key))


def transform(network: str, params: dict, images: jax.Array, image_keys: jax.Array) -> jax.Array:
    """Images in [0, 1] through a net with the feed-forward or latent distortion of their own keys, clamped to [0, 1].

    The result has the shape of `images`.
    """
    n, height, width, _ = images.shape
    keys = named(image_keys, "deepaugment/image")
    if network == "edsr":
        small = (max(1, round(height / edsr.SCALE)), max(1, round(width / edsr.SCALE)))
        pixels = 255 * jax.image.resize(images, (n, *small, 3), "linear")
        signal = jax.vmap(lambda key: distort_edsr.draw_signal(key, *small))(keys)
        outputs = edsr.forward(params, pixels, signal) / 255
    else:
        code = (height // 2 // 2, width // 2 // 2)
        latents = jax.vmap(lambda key: distort_cae.draw_latent(key, *code))(keys)
        outputs = cae.forward(params, images, latents)
    return jnp.clip(jax.image.resize(jnp.clip(outputs, 0, 1), images.shape, "linear"), 0, 1)
