"""Decode, crop, resize, flip: the same for every source. Pillow and NumPy, equal to torchvision on PIL images.

An image enters encoded (bytes) or as uint8 [h, w, 3] and leaves as uint8 [size, size, 3]. Every random decision is a
function of uniform numbers that the caller gives (`augmentation_draws`); nothing here has state.
"""

import dataclasses
import io
import math
import os
import struct

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from nofrost_jax.data import fast, strip
from nofrost_jax.data.rng import AUGMENTATION, generator

Image.preinit()  # Registers the decoders now, not first from several threads at once; these two by their import.
_DECODERS = TiffImagePlugin, WebPImagePlugin

RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10
LONGEST = 64  # times its short side: an image that `train_resize` makes longer than that is refused
PADDING = 4
AnyImage = bytes | np.ndarray | Image.Image  # still encoded, or decoded
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF
#: Uniform numbers that one image needs: (area, ratio, top, left) per attempt and a flip; top, left and a flip; none.
DRAWS = {"random_resized_crop": 4 * ATTEMPTS + 1, "pad_crop_flip": 3, "none": 0}
AUGMENTATIONS = tuple(DRAWS)
# Pillow reports damage by all of these, depending on the format and the place.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class ImageError(ValueError):
    """One image cannot be used. The pipeline names it in a `UserError`."""


class SmallImageError(ImageError):
    """An image is smaller than the square that is cut out of it."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What happens to an image between its source and the batch; the fields are those of `config.data`."""

    image_size: int
    eval_resize: int = 0
    augmentation: str = "none"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    fast: bool = False  # `random_resized_crop` by `fast` instead of Pillow
    eval_pad: bool = False
    train_resize: int = 0

    @property
    def draws(self) -> int:
        """Uniform numbers that one training image needs."""
        return DRAWS[self.augmentation]


def augmentation_draws(seed: int, epoch: int, position: int, count: int, purpose: int = AUGMENTATION) -> np.ndarray:
    """`count` uniform numbers in [0, 1) for the image at `position` of `epoch`: float64 [count]."""
    return generator(seed, purpose, epoch, position).random(count)


def decode(image: AnyImage) -> Image.Image:
    """An RGB PIL image from an array or any file format that Pillow reads; grey, CMYK and palette images are converted.

    16 bits a channel become 8: the nearest value for grey images, the upper 8 bits for colour images, as Pillow does.
    A PIL image is returned as it is. Raises ImageError for an incomplete image, and for numbers whose black and white
    are not defined (float, 32 bits).
    """
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        return image
    try:
        return _to_8_bits(Image.open(io.BytesIO(image))).convert("RGB")
    except ImageError:
        raise
    except _DAMAGE as error:
        raise _unreadable(error, len(image)) from error


def _to_8_bits(image: Image.Image) -> Image.Image:
    """An image of at most 8 bits a channel. Pillow's own conversion would clip at 255 and make everything white."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image
    _check_mode(image)
    tags = getattr(image, "tag_v2", {})  # of a TIFF file
    white = 2 ** tags.get(_BITS, (16,))[0] - 1
    values = np.asarray(image).astype(np.int64)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = white - values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _check_mode(image: Image.Image) -> None:
    """Raises ImageError for numbers whose black and white are not defined; reads no pixels."""
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floating-point numbers" if image.mode == "F" else "signed or 32-bit integers"
        raise ImageError(f"an image of {kind} (mode {image.mode}, {image.format}), whose range is not known")


def check_header(path: str | os.PathLike, geometry: Geometry | None) -> None:
    """Raises ImageError, as `eval_image` would, if a file's header shows that it cannot be used; OSError if it cannot
    be read. geometry: None if images may have any size."""
    with open(path, "rb") as file:
        try:
            with Image.open(file) as image:
                _check_mode(image)
                if geometry is not None:
                    _check_size(*image.size, geometry)
        except ImageError:
            raise
        except _DAMAGE as error:
            raise _unreadable(error, os.stat(path).st_size) from error


def _check_size(width: int, height: int, geometry: Geometry) -> None:
    """Raises ImageError for an image that is smaller than the square and neither resized nor padded."""
    if not geometry.eval_resize and not geometry.eval_pad and min(width, height) < geometry.image_size:
        raise SmallImageError(f"image of {width} x {height} is smaller than image_size = {geometry.image_size}")


def _unreadable(error: Exception, length: int) -> ImageError:
    what = str(error).replace("\n", " ")
    if isinstance(error, UnidentifiedImageError):  # Its own text is an object's address.
        what = "of no known format" if length else "empty file"
    return ImageError(f"unreadable image ({what})")


def size_in_header(path: str | os.PathLike) -> tuple[int, int] | None:
    """(width, height) from an image file's header, without decoding it; None if it is not readable."""
    try:
        with Image.open(path) as image:
            return image.size
    except _DAMAGE:
        return None


def decode_for(image: AnyImage, geometry: Geometry) -> np.ndarray | Image.Image:
    """What every crop of an image under `geometry` starts from: `decode`, or an array for `fast`. Raises ImageError."""
    if geometry.train_resize and geometry.augmentation == "random_resized_crop":
        picture = _short_side(decode(image), geometry.train_resize)
        return np.asarray(picture) if geometry.fast else picture
    if not geometry.fast:
        return decode(image)
    if isinstance(image, np.ndarray):
        return image
    pixels = fast.decode(image) if isinstance(image, bytes) else None
    return np.asarray(decode(image)) if pixels is None else pixels


