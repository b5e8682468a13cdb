"""The corruptions of ImageNet-C (Hendrycks and Dietterich, 2019), in JAX, for square images of any side.

    corrupted = corruptions.corrupt(images, "fog", 3, indices, seed=0)

The fifteen of mCE (`NAMES`) at severities 1 to 5. The results are truncated to bytes and then, as the published files,
go through JPEG at quality 85.

An image's result is a function of the image, the corruption, the severity, `seed` and the image's own index: to the
byte, whatever the batch. The random draws cannot be those behind the published files; scores on images made here are
close to scores on those, not equal.

The constants are for 224 x 224. At another side the lengths scale by side / 224 (`settings` tells to what), whole
pixels are at least 1, noise levels stay, and what falls on the image or bends it (snow, ice, fog, elastic waves) is
drawn at 224 and fitted to the side. So this is not CIFAR-10-C or Tiny-ImageNet-C, whose authors chose other constants.
On the smallest images a blur can vanish; `settings` says that too.

`frost` needs pictures of ice: five grown here, or the published files from a folder. JPEG is Pillow's, on the host.
"""

import collections
import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nofrost_jax import keys
from nofrost_jax.corruptions import blur, constants, digital, noise, weather
from nofrost_jax.corruptions import textures as ice
from nofrost_jax.corruptions.constants import NAMES, SEVERITIES
from nofrost_jax.errors import UserError
from nofrost_jax.fields import check_seed

__all__ = ["JPEG_QUALITY", "NAMES", "PER_DEVICE", "SEVERITIES", "corrupt", "settings"]

#: Images that a device gets in one call of a compiled program. Fixed, so that every image meets the same program in any
#: batch and on any number of devices.
PER_DEVICE = 16
#: Quality of the JPEG files that ImageNet-C consists of.
JPEG_QUALITY = 85

_TABLE = {**noise.TABLE, **blur.TABLE, **weather.TABLE, **digital.TABLE}
_LEAST_SIDE = 8
_CELLS = len(constants.PUBLISHED) * len(SEVERITIES)


def corrupt(
    images: np.ndarray,
    name: str,
    severity: int,
    indices: np.ndarray,
    seed: int,
    *,
    textures: str | os.PathLike | ice.Textures | None = None,
    jpeg_quality: int = JPEG_QUALITY,
    devices: Any = None,
) -> np.ndarray:
    """Corrupted images, uint8 [N, side, side, 3]. JPEG is done in threads, while the devices work on the images that
    follow.

    images: uint8 [N, side, side, 3], side >= 8. name: one of `NAMES`. severity: 1 to 5. indices: int [N]; an image's
    place in its data set, of which its random draws are a function. seed: 0 to 2**32 - 1. textures: for `frost`, the
    folder of the published files; None: ice grown here. jpeg_quality: of the final JPEG round trip (Pillow, optimized
    Huffman tables); 0: none. devices: a `parallel.Devices`, over whose local devices the images are split; None: JAX's
    default device.

    Raises UserError for an unknown name or severity, a seed out of range, images of another type or shape, and where
    textures are missing.
    """
    images, indices = np.asarray(images), np.asarray(indices)
    _check(name, severity)
    check_seed("seed", seed)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise UserError(
            f"corruptions take square images, uint8 [N, side, side, 3], not {images.dtype} {list(images.shape)}; "
            "images; crop them and give bytes"
        )
    if images.shape[1] < _LEAST_SIDE or indices.shape != images.shape[:1]:
        raise UserError(
            f"corruptions take images of at least {_LEAST_SIDE} pixels a side, and an index for each; images "
            f"{list(images.shape)}, indices {list(indices.shape)}; give larger images, or indices of shape [N]"
        )
    if not len(images):
        return images
    if name == "jpeg_compression":
        parts = iter([digital.jpeg(images, constants.published(name, severity)["quality"])])
    else:
        parts = _on_devices(images, name, severity, indices, seed, textures, devices or _DefaultDevice())
    if not jpeg_quality:
        return np.concatenate(list(parts))
    return digital.jpeg((image for part in parts for image in part), jpeg_quality, optimize=True)


