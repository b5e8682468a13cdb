"""The corruptions of ImageNet-C here against the packages behind the original: the same draws, images and core.

    python benchmarks/corruptions.py                  all parts that the installed packages allow
    python benchmarks/corruptions.py --parts=compile  one of: parity, speed, compile

parity: greatest and mean difference in levels of 255, for each severity, over four crops of scikit-learn's two sample
photographs at 224 pixels, before JPEG. Each oracle is the original's chain of library calls (OpenCV, scikit-image,
SciPy, Pillow, ImageMagick through Wand), most of them through imagecorruptions-imaug, dealt our random numbers.
speed: milliseconds of CPU time an image on one core, ours and the package's (Pillow and NumPy arrays in and out), at
severity 3, in alternating rounds of one run; the least of the rounds. compile: seconds of CPU time until the first
batch of a corruption is there, and for its other four severities together.

    pip install imagecorruptions-imaug scikit-image "opencv-python-headless<5" numba Wand    (and libmagickwand)

OpenCV 5 warps with other arithmetic than the 3 that made ImageNet-C: elastic_transform then differs by 0.06 on average.

Without these packages the two parts that need them are skipped. Writes benchmarks/results/corruptions.json.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import io
import json
import os
import pathlib
import sys
import time
import unittest.mock

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before any thread is there

import jax
import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import add_output, save_result
from nofrost_jax import corruptions
from nofrost_jax.corruptions import blur, constants, digital, noise, textures, weather

SIDE, NAMES = constants.SIDE, corruptions.NAMES
TABLE = {**noise.TABLE, **blur.TABLE, **weather.TABLE, **digital.TABLE}
PACKAGES = (
    "imagecorruptions-imaug",
    "scikit-image",
    "opencv-python-headless",
    "scipy",
    "pillow",
    "Wand",
    "numpy",
    "jax",
)


def photographs():
    """uint8 [4, 224, 224, 3]: two crops of both photographs, short side resized to 256."""
    from sklearn.datasets import load_sample_images

    crops = []
    for photograph in load_sample_images().images:
        height, width = photograph.shape[:2]
        resized = Image.fromarray(photograph).resize((256 * width // height, 256), Image.Resampling.BILINEAR)
        crops += [np.asarray(resized.crop((left, 16, left + SIDE, 16 + SIDE))) for left in (8, 120)]
    return np.stack(crops)


# parity: oracles are functions (image, draws, severity) -> float or uint8 [224, 224, 3] in 0..255


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


def ours(name):
    """(images, severity) -> (results, draws) for the keys 0, 1, ..."""
    if name == "jpeg_compression":
        return lambda images, severity: (
            corruptions.corrupt(images, name, severity, np.arange(len(images)), 0, jpeg_quality=0),
            [()] * len(images),
        )
    draw = jax.jit(TABLE[name].draw, static_argnums=1)
    apply = jax.jit(TABLE[name].apply)

    def run(images, severity):
        arrays = TABLE[name].prepare(severity, SIDE)
        if name == "frost":
            ice = textures.procedural()
            arrays |= {"textures": ice.images, "sizes": ice.sizes}
        arrays = jax.device_put(arrays)
        draws = [jax.device_get(draw(jax.random.key(i), SIDE, arrays)) for i in range(len(images))]
        return np.stack([apply(image, one, arrays) for image, one in zip(images, draws, strict=True)]), draws

    return run


def parity(images, names):
    """{corruption: {"max": [5 levels], "mean": [5 levels]}}; impulse_noise has no numbers that could be dealt."""
    rows = {}
    for name in names:
        if name not in ORACLES:
            continue
        run, most, mean = ours(name), [], []
        for severity in constants.SEVERITIES:
            results, draws = run(images, severity)
            want = [np.uint8(ORACLES[name](image, one, severity)) for image, one in zip(images, draws, strict=True)]
            difference = abs(results.astype(int) - np.stack(want))
            most.append(int(difference.max()))
            mean.append(round(float(difference.mean()), 5))
        rows[name] = {"max": most, "mean": mean}
        print(f"{name:18} max {most}  mean {mean}", flush=True)
    return rows


# speed and compile


def least(function, rounds):
    """Least CPU seconds of a call."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def speed(images, names, rounds=3, severity=3):
    """{corruption: {"ours_ms", "package_ms", "ratio"}} an image."""
    rows, indices = {}, np.arange(corruptions.PER_DEVICE)
    batch = np.resize(images, (corruptions.PER_DEVICE, SIDE, SIDE, 3))
    pictures = [Image.fromarray(image) for image in images]
    for name in names:

        def here(name=name):
            corruptions.corrupt(batch, name, severity, indices, 0, jpeg_quality=0)

        def there(name=name):
            for picture in pictures:
                np.uint8(package(name)(picture, severity))

        here(), there()  # both compile
        pairs = [(least(here, 1) / len(batch), least(there, 1) / len(images)) for _ in range(rounds)]
        our, their = (1000 * min(column) for column in zip(*pairs, strict=True))
        rows[name] = {"ours_ms": round(our, 3), "package_ms": round(their, 3), "ratio": round(their / our, 2)}
        print(f"{name:18} {our:7.2f} ms  package {their:7.2f} ms  ratio {their / our:6.2f}", flush=True)
    return rows


def compiling(images, names):
    """{corruption: [seconds to the first batch, seconds of the other four severities]}."""
    rows, indices = {}, np.arange(corruptions.PER_DEVICE)
    batch = np.resize(images, (corruptions.PER_DEVICE, SIDE, SIDE, 3))
    corruptions.corrupt(batch, "contrast", 1, indices, 0)  # starts the runtime
    corruptions._program.cache_clear()
    for name in names:
        first, *others = (
            least(lambda s=s, name=name: corruptions.corrupt(batch, name, s, indices, 0, jpeg_quality=0), 1)
            for s in constants.SEVERITIES
        )
        rows[name] = [round(first, 2), round(sum(others), 2)]
        print(f"{name:18} first {first:5.2f} s, the other four {sum(others):5.2f} s", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="compile,parity,speed")
    parser.add_argument("--names", default=",".join(NAMES), help="corruptions, with commas between them")
    add_output(parser)
    options = parser.parse_args()
    names, path = options.names.split(","), pathlib.Path(options.output) / "corruptions.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    images, functions = photographs(), {"parity": parity, "speed": speed, "compile": compiling}
    try:
        package("disk")
        missing = ""
    except ImportError as error:
        missing = str(error)
    for part in options.parts.split(","):
        if missing and part != "compile":
            print(f"{part}: skipped, {missing}")
            continue
        print(part, flush=True)
        found[part] = functions[part](images, names)
    found |= {"side": SIDE, "device": jax.devices()[0].device_kind, "cores": 1}
    if not missing:
        found["versions"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    save_result(options.output, path.name, found)


if __name__ == "__main__":
    main()