def _short_side(picture: Image.Image, short: int) -> Image.Image:
    """The picture with a short side of `short` pixels, bicubic. Raises ImageError if it would be too long."""
    height, width = resized_shape(picture.height, picture.width, short)
    if max(height, width) > max(LONGEST * short, max(picture.size)):
        raise ImageError(
            f"image of {picture.width} x {picture.height} would have {width} x {height} pixels with train_resize = "
            f"{short}"
        )
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def random_resized_window(
    height: int, width: int, draws: np.ndarray, scale: tuple[float, float] = (0.08, 1.0)
) -> tuple[int, int, int, int]:
    """The window (top, left, height, width) of torchvision's `RandomResizedCrop` for given uniform numbers.

    Area uniform in `scale` times the image's, aspect ratio log-uniform in [3/4, 4/3]; the first of ten candidates
    that fits, otherwise the centre crop with the ratio clamped (Szegedy et al., 2015). draws: float [>= 40] in [0, 1),
    area, ratio, top, left of candidate 0, then of candidate 1, ...
    """
    log_lo, log_hi = math.log(RATIO[0]), math.log(RATIO[1])
    for area_draw, ratio_draw, top_draw, left_draw in np.asarray(draws)[: 4 * ATTEMPTS].reshape(ATTEMPTS, 4).tolist():
        area = height * width * (scale[0] + (scale[1] - scale[0]) * area_draw)
        ratio = math.exp(log_lo + (log_hi - log_lo) * ratio_draw)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(top_draw * (height - h + 1)), int(left_draw * (width - w + 1)), h, w
    h, w = height, width
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    return (height - h) // 2, (width - w) // 2, h, w


def resized_shape(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) after torchvision's `Resize(short)`: the long side is truncated, not rounded."""
    if width <= height:
        return int(short * height / width), short
    return short, int(short * width / height)


def center_window(height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of torchvision's `CenterCrop(size)`, rounded half to even. Negative where the image is smaller and
    gets a border; of an odd border the larger half comes after the image."""

    def start(side: int) -> int:
        return round((side - size) / 2) if side >= size else -((size - side) // 2)

    return start(height), start(width)


def eval_image(image: AnyImage, geometry: Geometry) -> np.ndarray:
    """Resizes the short side to `eval_resize` (0 = not at all), then takes the central square: uint8 [size, size, 3].

    With `eval_pad` an image that is smaller than the square gets black borders, as in torchvision's `CenterCrop`. Only
    the centre of a long strip is resized (`strip`), so memory is bounded. Raises ImageError for an unreadable image, or
    one that is smaller than the square and neither resized nor padded.
    """
    size = geometry.image_size
    if isinstance(image, np.ndarray) and image.shape == (size, size, 3) and geometry.eval_resize in (0, size):
        return image
    picture = decode(image)
    _check_size(*picture.size, geometry)
    if geometry.eval_resize:
        height, width = resized_shape(picture.height, picture.width, geometry.eval_resize)
        if max(height, width) > max(strip.LONGEST * geometry.eval_resize, *picture.size):
            top, left = center_window(height, width, size)
            return np.asarray(strip.resized_piece(picture, height, width, top, left, size))
        if (height, width) != (picture.height, picture.width):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    if picture.size != (size, size):
        top, left = center_window(picture.height, picture.width, size)
        picture = picture.crop((left, top, left + size, top + size))  # black where there is no image
    return np.asarray(picture)


def random_resized_crop(picture: np.ndarray | Image.Image, geometry: Geometry, draws: np.ndarray) -> np.ndarray:
    """The drawn window of what `decode_for` returned, resized and perhaps flipped: uint8 [size, size, 3].

    The window is cut out before it is resized, as in torchvision, so no pixel outside it counts.
    """
    size = geometry.image_size
    height, width = picture.shape[:2] if isinstance(picture, np.ndarray) else (picture.height, picture.width)
    top, left, h, w = random_resized_window(height, width, draws, geometry.crop_scale)
    if isinstance(picture, np.ndarray):  # for `fast`
        window = picture[top : top + h, left : left + w]
        return flip(window if (h, w) == (size, size) else fast.resize(window, size), draws[-1])
    picture = picture.crop((left, top, left + w, top + h))
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return flip(np.asarray(picture), draws[-1])


def flip(image: np.ndarray, draw: float) -> np.ndarray:
    """The image, or its mirror image for `draw` < 0.5."""
    return image[:, ::-1] if draw < 0.5 else image


def train_image(image: AnyImage, geometry: Geometry, draws: np.ndarray) -> np.ndarray:
    """The augmented training image, uint8 [size, size, 3], for `geometry.draws` uniform numbers.

    `random_resized_crop` starts from the whole image, `pad_crop_flip` (CIFAR) and `none` from the evaluation geometry.
    Raises ImageError.
    """
    if geometry.augmentation == "random_resized_crop":
        return random_resized_crop(decode_for(image, geometry), geometry, draws)
    small = eval_image(image, geometry)
    return small if geometry.augmentation == "none" else pad_crop_flip(small, draws)


def pad_crop_flip(image: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """A window of the image's own size out of the image with a black border of 4 pixels, perhaps flipped."""
    size = len(image)
    padded = np.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    top, left = (int(draw * (2 * PADDING + 1)) for draw in draws[:2])
    return flip(padded[top : top + size, left : left + size], draws[-1])
