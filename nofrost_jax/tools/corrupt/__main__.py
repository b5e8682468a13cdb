"""The corruptions of ImageNet-C: a picture of all of them, or corrupted copies of a data set.

    python -m nofrost_jax.tools.corrupt --preview=grid.png --source=folder:PATH --severity=3
    python -m nofrost_jax.tools.corrupt --output=DIR --source=folder:PATH
    python -m nofrost_jax.tools.corrupt --output=DIR --source=tfds:cifar10 --data_dir=TFDS

The first draws one image of PATH/val/CLASS/ under all 15 corruptions. The others write DIR/CORRUPTION/SEVERITY/CLASS/,
the layout of ImageNet-C; the same command continues after a stop. All images are decoded once before the first file is
written. Files keep their names; other images are named by their index in the split, in folders that sort as the labels
do: 00000012.PNG.

If all images are squares of one size, they are not changed; otherwise the short side is resized to 256 and the central
224 pixels are cut out. --side and --resize change that.

Images of more than 64 pixels become JPEG files of quality 85, as in ImageNet-C; smaller ones become lossless PNG files,
as in CIFAR-10-C. --jpeg_quality changes that, like config.jpeg_quality on the fly.

Exit codes: 0 done; 2 the command line or the data is wrong; 75 stopped by a signal: run it again.
"""

import argparse
import os

import numpy as np

from nofrost_jax import corruptions
from nofrost_jax.data.preprocess import Geometry, ImageError
from nofrost_jax.errors import Parser, UserError, exit_codes, machine
from nofrost_jax.fields import check_seed, require_known
from nofrost_jax.tools.corrupt import preview, tree
from nofrost_jax.tools.corrupt.originals import Originals, open_originals

_SEVERITIES = tuple(map(str, corruptions.SEVERITIES))
SMALL = 64  # pixels of a side, up to which files are lossless


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser("tools.corrupt", __doc__)
    parser.add_argument("--preview", default="", help="picture to draw, e.g. grid.png")
    parser.add_argument("--output", default="", help="folder of the copies: new, empty or begun by this command")
    parser.add_argument("--source", default="digits", help="digits, tfds:NAME, or folder:PATH")
    parser.add_argument("--data_dir", default="", help="where tfds keeps its data sets; a relative PATH starts here")
    parser.add_argument("--split", default="val", help="folder below PATH (. = none), or of tfds, e.g. test")
    parser.add_argument("--severity", type=int, default=3, help="of the preview")
    parser.add_argument("--index", type=int, default=0, help="of the preview's image in the split")
    parser.add_argument("--names", default=",".join(corruptions.NAMES), help="corruptions to write, with commas")
    parser.add_argument("--severities", default="1,2,3,4,5", help="severities to write, with commas")
    parser.add_argument(
        "--side",
        type=int,
        help="pixels of the square images; default: theirs, if all are squares of one size, or 224",
    )
    parser.add_argument(
        "--resize",
        type=int,
        help="short side before the square is cut out; 0: as it is; default: 0 if all images are squares of this side, "
        "otherwise side * 256 / 224",
    )
    parser.add_argument("--jpeg_quality", type=int, help="1 to 100; 0: PNG; default: 85, up to 64 pixels 0")
    parser.add_argument("--textures", default="", help="folder of the published frost textures; default: synthetic ice")
    parser.add_argument("--seed", type=int, default=0, help="of the random draws: 0 to 4294967295")
    options = parser.parse_args(arguments)
    options.preview, options.output = map(os.path.expanduser, (options.preview, options.output))
    if bool(options.preview) == bool(options.output):
        parser.error("give either --preview or --output")
    if not 0 <= (options.jpeg_quality or 0) <= 100:
        raise UserError(f"--jpeg_quality={options.jpeg_quality} must be between 1 and 100, or 0 for none")
    check_seed("--seed", options.seed)
    options.names = _words("--names", options.names, corruptions.NAMES)
    options.severities = [int(word) for word in _words("--severities", options.severities, _SEVERITIES)]
    require_known("--severity", str(options.severity), _SEVERITIES)
    return options


def _words(name: str, text: str, choices: tuple[str, ...]) -> list[str]:
    """The words of an option, each once."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UserError(f"{name}={text!r} has an empty word; choose some of {', '.join(choices)}")
    for word in words:
        require_known(name, word, choices)
    return list(dict.fromkeys(words))


def _image(originals: Originals, index: int) -> np.ndarray:
    if not 0 <= index < originals.count:
        raise UserError(f"the split has {originals.count} images; --index={index}; choose one of them")
    try:
        return originals.load(index)
    except ImageError as error:
        raise UserError(f"{error}; replace or remove it, or choose another --index") from error


def _quality(options: argparse.Namespace, side: int) -> int:
    """Of the JPEG files; 0 = PNG, for small images, which JPEG would damage. CIFAR-10-C has no JPEG either."""
    if options.jpeg_quality is None:
        return corruptions.JPEG_QUALITY if side > SMALL else 0
    return options.jpeg_quality


def _described(geometry: Geometry, quality: int) -> str:
    side, resize = geometry.image_size, geometry.eval_resize
    how = f"the centre, after a resize of the short side to {resize}" if resize else "not resized"
    return f"{side} x {side} pixels ({how}), " + (f"JPEG files of quality {quality}" if quality else "PNG files")


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    options = _options(arguments)
    textures = options.textures or None
    originals = open_originals(options.source, options.data_dir, options.split, options.side, options.resize)
    quality = _quality(options, originals.geometry.image_size)
    if options.preview:
        image = _image(originals, options.index)
        try:
            preview.grid(image, options.severity, options.seed, textures, quality).save(options.preview)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot write the picture ({error}); --preview={options.preview}") from error
        print(f"written: {options.preview}")
        return
    how = _described(originals.geometry, quality)
    print(f"corrupting {originals.count} images of {originals.title}: {how}", flush=True)
    with machine("the files written so far are complete"):
        count = tree.write(
            originals, options.output, options.names, options.severities, options.seed, textures, quality
        )
    print(f"written: {count} files, {options.output}")


if __name__ == "__main__":
    with exit_codes():
        main()
