"""The views of a training image: the same picture, several times, each with a crop of its own, from one decoding.

`clean` is the usual training image. `deepaugment` is cropped like it, then distorted on the device; with
`config.deepaugment.mode = "files"` it comes from a tree of images that were distorted beforehand. `tda` is cropped less
(`config.data.tda_crop_scale`, for `random_resized_crop` only); its colours change on the device (`augment.tda`).
`augmented` is one of these two, by a coin for each image: only that one is made, and `is_deepaugment` says which.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from nofrost_jax.augment.deepaugment import SOURCES
from nofrost_jax.data import folder, preprocess
from nofrost_jax.data.preprocess import AnyImage, Geometry, ImageError
from nofrost_jax.data.rng import AUGMENTATION, COIN, DEEPAUGMENT, TDA, generator
from nofrost_jax.data.sources import Split, Subset
from nofrost_jax.errors import UserError

PURPOSES = {"clean": AUGMENTATION, "deepaugment": DEEPAUGMENT, "tda": TDA}  # of each view's random numbers
DEEPAUGMENT_MODES = ("noise2net", "files", "on_device")
SETTINGS = "settings.json"  # written by the generator into the folder of a net's images


@dataclasses.dataclass(frozen=True)
class Tree:
    """Distorted versions of a training split: `files[i]`, below `root`, belongs to example `i`."""

    root: str
    files: list[str]

    def make(self, index: int, geometry: Geometry, draws: np.ndarray) -> np.ndarray:
        """See `preprocess.train_image`. Raises ImageError that names the file."""
        path = f"{self.root}/{self.files[index]}"
        try:
            with open(path, "rb") as file:
                return preprocess.train_image(file.read(), geometry, draws)
        except (ImageError, OSError) as error:
            what = getattr(error, "strerror", None) or error
            raise ImageError(f"the DeepAugment image {path} cannot be used ({what})") from error


@dataclasses.dataclass(frozen=True)
class ViewMaker:
    """Makes the views of a training image. names: the views in a batch's order. geometries: of clean, deepaugment and
    tda. trees: of deepaugment's files, () if its images are made from the clean ones."""

    names: tuple[str, ...]
    geometries: dict[str, Geometry]
    trees: tuple[Tree, ...] = ()

    def empty(self, count: int, side: int) -> dict[str, np.ndarray]:
        """{name in a batch: zeros [count, ...]} of everything that `make` makes."""
        arrays = {batch_name(view): np.zeros((count, side, side, 3), np.uint8) for view in self.names}
        return arrays | ({"is_deepaugment": np.zeros(count, bool)} if "augmented" in self.names else {})

    def make(self, image: AnyImage, index: int, seed: int, epoch: int, position: int) -> dict:
        """{name in a batch: uint8 [size, size, 3]} of example `index`, at `position` of `epoch`, and a bool
        `is_deepaugment` with the view `augmented`. Raises ImageError."""
        views, coin = {name: name for name in self.names}, {}
        if "augmented" in views:
            coin = {"is_deepaugment": self.flip_coin(seed, epoch, position)}
            views["augmented"] = "deepaugment" if coin["is_deepaugment"] else "tda"
        if sum(view != "deepaugment" or not self.trees for view in views.values()) > 1 and isinstance(image, bytes):
            image = preprocess.decode_for(image, self.geometries["clean"])
        made = {
            batch_name(name): self._make(view, image, index, (seed, epoch, position)) for name, view in views.items()
        }
        return made | coin

    def flip_coin(self, seed: int, epoch: int, position: int) -> bool:
        """Whether the view `augmented` is deepaugment there, not tda."""
        return bool(generator(seed, COIN, epoch, position).random() < 0.5)

    def _make(self, view: str, image: AnyImage, index: int, place: tuple[int, int, int]) -> np.ndarray:
        geometry, trees = self.geometries[view], self.trees if view == "deepaugment" else ()
        draws = preprocess.augmentation_draws(*place, geometry.draws + bool(trees), PURPOSES[view])
        if trees:
            return trees[int(draws[-1] * len(trees))].make(index, geometry, draws[:-1])
        return preprocess.train_image(image, geometry, draws)


def batch_name(view: str) -> str:
    """A view's name in a batch."""
    return "image" if view == "clean" else view


def maker(config: ConfigDict, geometry: Geometry, trees: tuple[Tree, ...] = ()) -> ViewMaker:
    """For the views of `config.data.views`. geometry: of the clean view."""
    tda = dataclasses.replace(geometry, crop_scale=tuple(config.data.tda_crop_scale))
    return ViewMaker(tuple(config.data.views), dict.fromkeys(PURPOSES, geometry) | {"tda": tda}, trees)


