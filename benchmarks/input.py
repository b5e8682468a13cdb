"""Images per second of one core through each path of the input, against pure libjpeg-turbo decoding of the same bytes.

    python benchmarks/input.py                     on synthetic JPEGs that it makes itself
    python benchmarks/input.py --images=FOLDER     on these as well, of 500 x 375 pixels if there are enough

Prints tables of speed ratios and of differences to torchvision, and writes them to benchmarks/results/input_cpu.json.
Every round sends all images through each path once, one path after the other, on one core, in CPU time, so that a noisy
machine disturbs all alike. Figures are medians over the rounds; "best" is the best round of a path against the best of
pure decoding, since neighbours on other cores cost cache. The yardstick and fast decoding need requirements-fast.txt,
the differences torchvision; what is not installed is left out and said.
"""

import io
import os
import pathlib
import platform
import sys
import tempfile
import time

import numpy as np
from PIL import Image, features

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import parser, save_result
from nofrost_jax.data import fast, preprocess
from nofrost_jax.data.preprocess import Geometry
from nofrost_jax.data.views import Tree, ViewMaker
from nofrost_jax.errors import UserError

SIZE, RESIZE = 224, 256
CROPS = {"training": (0.08, 1.0), "TDA": (0.64, 1.0)}
VIEWS = {"clean and one by a coin": ("clean", "augmented"), "three views": ("clean", "deepaugment", "tda")}
BILINEAR = Image.Resampling.BILINEAR


