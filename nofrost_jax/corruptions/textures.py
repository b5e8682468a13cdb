"""Textures for `frost`: synthetic ones, or the published files.

The published files are part of the code of ImageNet-C (Hendrycks and Dietterich, 2019). The five synthetic ones are
ferns of ice on a dark pane. They look like frost and are as bright as the published ones, but scores differ.
"""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nofrost_jax.corruptions.constants import SIDE
from nofrost_jax.data import preprocess
from nofrost_jax.errors import UserError

#: The published corruption draws among the first five of its six files.
FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


@dataclasses.dataclass(frozen=True, eq=False)
class Textures:
    """Ice. images: uint8 [n, H, W, 3], smaller ones padded with zeros. sizes: int32 [n, 2], (height, width)."""

    origin: str  # "procedural" or "published"
    images: np.ndarray
    sizes: np.ndarray


def _stacked(origin: str, images: list[np.ndarray]) -> Textures:
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    stacked = np.zeros((len(images), *sizes.max(0), 3), np.uint8)
    for place, image in zip(stacked, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return Textures(origin, stacked, sizes)


@functools.cache
def load(folder: str) -> Textures:
    """The published files, from a folder. Raises UserError if one is missing, unreadable or not above 224 pixels."""
    root, images = Path(os.path.expanduser(folder)), []
    missing = [name for name in FILES if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"no frost texture {', '.join(missing)}; {root}; put the published files there (folder ImageNet-C/create_c "
            "of github.com/hendrycks/robustness), or give no folder, for synthetic ice"
        )
    for name in FILES:
        try:
            image = np.asarray(preprocess.decode((root / name).read_bytes()))
        except (OSError, preprocess.ImageError) as error:
            raise UserError(f"cannot read a frost texture; {root / name}; replace the file") from error
        if min(image.shape[:2]) <= SIDE:
            raise UserError(
                f"frost texture of {image.shape[1]} x {image.shape[0]} pixels; {root / name}; it must exceed {SIDE} x "
                f"{SIDE}, take the published file"
            )
        images.append(image)
    return _stacked("published", images)


# Synthetic ice: (colour, contrast in levels, ferns, their length in pixels), near the published files' statistics.
_KINDS = (
    ((78, 149, 166), 18, 500, 45),
    ((201, 205, 214), 22, 900, 60),
    ((196, 203, 216), 24, 500, 90),
    ((138, 153, 165), 29, 1400, 30),
    ((112, 123, 135), 43, 350, 110),
)
_HEIGHT, _WIDTH = 384, 512
_SEED = 20190328


@functools.cache
def procedural() -> Textures:
    """The five synthetic textures, always the same."""
    return _stacked("procedural", [grow(np.random.default_rng([_SEED, i]), *kind) for i, kind in enumerate(_KINDS)])


def grow(
    rng: np.random.Generator, colour: tuple[int, int, int], contrast: float, ferns: int, length: float
) -> np.ndarray:
    """One texture, uint8 [384, 512, 3]: feathered crystals in relief on a cloudy pane."""
    pane = Image.new("L", (2 * _WIDTH, 2 * _HEIGHT), 0)
    brush = ImageDraw.Draw(pane)
    for _ in range(ferns):
        _fern(brush, rng, rng.uniform((0, 0), pane.size), rng.uniform(0, 2 * np.pi), 2 * length * rng.uniform(0.4, 1.2))
    ice = np.asarray(pane.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX), np.float64)
    clouds = sum((_cloud(rng, cells) / cells for cells in (4, 8, 16, 32, 128)), np.zeros(()))
    relief = ice - np.roll(ice, (1, 1), (0, 1))  # light from one side
    value = _standard(clouds) + 0.8 * _standard(ice) + 0.7 * _standard(relief)
    shade = np.clip(_standard(value), -2.5, 2.5)[..., None] * contrast
    return np.clip(np.array(colour) + shade * np.array([1.1, 1.0, 0.9]), 0, 255).astype(np.uint8)


def _fern(brush: ImageDraw.ImageDraw, rng: np.random.Generator, start: np.ndarray, angle: float, length: float) -> None:
    """A bent spine, with needles on both sides that get shorter towards the tip."""
    joints = max(4, int(length / 6))
    spread, bend, tone = rng.uniform(0.4, 1.0), rng.normal(0, 0.03), int(rng.integers(90, 256))
    turned = angle + bend * np.arange(joints)
    spine = start + np.cumsum(np.stack([np.cos(turned), np.sin(turned)], 1), 0) * length / joints
    brush.line([tuple(point) for point in spine], fill=tone, width=2)
    for sign in (-1, 1):
        needle = length * 0.35 * np.linspace(1, 0.1, joints) * rng.uniform(0.6, 1.1, joints)
        towards = turned + sign * spread
        tips = spine + np.stack([np.cos(towards), np.sin(towards)], 1) * needle[:, None]
        for root, tip in zip(spine, tips, strict=True):
            brush.line([tuple(root), tuple(tip)], fill=int(tone * 0.85), width=1)


def _cloud(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise with `cells` cells across, float64 [384, 512]."""
    noise = Image.fromarray(rng.standard_normal((cells * 3 // 4, cells)).astype(np.float32))
    return np.asarray(noise.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), np.float64)


def _standard(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()


def resolve(textures: str | os.PathLike | Textures | None) -> Textures:
    """Textures from None (synthetic), a folder (published files) or Textures. Raises UserError, see `load`."""
    if textures is None or textures == "":
        return procedural()
    return textures if isinstance(textures, Textures) else load(os.fspath(textures))