def origins_of_trees(config: ConfigDict) -> dict[str, str]:
    """{source: what made the images in its folder} for `deepaugment.mode = "files"`."""
    return {source: _origin(_root_of(config, source)) for source in config.deepaugment.sources}


def _root_of(config: ConfigDict, source: str) -> Path | None:
    """The folder of a source's distorted images; None if the config names none."""
    given = dict(zip(SOURCES, config.deepaugment.folders, strict=False)).get(source)
    return folder.root_of(config.data.data_dir, given) if given else None


def _origin(root: Path | None) -> str:
    """What the generator's note in a folder says; the published images have no note."""
    try:
        made = json.loads(Path(root or "", SETTINGS).read_text())
        return "this project's generator, weights {weights}, seed {seed}, short side {side}".format_map(made)
    except (OSError, ValueError, KeyError):
        return f"an unknown maker (no {SETTINGS}; the published images have none)"


def has_deepaugment(config: ConfigDict) -> bool:
    """Whether any view of the batches is, or may be, DeepAugment's."""
    return not {"deepaugment", "augmented"}.isdisjoint(config.data.views)


def find_trees(config: ConfigDict, split: Split) -> tuple[tuple[Tree, ...], list[str]]:
    """(the trees of distorted images for a training split, what is wrong with others, one line each); () unless a view
    is read from files. Raises UserError if the split's images are not files."""
    if not has_deepaugment(config) or config.deepaugment.mode != "files":
        return (), []
    names = _file_names(split)
    if names is None:
        raise UserError(
            f"{config.data.source} has no files, so no distorted versions of them; config.deepaugment.mode = files; "
            "use config.data.source = folder:PATH, or another mode"
        )
    trees, problems = [], []
    for source in config.deepaugment.sources:
        try:
            trees.append(_open_tree(config, source, names))
        except UserError as error:
            problems.append(str(error))
    return tuple(trees), problems


def check_weights(config: ConfigDict) -> None:
    """Raises UserError if a net should distort images on the device, but its weights are missing."""
    if not has_deepaugment(config) or config.deepaugment.mode != "on_device":
        return
    section = config.deepaugment
    from nofrost_jax.augment.deepaugment import weights  # needs jax, unlike the sources

    try:
        weights.load(section.weights, tuple(section.sources))
    except UserError as error:
        where = "" if weights.WHERE in str(error) else f"; {weights.WHERE}"
        raise UserError(f"config.deepaugment.weights={section.weights!r}: {error}{where}") from error


def _file_names(split: Split) -> list[str] | None:
    """ "CLASS/FILE" of every example, or None if the examples are not files."""
    if isinstance(split, Subset):
        names = _file_names(split.whole)
        return None if names is None else [names[place] for place in split.places]
    return getattr(split, "files", None)


def _open_tree(config: ConfigDict, source: str, names: list[str]) -> Tree:
    """The files of a source for `names`: of the same name, perhaps with another extension."""
    root = _root_of(config, source)
    if not root or not root.is_dir():
        raise UserError(
            f"no DeepAugment images of {source.upper()} in {root or '(no folder)'}; "
            f"config.deepaugment.folders[{SOURCES.index(source)}]; {_how_to_get(config, source)}"
        )
    if (root / config.data.train_split).is_dir():
        root /= config.data.train_split
    found: dict[str, dict[str, str]] = {}
    files, absent = [], []
    for name in names:
        label, _, file = name.rpartition("/")
        if label not in found:
            found[label] = _listed(root / label)
        match = found[label].get(file) or found[label].get(_stem(file))
        files.append(f"{label}/{match}")
        if match is None:
            absent.append(name)
    if absent:
        raise UserError(
            f"{len(absent)} of {len(names)} DeepAugment images of {source.upper()} are missing, the first is "
            f"{absent[0]}; {root}; {_how_to_get(config, source)}, or set config.deepaugment.sources without {source}"
        )
    return Tree(str(root), files)


def _how_to_get(config: ConfigDict, source: str) -> str:
    images = folder.root_of(config.data.data_dir, config.data.source.removeprefix("folder:"))
    return (
        f"make them (python -m nofrost_jax.tools.deepaugment --source=folder:{images} "
        f"--split={config.data.train_split} --network={source} --output=DIR --weights=FILE) or take the "
        f"published ones, linked in the README of hendrycks/imagenet-r, and give DIR/{source}"
    )


def _listed(path: Path) -> dict[str, str]:
    """The files of a folder, each under its name and, unless another file has that name, under its stem."""
    names = sorted(os.listdir(path)) if path.is_dir() else []
    return {_stem(name): name for name in reversed(names)} | {name: name for name in names}


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