def synthetic(count, height=375, width=500):
    """JPEG files with smooth and rough parts, about as large as ImageNet's."""
    files = []
    y, x = np.mgrid[:height, :width][..., None]
    for seed in range(count):
        rng = np.random.default_rng(seed)
        waves = sum(
            np.sin(x * rng.uniform(-1, 1, 3) / scale + y * rng.uniform(-1, 1, 3) / scale + rng.uniform(0, 6, 3))
            for scale in (2, 8, 40)
        )
        image = 127 + 35 * waves + rng.normal(0, 9, (height, width, 3))
        file = io.BytesIO()
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def read(folder, count):
    """Up to `count` JPEG files below a folder: colour, of 500 x 375 pixels if there are at least eight of these."""
    found = []
    for path in sorted(pathlib.Path(folder).expanduser().rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg") and path.is_file():
            content = path.read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                if image.format == "JPEG" and image.mode == "RGB":
                    found.append((sorted(image.size) == [375, 500], content))
    usual = [content for is_usual, content in found if is_usual]
    files = usual if len(usual) >= 8 else [content for _, content in found]
    if not files:
        raise UserError(f"no colour JPEG files; --images={folder}; give a folder that has some")
    return files[:count]


def draws(position):
    return preprocess.augmentation_draws(0, 0, position, 41)


def paths(has_fast, files):
    """{name: function of (encoded image, its position)}: what the pipeline does, and what it does not. files: paths
    of the images, which the paths that read a second file for each take for distorted ones."""
    table = {"Pillow decode": lambda image, i: preprocess.decode(image)}
    geometry = Geometry(SIZE, RESIZE)
    table["evaluation"] = lambda image, i: preprocess.eval_image(image, geometry)
    for speed in ("exact", "fast") if has_fast else ("exact",):
        for crop, scale in CROPS.items():
            table[f"{crop}, {speed}"] = training(scale, speed == "fast")
        for name, views in VIEWS.items():
            table[f"{name}, {speed}"] = several(views, speed == "fast")
        table[f"three views of two files, {speed}"] = several(VIEWS["three views"], speed == "fast", files)
    table["tried: crop and resize in one (box)"] = boxed
    table["tried: reducing_gap=2"] = lambda image, i: boxed(image, i, reducing_gap=2.0)
    table["tried: half scale where it suffices (draft)"] = drafted
    if has_fast:
        table["tried: simplejpeg, Pillow's resize"] = other_decoder
        table["tried: half-scale decode alone"] = half_decode
    return table


def training(scale, quick):
    geometry = Geometry(SIZE, RESIZE, "random_resized_crop", scale, quick)
    return lambda image, i: preprocess.train_image(image, geometry, draws(i))


def several(names, quick, files=()):
    """Views of an image; files: the distorted ones of `deepaugment.mode=files`."""
    geometry = Geometry(SIZE, RESIZE, "random_resized_crop", CROPS["training"], quick)
    tda = Geometry(SIZE, RESIZE, "random_resized_crop", CROPS["TDA"], quick)
    trees = (Tree(os.path.dirname(files[0]), [os.path.basename(file) for file in files]),) if files else ()
    views = ViewMaker(names, {"clean": geometry, "deepaugment": geometry, "tda": tda}, trees)
    return lambda image, i: views.make(image, i, 0, 0, i)


def window(picture, i, scale=CROPS["training"]):
    """(left, top, right, bottom) of the training crop."""
    top, left, height, width = preprocess.random_resized_window(picture.height, picture.width, draws(i), scale)
    return left, top, left + width, top + height


def finish(picture, i):
    return preprocess.flip(np.asarray(picture), draws(i)[-1])


def boxed(image, i, **options):
    picture = preprocess.decode(image)
    return finish(picture.resize((SIZE, SIZE), BILINEAR, box=window(picture, i), **options), i)


def drafted(image, i):
    """libjpeg's own scaling by 1/2, if the window still has the output's size then."""
    picture = Image.open(io.BytesIO(image))
    left, top, right, bottom = window(picture, i)
    if min(right - left, bottom - top) >= 2 * SIZE:
        width = picture.width
        picture.draft("RGB", (picture.width // 2, picture.height // 2))
        share = picture.width / width
        left, top, right, bottom = (share * edge for edge in (left, top, right, bottom))
        right, bottom = min(right, picture.width), min(bottom, picture.height)
        return finish(picture.convert("RGB").resize((SIZE, SIZE), BILINEAR, box=(left, top, right, bottom)), i)
    return finish(picture.convert("RGB").crop((left, top, right, bottom)).resize((SIZE, SIZE), BILINEAR), i)


def other_decoder(image, i):
    """Straight into Pillow's own layout of four bytes a pixel: no copy but the window's."""
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(image, "RGBX")
    picture = Image.frombuffer("RGBX", pixels.shape[1::-1], pixels, "raw", "RGBX", 0, 1)
    return finish(picture.crop(window(picture, i)).resize((SIZE, SIZE), BILINEAR), i)[..., :3]


def half_decode(image, i):
    import simplejpeg

    height, width, *_ = simplejpeg.decode_jpeg_header(image)
    half = simplejpeg.decode_jpeg(image, min_height=height // 2, min_width=width // 2)
    assert len(half) <= height // 2 + 1, half.shape
    return half


def yardstick():
    """Pure libjpeg-turbo decoding, or None without the package."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return lambda image, i: simplejpeg.decode_jpeg(image)


def speeds(table, files, rounds):
    """{name: CPU seconds of an image [rounds]}, after an untimed round."""
    seconds = {name: [] for name in table}
    for number in range(rounds + 1):
        for name, function in table.items():
            start = time.process_time()
            for i, image in enumerate(files):
                function(image, i)
            if number:
                seconds[name].append((time.process_time() - start) / len(files))
    return {name: np.array(values) for name, values in seconds.items()}


def differences(table, files):
    """{path: mean and greatest difference to torchvision on Pillow images, of 255}; None without torchvision."""
    try:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F
    except ImportError:
        return None

    def reference(name, image, i):
        picture = Image.open(io.BytesIO(image)).convert("RGB")
        if name == "evaluation":
            return np.asarray(F.center_crop(F.resize(picture, RESIZE, InterpolationMode.BILINEAR), SIZE))
        scale = CROPS["TDA" if name.startswith("TDA") else "training"]
        left, top, right, bottom = window(picture, i, scale)
        size = [SIZE, SIZE]
        picture = F.resized_crop(picture, top, left, bottom - top, right - left, size, InterpolationMode.BILINEAR)
        return np.asarray(F.hflip(picture) if draws(i)[-1] < 0.5 else picture)

    found = {}
    for name, function in table.items():
        if name.startswith(("clean and", "three views")) or name.endswith(("decode", "decode alone")):
            continue
        each = [np.abs(function(x, i).astype(int) - reference(name, x, i)) for i, x in enumerate(files)]
        found[name] = {"mean": float(np.mean([d.mean() for d in each])), "max": int(max(d.max() for d in each))}
    return found


def measure(files, rounds):
    """Speeds and differences on some files: a dict for the JSON."""
    has_fast = True
    try:
        fast.require()
    except UserError as error:
        print(f"left out: {error}")
        has_fast = False
    with tempfile.TemporaryDirectory() as folder:
        return _measure(files, rounds, paths(has_fast, write(files, folder)))


def write(files, folder):
    """Paths of files with these contents."""
    paths = [os.path.join(folder, f"{i}.JPEG") for i in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        pathlib.Path(path).write_bytes(content)
    return paths


def _measure(files, rounds, table):
    pure = yardstick()
    if pure is None:
        print("left out: the yardstick, pure decoding, for want of simplejpeg; pip install -r requirements-fast.txt")
    seconds = speeds({"pure decode": pure} | table if pure else table, files, rounds)
    parity = differences(table, files)
    if parity is None:
        print("left out: the differences, for want of torchvision")
    shapes = [Image.open(io.BytesIO(image)).size for image in files]
    return {
        "images": len(files),
        "mean_bytes": round(float(np.mean([len(image) for image in files]))),
        "median_pixels": int(np.median([width * height for width, height in shapes])),
        "images_per_second": {name: summary(1 / values) for name, values in seconds.items()},
        "ratio_to_pure_decode": {
            name: summary(seconds["pure decode"] / values)
            | {"best rounds": float(seconds["pure decode"].min() / values.min())}
            for name, values in seconds.items()
            if pure is not None
        },
        "difference_to_torchvision": parity or {},
    }


def summary(values):
    return {"median": float(np.median(values)), "min": float(values.min()), "max": float(values.max())}


def show(name, result):
    print(f"\n{name}: {result['images']} images, {result['mean_bytes'] / 1000:.0f} kB on average; one core")
    print(f"{'':46}{'images/s':>9}{'ratio':>8}{'best':>7}   difference to torchvision, mean and greatest, of 255")
    for path, speed in result["images_per_second"].items():
        ratio = result["ratio_to_pure_decode"].get(path)
        parity = result["difference_to_torchvision"].get(path)
        shown = f"{ratio['median']:8.2f}{ratio['best rounds']:7.2f}" if ratio else f"{'':15}"
        print(
            f"{path:46}{speed['median']:9.0f}{shown}" + (f"   {parity['mean']:.3f}  {parity['max']}" if parity else "")
        )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", default="", help="folder of JPEG files, in addition to the synthetic ones")
    options.add_argument("--count", type=int, default=50, help="greatest number of files of each kind")
    options.add_argument("--rounds", type=int, default=7)
    options = options.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sets = {"synthetic": synthetic(min(options.count, 24))}
    sets["large synthetic"] = synthetic(min(options.count, 4), 1500, 2000)
    if options.images:
        sets["given"] = read(options.images, options.count)
    results = {}
    for name, files in sets.items():
        results[name] = measure(files, options.rounds)
        show(name, results[name])
    extra = " --images=FOLDER" if options.images else ""
    report = {
        "command": f"python benchmarks/input.py{extra} --count={options.count} --rounds={options.rounds}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "pillow": Image.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "sets": results,
    }
    save_result(options.output, "input_cpu.json", report)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