def _check(name, severity):
    if name not in constants.PUBLISHED:
        raise UserError(f"unknown corruption {name!r}; name; use one of {', '.join(NAMES)}")
    if severity not in SEVERITIES:
        raise UserError(
            f"unknown severity {severity!r}; corruption {name}; use one of {', '.join(map(str, SEVERITIES))}"
        )


@dataclasses.dataclass(frozen=True)
class _DefaultDevice:
    """What `parallel.Devices` is asked for here, for one device."""

    local = (None,)

    def replicate(self, tree):
        return jax.device_put(tree)

    def place(self, rows):
        return rows

    def map_images(self, fn):
        return jax.jit(fn)


def _on_devices(images, name, severity, indices, seed, textures, devices) -> Iterator[np.ndarray]:
    """The corrupted images in their order, uint8 [n, side, side, 3] at a time."""
    key = keys.named(jax.random.key(seed, impl="threefry2x32"), "corruptions")  # whatever JAX's default is
    key = devices.replicate(jax.random.fold_in(keys.named(key, name), severity))
    arrays = _arrays(name, severity, images.shape[1], devices)
    if name == "frost":
        arrays = arrays | _frost_arrays(ice.resolve(textures), devices)
    program, waiting, size = _program(name, devices), collections.deque(), PER_DEVICE * len(devices.local)
    for start in range(0, len(images), size):
        count = min(size, len(images) - start)
        rows = tuple(
            np.pad(part[start : start + size], [(0, size - count)] + [(0, 0)] * (part.ndim - 1), mode="edge")
            for part in (images, indices.astype(np.int32))
        )
        waiting.append((program((key, arrays), devices.place(rows)), count))
        if len(waiting) > 2:  # the host copies while the devices work
            yield _taken(*waiting.popleft())
    yield from (_taken(*one) for one in waiting)


def _taken(result, count):
    return np.asarray(result)[:count]


@functools.cache
def _program(name, devices):
    """Compiled for all severities: ((key, arrays), (images [n, side, side, 3], indices [n])) -> images,
    `PER_DEVICE` on each device.

    On a CPU one image at a time, which stays in the cache; elsewhere the chunk at once.
    """
    corruption = _TABLE[name]

    def run(shared, rows):
        (key, arrays), (images, indices) = shared, rows

        def one(pair):
            image, key = pair
            return corruption.apply(image, corruption.draw(key, len(image), arrays), arrays)

        every = jax.lax.map if jax.default_backend() == "cpu" else lambda function, pairs: jax.vmap(function)(pairs)
        return every(one, (images, keys.per_image(key, indices)))

    return devices.map_images(run)


@functools.lru_cache(maxsize=_CELLS)  # a writer of files needs all of them for each batch: 24 MB at 224 pixels
def _arrays(name, severity, side, devices):
    return devices.replicate(_TABLE[name].prepare(severity, side))


@functools.lru_cache(maxsize=1)
def _frost_arrays(textures, devices):
    return devices.replicate({"textures": textures.images, "sizes": textures.sizes})


def settings(name: str, severity: int, side: int, *, textures: str | os.PathLike | ice.Textures | None = None) -> dict:
    """What is used for a corruption: plain values, for result files.

    `name`, `severity`, `side`; `constants` as used at this side; `published` as they are at 224, where they differ;
    `drawn_at` = 224 where a layer is fitted to the side; `vanishes`: whether no value of any image changes by more than
    one level, before JPEG, since a length became too small; for frost `textures`, "procedural" or "published". Raises
    UserError as `corrupt` does.
    """
    _check(name, severity)
    used, original = constants.scaled(name, severity, side), constants.published(name, severity)
    told = {"name": name, "severity": severity, "side": side, "constants": used}
    if used != original:
        told["published"] = original
    if name in constants.LAYERS and side != constants.SIDE:
        told["drawn_at"] = constants.SIDE
    told["vanishes"] = blur.vanishes(name, severity, side)
    if name == "frost":
        told["textures"] = ice.resolve(textures).origin
    return told
