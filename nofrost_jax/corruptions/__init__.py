"""The corruptions of ImageNet-C (Hendrycks and Dietterich, 2019), in JAX, for square images of any side.

    corrupted = corruptions.corrupt(images, "fog", 3, indices, seed=0)

The fifteen of mCE (`NAMES`) at severities 1 to 5. Results are truncated to bytes and then, like the published files,
compressed as JPEG of quality 85.

An image's result is a function of the image, the corruption, the severity, `seed` and the image's own index, to the
byte, whatever the batch. The random draws cannot be those of the published files, so scores are close, not equal.

The constants are for 224 x 224. At another side the lengths scale by side / 224 (see `settings`), whole pixels are at
least 1, noise levels stay, and layers (snow, ice, fog, elastic waves) are drawn at 224 and fitted to the side. So this
is not CIFAR-10-C or Tiny-ImageNet-C, whose authors chose other constants. On the smallest images a blur can vanish;
`settings` reports that.

`frost` needs pictures of ice: five synthetic ones, or the published files from a folder. JPEG is Pillow's, on the host.
"""

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from nofrost_jax import keys
from nofrost_jax.corruptions import blur, constants, digital, noise, weather
from nofrost_jax.corruptions import textures as ice
from nofrost_jax.corruptions.base import Arrays
from nofrost_jax.corruptions.constants import NAMES, SEVERITIES
from nofrost_jax.errors import UserError
from nofrost_jax.fields import check_seed

__all__ = ["JPEG_QUALITY", "NAMES", "PER_DEVICE", "SEVERITIES", "corrupt", "settings"]

#: Images that a device gets in one call of a compiled program. Fixed, so that every image goes through the same program
#: in any batch and on any number of devices.
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
    """Corrupted images, uint8 [N, side, side, 3]. Threads do the JPEG compression while the devices continue.

    images: uint8 [N, side, side, 3], side >= 8. name: one of `NAMES`. severity: 1 to 5. indices: int [N], each image's
    index in its data set, which its random draws depend on. seed: 0 to 2**32 - 1. textures: for `frost`, the folder of
    the published files; None: synthetic ice. jpeg_quality: of the final JPEG round trip (Pillow, optimized Huffman
    tables); 0: none. devices: a `parallel.Devices`, over whose local devices the images are split; None: JAX's default.

    Raises UserError for an unknown name or severity, a seed out of range, missing textures and images that are too
    small; ValueError for images of another type or shape.
    """
    images, indices = np.asarray(images), np.asarray(indices)
    _check(name, severity)
    check_seed("seed", seed)
    if images.dtype != np.uint8 or images.shape[1:] != (*images.shape[1:2] * 2, 3):
        raise ValueError(f"corruptions take uint8 [N, side, side, 3], not {images.dtype} {images.shape}")
    if indices.shape != images.shape[:1]:
        raise ValueError(f"indices {indices.shape} must be one for each of the images {images.shape}")
    if images.shape[1] < _LEAST_SIDE:
        raise UserError(f"corruptions take images of at least {_LEAST_SIDE} pixels a side, not {images.shape[1]}")
    if not len(images):
        return images
    if name == "jpeg_compression":
        parts = iter([digital.jpeg(images, int(constants.published(name, severity)["quality"]))])
    else:
        parts = _on_devices(images, name, severity, indices, seed, textures, devices or _DefaultDevice())
    if not jpeg_quality:
        return np.concatenate(list(parts))
    return digital.jpeg((image for part in parts for image in part), jpeg_quality, optimize=True)


def _check(name: str, severity: int) -> None:
    if name not in constants.PUBLISHED:
        raise UserError(f"unknown corruption {name!r}; name; use one of {', '.join(NAMES)}")
    if severity not in SEVERITIES:
        raise UserError(
            f"unknown severity {severity!r}; corruption {name}; use one of {', '.join(map(str, SEVERITIES))}"
        )


@dataclasses.dataclass(frozen=True)
class _DefaultDevice:
    """The part of `parallel.Devices` that is used here, for one device."""

    local = (None,)

    def replicate(self, tree: Any) -> Any:
        return jax.device_put(tree)

    def place(self, rows: tuple) -> tuple:
        return rows

    def map_images(self, fn: Callable) -> Callable:
        return jax.jit(fn)


def _on_devices(
    images: np.ndarray, name: str, severity: int, indices: np.ndarray, seed: int, textures: Any, devices: Any
) -> Iterator[np.ndarray]:
    """The corrupted images in order, some at a time, uint8 [n, side, side, 3]."""
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
            result, count = waiting.popleft()
            yield np.asarray(result)[:count]
    yield from (np.asarray(result)[:count] for result, count in waiting)


@functools.cache
def _program(name: str, devices: Any) -> Callable:
    """Compiled for all severities: ((key, arrays), (images [n, side, side, 3], indices [n])) -> images,
    `PER_DEVICE` on each device.

    On a CPU one image at a time, which fits the cache; elsewhere all at once.
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


@functools.lru_cache(maxsize=_CELLS)  # a writer of files needs all for each batch: 24 MB at 224 pixels
def _arrays(name: str, severity: int, side: int, devices: Any) -> Arrays:
    return devices.replicate(_TABLE[name].prepare(severity, side))


@functools.lru_cache(maxsize=1)
def _frost_arrays(textures: ice.Textures, devices: Any) -> Arrays:
    return devices.replicate({"textures": textures.images, "sizes": textures.sizes})


def settings(name: str, severity: int, side: int, *, textures: str | os.PathLike | ice.Textures | None = None) -> dict:
    """The settings of a corruption as plain values, for result files.

    `name`, `severity`, `side`; `constants` at this side; `published` at 224, if they differ; `drawn_at` = 224 if a
    layer is fitted to the side; `vanishes`: whether a length is so small that no value of any image changes by more
    than one level, before JPEG; for frost `textures`, "procedural" or "published". Raises UserError, see `corrupt`.
    """
    _check(name, severity)
    used, original = constants.scaled(name, severity, side), constants.published(name, severity)
    found = {"name": name, "severity": severity, "side": side, "constants": used}
    if used != original:
        found["published"] = original
    if name in constants.LAYERS and side != constants.SIDE:
        found["drawn_at"] = constants.SIDE
    found["vanishes"] = blur.vanishes(name, severity, side)
    if name == "frost":
        found["textures"] = ice.resolve(textures).origin
    return found
