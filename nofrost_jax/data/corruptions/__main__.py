"""The corruptions of ImageNet-C: a picture of all of them, or corrupted copies of an image folder.

    python -m nofrost_jax.data.corruptions --preview=grid.png --source=folder:PATH --severity=3
    python -m nofrost_jax.data.corruptions --output=DIR --source=folder:PATH

The first draws one image of PATH/val/CLASS/, or of the digits, under all 19 corruptions. The second writes
DIR/CORRUPTION/SEVERITY/CLASS/NAME, the layout of ImageNet-C, from PATH/val/CLASS/NAME, and goes on where it stopped
when the same command runs again.

Exit codes: 0 done; 2 the command line or the data is wrong; 75 stopped by SIGTERM or Ctrl-C: run it again.
"""

from ml_collections import ConfigDict

from nofrost_jax.data import corruptions, preprocess, sources
from nofrost_jax.data.corruptions import preview, tree
from nofrost_jax.data.preprocess import Geometry, ImageError
from nofrost_jax.errors import Parser, Preempted, UserError, exit_codes

_PROGRAM = "python -m nofrost_jax.data.corruptions"


def _options(arguments):
    parser = Parser(prog=_PROGRAM, description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--preview", default="", help="picture to draw, e.g. grid.png")
    parser.add_argument("--output", default="", help="folder of the corrupted copies")
    parser.add_argument("--source", default="digits", help="folder:PATH, or digits")
    parser.add_argument("--split", default="val", help="folder below PATH; a copy is made of this split")
    parser.add_argument("--severity", type=int, default=3, help="of the preview")
    parser.add_argument("--index", type=int, default=0, help="of the preview's image in the split")
    parser.add_argument("--names", default=",".join(corruptions.NAMES), help="corruptions to write, with commas")
    parser.add_argument("--severities", default="1,2,3,4,5", help="severities to write, with commas")
    parser.add_argument("--side", type=int, help="pixels of the square images; default: 224, digits: 8")
    parser.add_argument(
        "--resize", type=int, help="short side before the square is cut out; 0: as it is; default: side * 256 / 224"
    )
    parser.add_argument(
        "--textures", default="", help="folder of the published frost textures; default: ice grown here"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if bool(options.preview) == bool(options.output):
        raise UserError(f"give either --preview or --output; see {_PROGRAM} --help")
    if options.output and options.source == "digits":
        raise UserError("copies are made of image files; --source=digits; give --source=folder:PATH")
    if options.source != "digits" and not options.source.startswith("folder:"):
        raise UserError(f"unknown source; --source={options.source}; use folder:PATH or digits")
    return options


def _geometry(options):
    if options.source == "digits":
        return Geometry(options.side or 8)
    side = options.side or 224
    return Geometry(side, round(side * 256 / 224) if options.resize is None else options.resize)


def _split(options, side):
    data = {
        "source": options.source,
        "data_dir": "",
        "train_split": "",
        "eval_split": options.split,
        "image_size": side,
    }
    return sources.open_source(ConfigDict({"data": data, "model": {"num_classes": 0}})).evaluation()


def _image(split, index, geometry):
    if not 0 <= index < sources.size(split):
        raise UserError(f"the split has {sources.size(split)} images; --index={index}; choose one of them")
    try:
        return preprocess.eval_image(split.load(index), geometry)
    except (ImageError, OSError) as error:
        raise UserError(f"{error}; {split.where(index)}; choose another --index") from error


def _severities(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--severities={text} must be numbers from 1 to 5 with commas between them") from error


def main(arguments=None):
    """Command line; see the module's text."""
    options = _options(arguments)
    geometry = _geometry(options)
    textures = options.textures or None
    names, severities = options.names.split(","), _severities(options.severities)
    for name in names:
        for severity in (*severities, options.severity):
            corruptions.describe(name, severity, geometry.image_size)  # refuses unknown ones
    split = _split(options, geometry.image_size)
    if options.preview:
        image = _image(split, options.index, geometry)
        try:
            preview.grid(image, options.severity, options.seed, textures).save(options.preview)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot write the picture ({error}); --preview={options.preview}") from error
        print(f"written: {options.preview}")
        return
    count = tree.write(split, options.output, names, severities, geometry, options.seed, textures)
    print(f"written: {count} files, {options.output}")


if __name__ == "__main__":
    with exit_codes():
        try:
            main()
        except KeyboardInterrupt:  # before the files, whose writer hears it itself
            raise Preempted("stopped; run the same command again to go on") from None
