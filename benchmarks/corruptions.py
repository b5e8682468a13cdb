"""The corruptions of ImageNet-C here against the packages behind the original: the same draws, images and core.

    python benchmarks/corruptions.py                  all parts that the installed packages allow
    python benchmarks/corruptions.py --parts=compile  one of: parity, speed, compile

parity: greatest and mean difference in levels of 255, for each severity, over four crops of scikit-learn's two sample
photographs at 224 pixels, before JPEG. Each oracle is the original's chain of library calls (OpenCV, scikit-image,
SciPy, Pillow, ImageMagick through Wand), most of them through imagecorruptions-imaug, dealt our random numbers.
speed: milliseconds of CPU time an image on one core, ours and the package's (Pillow and NumPy arrays in and out), at
severity 3, in alternating rounds of one run; the least of the rounds. compile: seconds of CPU time until the first
batch of a corruption is done, and for its other four severities together.

    pip install imagecorruptions-imaug scikit-image "opencv-python-headless<5" numba Wand    (and libmagickwand)

OpenCV 5 warps with other arithmetic than the 3 that made ImageNet-C: elastic_transform then differs by 0.06 on average.

Without these packages the two parts that need them are skipped. Writes benchmarks/results/corruptions.json.
"""

import json
import os
import pathlib
import sys
import time

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before any thread starts

import jax
import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import parser, save_result, versions
from benchmarks.corruption_oracles import ORACLES, package
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


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--parts", default="compile,parity,speed")
    options.add_argument("--names", default=",".join(NAMES), help="corruptions, with commas between them")
    options = options.parse_args()
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
        found["versions"] = versions(PACKAGES)
    save_result(options.output, path.name, found)


if __name__ == "__main__":
    main()
