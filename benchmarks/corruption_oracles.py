"""The corruptions of ImageNet-C by the packages behind the original, for `corruptions`, with given random numbers.

An oracle is a function (image uint8 [224, 224, 3], draws, severity) -> float or uint8 [224, 224, 3] in 0..255.
"""

import contextlib
import functools
import io
import unittest.mock

import numpy as np
from PIL import Image

from nofrost_jax.corruptions import constants, textures

SIDE = constants.SIDE


@contextlib.contextmanager
def dealt(*numbers):
    """NumPy's global generator hands out these standard numbers, in order, shifted and scaled as it is asked to."""
    numbers = iter(numbers)

    def normal(loc=0.0, scale=1.0, size=None):
        return loc + scale * next(numbers)

    def uniform(low=0.0, high=1.0, size=None):
        return low + (high - low) * next(numbers)

    def asked(*_, **__):
        return next(numbers)

    with (
        unittest.mock.patch("numpy.random.normal", normal),
        unittest.mock.patch("numpy.random.uniform", uniform),
        unittest.mock.patch("numpy.random.randint", asked),
        unittest.mock.patch("numpy.random.poisson", asked),
    ):
        yield


def package(name):
    """The function of imagecorruptions-imaug."""
    from imagecorruptions import corruptions as module

    return getattr(module, name)


def direct(name):
    """Corruptions without chance, or with one normal field."""

    def oracle(image, draws, severity):
        with dealt(*([] if isinstance(draws, tuple) else [draws.astype(np.float64)])):
            return package(name)(Image.fromarray(image), severity)

    return oracle


def shot(image, words, severity):
    from scipy import stats

    photons = constants.published("shot_noise", severity)["photons"]
    count = np.maximum(stats.poisson.ppf((words + 0.5) / 2**32, image / 255 * photons), 0)
    with dealt(count):
        return package("shot_noise")(image, severity)


def glass(image, offsets, severity):
    """The package's loop without its compiler, whose generator is its own."""
    from imagecorruptions import corruptions as module

    values = constants.published("glass_blur", severity)
    reach, count = values["reach"], values["iterations"]
    visited = offsets[:count, SIDE - reach : reach : -1, SIDE - reach : reach : -1].reshape(-1, 2)
    loop = module._shuffle_pixels_njit_glass_blur.py_func
    with (
        dealt(*visited),
        unittest.mock.patch.object(module, "_shuffle_pixels_njit_glass_blur", loop),
        unittest.mock.patch("numpy.random.seed"),
    ):
        return module.glass_blur(Image.fromarray(image), severity, seed=0)


def magick(image, angle, radius, sigma):
    """ImageMagick's motion blur of a PNG, as the original calls it; uint8 of the image's shape."""
    from wand.image import Image as Wand

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    with Wand(blob=file.getvalue()) as picture:
        picture.motion_blur(radius=radius, sigma=sigma, angle=float(angle))
        blurred = Image.open(io.BytesIO(picture.make_blob("png")))
    return np.asarray(blurred.convert("L" if image.ndim == 2 else "RGB"))


def motion(image, angle, severity):
    return magick(image, angle, **constants.published("motion_blur", severity))


def snow(image, draws, severity):
    import cv2
    from scipy.ndimage import zoom

    field, angle = draws
    values = constants.published("snow", severity)
    flakes = values["mean"] + values["deviation"] * field.astype(np.float64)
    crop = int(np.ceil(SIDE / values["zoom"]))
    top = (SIDE - crop) // 2
    flakes = zoom(flakes[top : top + crop, top : top + crop], values["zoom"], order=1)
    trim = (len(flakes) - SIDE) // 2
    flakes = flakes[trim : trim + SIDE, trim : trim + SIDE]
    flakes[flakes < values["threshold"]] = 0
    flakes = (np.clip(flakes, 0, 1) * 255).astype(np.uint8)
    layer = magick(flakes, angle, values["radius"], values["sigma"])[..., None] / 255
    x, weight = image.astype(np.float32) / 255, values["image_weight"]
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = weight * x + (1 - weight) * np.maximum(x, grey * 1.5 + 0.5)
    return np.clip(x + layer + np.rot90(layer, 2), 0, 1) * 255


def frost(image, window, severity):
    which, row, column = window
    ice = textures.procedural().images[which, row : row + SIDE, column : column + SIDE]
    values = constants.published("frost", severity)
    return np.clip(values["image_weight"] * image + values["frost_weight"] * ice, 0, 255)


def fog(image, draws, severity):
    fields, used = [], 0
    for level in range(8):
        side = 2**level
        for _ in range(3):
            fields.append((draws[used : used + side**2].reshape(side, side).astype(np.float64) + 1) / 2)
            used += side**2
    with dealt(*fields):
        return package("fog")(Image.fromarray(image), severity)


def elastic(image, draws, severity):
    import cv2
    from scipy.ndimage import map_coordinates
    from skimage.filters import gaussian

    corners, fields = draws
    values = constants.published("elastic_transform", severity)
    x = image.astype(np.float32) / 255
    fixed = np.float32([[186, 186], [186, 38], [38, 38]])
    matrix = cv2.getAffineTransform(fixed, fixed + np.float32(values["jitter"]) * corners)
    x = cv2.warpAffine(x, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    smooth = functools.partial(gaussian, sigma=values["sigma"], mode="reflect", truncate=3)
    dx, dy = (smooth(field.astype(np.float64)) * values["amplitude"] for field in fields)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    places = [rows + dy, columns + dx]
    return 255 * np.clip(
        np.stack([map_coordinates(x[..., c], places, order=1, mode="reflect") for c in range(3)], -1), 0, 1
    )


ORACLES = {
    **{name: direct(name) for name in ("gaussian_noise", "defocus_blur", "zoom_blur", "brightness", "contrast")},
    **{name: direct(name) for name in ("pixelate", "jpeg_compression")},
    "shot_noise": shot,
    "glass_blur": glass,
    "motion_blur": motion,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "elastic_transform": elastic,
}
