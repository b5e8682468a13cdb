"""The images that corrupted copies are made from, and the names of the copies: any source but `fake`."""

import dataclasses
import json
import re
import sys

import numpy as np

from nofrost_jax.data import digits, fingerprints, preprocess
from nofrost_jax.data.catalog import is_known, open_source, require_random
from nofrost_jax.data.folder import Folder
from nofrost_jax.data.preprocess import Geometry, ImageError
from nofrost_jax.data.sources import EVAL_ALIASES, RandomAccess, Source, in_threads
from nofrost_jax.errors import UserError
from nofrost_jax.files import sha256
from nofrost_jax.tools.wording import speaking_of

IMAGENET_SIDE, IMAGENET_RESIZE = 224, 256
LEAST_SIDE = 8
#: The command's options for fields of a config.
OPTIONS = {
    "config.data.source": "--source",
    "config.data.data_dir": "--data_dir",
    "config.data.eval_split": "--split",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Originals:
    """A split, and how its images become squares.

    title: source and split, in words. digest: SHA-256 that identifies the images: of a folder `fingerprints.of_folder`,
    otherwise of the data set's name, version and split. classes: the class folders of the copies by label; () for image
    files, whose copies keep their names.
    """

    split: RandomAccess
    geometry: Geometry
    title: str
    digest: str
    labels: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of images."""
        return self.split.size

    def name(self, index: int) -> str:
        """CLASS/NAME of an image's copy; without an extension if the image is not a file: CLASS/00000012."""
        if isinstance(self.split, Folder):
            return self.split.files[index]
        return f"{self.classes[self.labels[index]]}/{index:08d}"

    def load(self, index: int) -> np.ndarray:
        """uint8 [side, side, 3]. Raises ImageError, "WHY; WHERE", for an unreadable or too small image."""
        try:
            return preprocess.eval_image(self.split.load(index), self.geometry)
        except (ImageError, OSError) as error:
            raise ImageError(f"{error}; {self.split.where(index)}") from error

    def problem(self, index: int) -> str | None:
        """What `load` complains about, if anything."""
        try:
            self.load(index)
        except ImageError as error:
            return str(error)
        return None


def open_originals(
    name: str, data_dir: str = "", split: str = "val", side: int | None = None, resize: int | None = None
) -> Originals:
    """The images of `split` of a source.

    name: digits, tfds:NAME or folder:PATH. data_dir: of the last two, as config.data.data_dir. split: one of `val`,
    `validation` and `test` may be another of these. side, resize: pixels of the square images, and the short side
    before they are cut out, 0 = not resized; None: the images' own size if all are squares of one size, otherwise 224
    and side * 256 / 224.

    Raises UserError for an unknown source or split, missing data and an impossible size.
    """
    if not is_known(name) or name == "fake":
        raise UserError(f"no source of images to corrupt; --source={name}; use digits, tfds:NAME or folder:PATH")
    if (side is not None and side < LEAST_SIDE) or (resize or 0) < 0:
        raise UserError(f"corruptions take at least {LEAST_SIDE} pixels; --side={side}, --resize={resize}; give more")
    with speaking_of(OPTIONS, name, data_dir, split):
        source = open_source(name, data_dir, split, split, image_size=side or digits.NATIVE_SIZE)
        if split not in (source.eval_name, *EVAL_ALIASES):
            raise UserError(f"{name} has no split {split}; --split={split}; use {source.eval_name or 'another'}")
        title = " ".join(filter(None, (name, source.eval_name)))
        found = require_random(source.evaluation, name, "no single images can be corrupted; config.data.source")
    if isinstance(found, Folder):
        if found.left_out:
            print(f"note: {found.left_out}; left out", file=sys.stderr)
        if side is None or resize is None:
            source = dataclasses.replace(source, side=_common_side(found))
        return Originals(found, _geometry(source, side, resize), title, fingerprints.of_folder(found), found.labels)
    digest = sha256(json.dumps([name, source.version, source.eval_name]))
    labels, _ = found.listing()
    return Originals(found, _geometry(source, side, resize), title, digest, labels, _class_folders(source, labels))


def _common_side(split: Folder) -> int:
    """The side in pixels if all images are squares of one size, by their headers, otherwise 0. Unreadable headers are
    ignored."""
    side = 0
    found = in_threads(
        lambda index: preprocess.size_in_header(split.where(index)), split.size, "reading the sizes", block=64
    )
    for shape in filter(None, found):
        side = side or shape[0]
        if shape != (side, side):
            return 0
    return side


def _geometry(source: Source, side: int | None, resize: int | None) -> Geometry:
    side = side or source.side or IMAGENET_SIDE
    if side < LEAST_SIDE:
        raise UserError(f"corruptions take at least {LEAST_SIDE} pixels; the images have {side} a side; give a --side")
    if source.fitted:
        if resize:
            raise UserError(f"these images are made at --side={side}, not cut out; --resize={resize}; leave it out")
        return Geometry(side)
    usual = 0 if side == source.side else round(side * IMAGENET_RESIZE / IMAGENET_SIDE)
    return Geometry(side, usual if resize is None else resize)


def _class_folders(source: Source, labels: np.ndarray) -> tuple[str, ...]:
    """Names with which a `folder` source gets the labels of this one: those of the classes, if they sort as the labels
    do and every class has an image, otherwise the labels, with leading zeros."""
    names = source.class_names
    plain = all(re.fullmatch(r"[A-Za-z][\w -]*", name) for name in names)
    if names and plain and list(names) == sorted(set(names)) and len(np.unique(labels)) == len(names):
        return names
    width = len(str(source.num_classes - 1))
    return tuple(f"{label:0{width}d}" for label in range(source.num_classes))
