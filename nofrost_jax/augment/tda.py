"""TDA, texture-debiased augmentation (Hermann et al., 2020), on the device: its colours. The data pipeline crops.

As in the code of NoFrost's authors: a crop of 64 to 100 % of the area and a flip, then, for half of the images,
SimCLR's colour distortion (Chen et al., 2020) at strength 1: brightness, contrast, saturation and hue in a random order
for 80 % of these, grey for 20 %. The operations are PIL's and torchvision's, without their rounding to 8 bits.

Hermann et al. also use noise and blur, which NoFrost's authors leave out: `noise` and `blur`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from nofrost_jax import keys

DISTORTED, JITTERED, GREYED = 0.5, 0.8, 0.2  # probabilities; the last two are of distorted images
FACTORS = (0.2, 1.8)  # of brightness, contrast and saturation
HUE = 0.2  # greatest turn of the colour wheel, of a whole one
BRIGHTNESS, CONTRAST, SATURATION, TURN = range(4)
LUMA = (0.299, 0.587, 0.114)
SOFTENED = 0.5  # probability of blur, and of noise, where they are on
LEAST_SIGMA = 0.1


def draw(image_keys: jax.Array, dtype: DTypeLike = jnp.float32) -> dict[str, jax.Array]:
    """The decisions for N images, each from its own key: a dict of arrays [N, ...].

    `jitter`, `grey`: bool. `order`: int [N, 4], which of brightness, contrast, saturation and turn (0, 1, 2, 3) is
    first, second, ... `factors` [N, 3]: of the first three. `hue` [N]: share of the colour wheel.
    """

    def one(key):
        shares = jax.random.uniform(keys.named(key, "probabilities"), (3,), dtype)
        distorted = shares[0] < DISTORTED
        return {
            "jitter": distorted & (shares[1] < JITTERED),
            "grey": distorted & (shares[2] < GREYED),
            "order": jax.random.permutation(keys.named(key, "order"), 4),
            "factors": jax.random.uniform(keys.named(key, "factors"), (3,), dtype, *FACTORS),
            "hue": jax.random.uniform(keys.named(key, "hue"), (), dtype, -HUE, HUE),
        }

    return jax.vmap(one)(image_keys)


def colours(images: jax.Array, image_keys: jax.Array) -> jax.Array:
    """Half of the images [N, H, W, 3] in [0, 1] with distorted colours; an image depends on its own key alone."""
    return distort(images, draw(image_keys, images.dtype))


def distort(images: jax.Array, draws: dict[str, jax.Array]) -> jax.Array:
    """Images [N, H, W, 3] in [0, 1] after what `draw` decided; the others stay the same, bit for bit."""
    jittered = jitter(images, draws["order"], draws["factors"], draws["hue"])
    images = jnp.where(_spread(draws["jitter"]), jittered, images)
    return jnp.where(_spread(draws["grey"]), luma(images), images)


def jitter(images: jax.Array, order: jax.Array, factors: jax.Array, hue: jax.Array) -> jax.Array:
    """Each image's four operations in its own order, int [N, 4]; clipped to [0, 1] after each.

    Hue is the expensive one, so it is computed once: after as many of the other three as come before it, and before the
    rest. With a branch for each place and operation, all sixteen would be computed for every image.
    """
    place = jnp.argmax(order == TURN, axis=1)
    # The other three in their order: a stable sort that puts the turn last.
    blends = jnp.take_along_axis(order, jnp.argsort(order == TURN, axis=1, stable=True), axis=1)[:, :3]
    factors = jnp.take_along_axis(factors, blends, axis=1)
    for number in range(3):
        images = _blend(images, blends[:, number], factors[:, number], number < place)
    images = turn_hue(images, hue)
    for number in range(3):
        images = _blend(images, blends[:, number], factors[:, number], number >= place)
    return images


def _blend(images: jax.Array, operation: jax.Array, factors: jax.Array, active: jax.Array) -> jax.Array:
    """Brightness, contrast or saturation: away from black, from the mean luma or from each pixel's luma by a factor."""
    grey = luma(images)
    mean = jnp.mean(grey, axis=(1, 2, 3), keepdims=True)
    anchor = jnp.where(_spread(operation == CONTRAST), mean, jnp.where(_spread(operation == SATURATION), grey, 0))
    changed = jnp.clip(anchor + (images - anchor) * _spread(factors), 0, 1)
    return jnp.where(_spread(active), changed, images)


def luma(images: jax.Array) -> jax.Array:
    """[N, H, W, 1] of RGB images, by PIL's weights (ITU-R 601)."""
    return jnp.sum(images * jnp.asarray(LUMA, images.dtype), axis=-1, keepdims=True)


def turn_hue(images: jax.Array, turns: jax.Array) -> jax.Array:
    """Images [N, H, W, 3] in [0, 1] with the hue of HSV moved by `turns` [N], 1 being once around the colour wheel.

    Saturation and value stay. This equals a conversion to HSV and back: a pixel's greatest channel stays its value, and
    the other channels fall from it with their distance from the hue.
    """
    value = jnp.max(images, axis=-1)
    chroma = value - jnp.min(images, axis=-1)
    red, green, blue = (images[..., channel] for channel in range(3))
    safe = jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths = sixths + 6 * turns[:, None, None]
    away = jnp.mod(sixths[..., None] + jnp.asarray([5.0, 3.0, 1.0], images.dtype), 6)
    return jnp.clip(value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(away, 4 - away), 0, 1), 0, 1)


def blur(images: jax.Array, image_keys: jax.Array, greatest: float) -> jax.Array:
    """Half of the images under a Gaussian blur, its sigma uniform in [0.1, `greatest`] pixels; borders are mirrored.

    The kernel is a tenth of the side wide, as in SimCLR (Chen et al., 2020), and at least 3.
    """
    radius = max(1, min(images.shape[1:3]) // 20)
    steps = np.arange(-radius, radius + 1, dtype=np.float32)
    shares = _uniform(image_keys, 2, images.dtype)
    sigma = LEAST_SIGMA + (greatest - LEAST_SIGMA) * shares[:, 1]
    kernels = jnp.exp(-(jnp.asarray(steps, images.dtype) ** 2) / (2 * sigma[:, None] ** 2))
    kernels = kernels / jnp.sum(kernels, axis=1, keepdims=True)
    soft = images
    for axis in (1, 2):
        widths = [(radius, radius) if one == axis else (0, 0) for one in range(4)]
        padded = jnp.pad(soft, widths, mode="reflect")
        size = images.shape[axis]
        parts = [jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(2 * radius + 1)]
        soft = sum(_spread(kernels[:, number]) * part for number, part in enumerate(parts))
    return jnp.where(_spread(shares[:, 0] < SOFTENED), soft, images)


def noise(images: jax.Array, image_keys: jax.Array, greatest: float) -> jax.Array:
    """Half of the images with Gaussian noise of a deviation uniform in [0, `greatest`], clipped to [0, 1]."""
    shares = _uniform(image_keys, 2, images.dtype)
    draws = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], images.dtype))(keys.named(image_keys, "z"))
    noisy = jnp.clip(images + greatest * _spread(shares[:, 1]) * draws, 0, 1)
    return jnp.where(_spread(shares[:, 0] < SOFTENED), noisy, images)


def _uniform(image_keys: jax.Array, count: int, dtype: DTypeLike) -> jax.Array:
    return jax.vmap(lambda key: jax.random.uniform(keys.named(key, "shares"), (count,), dtype))(image_keys)


def _spread(values: jax.Array) -> jax.Array:
    """[N] -> [N, 1, 1, 1]."""
    return values[:, None, None, None]
