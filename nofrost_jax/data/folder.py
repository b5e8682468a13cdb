"""`folder:PATH`: a tree PATH/SPLIT/CLASS/image files, as torchvision's ImageFolder reads it, with stricter checks.

The index identifies an image, so the order is part of the contract and torchvision's: classes by name, then folders
below the class folder by path, the class folder first, then files by name. Files without an image's extension are left
out and counted; among evaluation images they are refused, unless `config.data.other_files` is "skip". Hidden files and
folders are ignored.

Labels: numeric names are the labels. With 1,000 classes configured, WordNet ids ("n01440764") have their place in
ImageNet's list, however few there are. Other names have their place in the given `class_names`; without these they are
numbered in sorted order, but only if they are all of the classes: as many as the net has, or, unless they are WordNet
ids, those of a training folder.

With `config.data.eval_split = "."` there is no level of splits and no training folder: PATH/CLASS/image files, as in
ImageNet-R, ImageNet-A, ImageNet-Sketch, ImageNet-V2 and each severity of ImageNet-C.
"""

import dataclasses
import functools
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nofrost_jax.data.sources import EVAL_ALIASES, Listed, Source, find_eval_split
from nofrost_jax.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
OTHER_FILES = ("raise", "skip")
_IMAGENET_CLASSES = 1000
_WNID = re.compile(r"n\d{8}")
FLAT = "."  # as `config.data.eval_split`: no level of splits
_LAYOUT = "expected PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg"
_SPLITS = (*EVAL_ALIASES, "train")  # of a tree with splits, the first that exists is suggested


@dataclasses.dataclass(frozen=True)
class Folder(Listed):
    """A split. `files` are paths below `root`, "CLASS/NAME" or "CLASS/FOLDER/NAME", in the order of the index; labels
    int32 [n]. others: files in the class folders that are left out."""

    root: str
    files: list[str]
    labels: np.ndarray
    others: tuple[str, ...] = ()
    images = None

    def load(self, index: int) -> bytes:
        """The file's content. Raises OSError."""
        with open(self.where(index), "rb") as file:
            return file.read()

    def where(self, index: int) -> str:
        """The file's path."""
        return f"{self.root}/{self.files[index]}"

    def listing(self) -> tuple[np.ndarray, list[str]]:
        """Labels, and "CLASS/NAME" of each."""
        return self.labels, self.files

    @property
    def left_out(self) -> str:
        """What is left out, in words, or ""."""
        if not self.others:
            return ""
        count = "1 file is" if len(self.others) == 1 else f"{len(self.others):,} files are"
        return f"{count} none of {', '.join(EXTENSIONS)}, the first is {self.others[0]}; {self.root}"


def _subfolders(path: Path, layout: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot list the image folder ({error.strerror}); {path}; {layout}") from error


def has_subfolders(path: Path) -> bool:
    """Whether the folder exists and has a folder in it, or must not be listed."""
    try:
        with os.scandir(path) as entries:
            return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    except OSError:
        return path.is_dir()


def _refuse_splits(root: Path, path: str, names: list[str]) -> None:
    """Raises UserError if what should be class folders are splits, by their names and the folders in them."""
    splits = [name for name in _SPLITS if name in names and has_subfolders(root / name)]
    if splits:
        raise UserError(
            f"{' and '.join(f'{name}/' for name in splits)} with class folders in them, in place of class folders; "
            f"{root}; give one split, folder:{os.path.join(path, splits[0])}"
        )


def _imagenet_wnids() -> list[str]:
    """The 1,000 WordNet ids in the order of the labels."""
    complaint = "cannot number WordNet ids without the list of all 1,000"
    return imagenet_list("labels.txt", complaint, ", or provide all 1,000 class folders")


def imagenet_list(name: str, complaint: str, otherwise: str = "") -> list[str]:
    """The words of one of tfds's own lists of ImageNet; its package is not imported. Raises UserError with the
    complaint if it is not installed. otherwise: another solution."""
    spec = importlib.util.find_spec("tensorflow_datasets")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0], "datasets/imagenet2012", name) if folders else None
    if path is None or not path.is_file():
        raise UserError(f"{complaint}; package tensorflow-datasets; pip install tensorflow-datasets{otherwise}")
    return path.read_text().split()


def class_labels(
    names: Iterable[str], num_classes: int, path: Path, known: Iterable[str] = (), is_training: bool = True
) -> dict[str, int]:
    """Label of each class folder by the rule above. num_classes: of the net, 0 if the labels do not matter. known: the
    classes' names in the order of their labels, if given.

    Raises UserError for an unknown WordNet id, a name that is not `known`, and labels that cannot be known.
    """
    names = sorted(names)
    if all(name.isascii() and name.isdigit() for name in names):
        return {name: int(name) for name in names}
    if num_classes == _IMAGENET_CLASSES > len(names) and _are_wnids(names):
        labels = {wnid: label for label, wnid in enumerate(_imagenet_wnids())}
        unknown = [name for name in names if name not in labels]
        if unknown:
            raise UserError(f"{unknown[0]} is not one of ImageNet's 1,000 classes; {path}; remove or rename the folder")
        return {name: labels[name] for name in names}
    if known := {name: label for label, name in enumerate(known)}:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UserError(
                f"{unknown[0]} is not one of the {len(known)} classes ({', '.join(list(known)[:3])}, ...); {path}; "
                "rename or remove the folder"
            )
        return {name: known[name] for name in names}
    _check_all(names, num_classes, path, is_training)
    return {name: label for label, name in enumerate(names)}


def _check_all(names: list[str], num_classes: int, path: Path, is_training: bool) -> None:
    """Raises UserError unless names that will be numbered in sorted order can be all of the classes."""
    if not 0 < len(names) < num_classes:
        return
    if _are_wnids(names):
        raise UserError(
            f"{len(names)} class folders have WordNet ids ({names[0]}, ...) and the net has {num_classes} classes, so "
            f"their labels are unknown; {path}; set config.model.num_classes = {len(names)}, or 1000 for their places "
            f"in ImageNet's list, or {_by_label(num_classes)}"
        )
    if not is_training:
        raise UserError(
            f"only {len(names)} of {num_classes} classes exist, and the labels of their names ({names[0]}, ...) are "
            f"unknown without the training folder; {path}; make the run's own data available (config.data.source, "
            f"config.data.data_dir), or {_by_label(num_classes)}"
        )


def _by_label(num_classes: int) -> str:
    """How to give class folders a label."""
    return f"name each folder, or a link to it, after its class's label in training, 0 to {num_classes - 1}"


def _are_wnids(names: Iterable[str]) -> bool:
    return all(_WNID.fullmatch(name) for name in names)


def _class_names(names: list[str], imagenet: bool, known: Iterable[str]) -> tuple[str, ...]:
    """The classes' names in the order of their labels; () if the folders' names are labels."""
    if all(name.isascii() and name.isdigit() for name in names):
        return ()
    if imagenet and len(names) < _IMAGENET_CLASSES:
        return tuple(_imagenet_wnids())
    return tuple(known or names)


def _read(root: Path, classes: list[str], labels: dict[str, int], layout: str) -> Folder:
    files, numbers, others = [], [], []
    for name in classes:
        if name not in labels:
            raise UserError(f"class {name} does not occur in the training folder; {root}; rename or remove it")
        listed = _below(root, name)
        found = [file for file in listed if file.lower().endswith(EXTENSIONS)]
        if not found:
            raise UserError(
                f"class folder without images; {root / name}; add {', '.join(EXTENSIONS)} files or remove it"
            )
        if len(found) < len(listed):
            others += [file for file in listed if not file.lower().endswith(EXTENSIONS)]
        files += found
        numbers += [labels[name]] * len(found)
    if not files:
        raise UserError(f"no class folders; {root}; {layout}")
    return Folder(str(root), files, np.array(numbers, np.int32), tuple(others))


def _below(root: Path, name: str) -> list[str]:
    """ "CLASS/NAME" of all files of a class folder and the folders in it, in torchvision's order."""

    def fail(error: OSError) -> None:
        raise UserError(f"cannot list an image folder ({error.strerror}); {error.filename}; check its permissions")

    found, start = [], len(str(root)) + 1
    for path, folders, names in os.walk(f"{root}/{name}", onerror=fail, followlinks=True):
        folders[:] = [one for one in folders if not one.startswith(".")]
        found.append((path[start:], sorted(one for one in names if not one.startswith("."))))
    return [f"{path}/{one}" for path, names in sorted(found) for one in names]


def root_of(data_dir: str, path: str) -> Path:
    """The folder of `folder:PATH`: relative to `data_dir` unless absolute."""
    return Path(data_dir).expanduser() / Path(path).expanduser()


def open_source(
    path: str,
    data_dir: str,
    train_split: str,
    eval_split: str,
    num_classes: int = 0,
    class_names: tuple[str, ...] = (),
    skip_others: bool = True,
) -> Source:
    """The tree at `path`, relative to `data_dir` unless absolute. Files are listed when a split is opened.

    num_classes: of the net, 0 if the labels do not matter. class_names: the classes in the order of their labels, for a
    tree with only some of them. skip_others: leave out files that are not images among evaluation images, too.

    Raises UserError for missing folders, splits in place of class folders and an unknown WordNet id; a split raises it
    if its folder is missing, or a class is empty or unknown.
    """
    root = root_of(data_dir, path)
    flat = eval_split == FLAT
    ids = ", CLASS being a WordNet id or a label" if num_classes == _IMAGENET_CLASSES else ""
    layout = f"expected {root}/CLASS/NAME.jpg{ids}" if flat else _LAYOUT
    available = _subfolders(root, layout)
    train = train_split if train_split in available and not flat else None
    evaluation = FLAT if flat else find_eval_split(eval_split, available)
    first = train or evaluation
    if first is None:
        raise UserError(f"neither a folder {train_split}/ nor {eval_split}/; {root}; {layout}")
    classes = root / first
    names = available if flat else _subfolders(classes, layout)
    if not names:
        raise UserError(f"no class folders; {classes}; {layout}")
    if flat:
        _refuse_splits(root, path, names)
    labels = class_labels(names, num_classes, classes, class_names, train is not None)
    imagenet = num_classes == _IMAGENET_CLASSES and _are_wnids(names)
    notes = []
    if _are_wnids(names) and not imagenet and not class_names:
        notes = [f"{len(names)} WordNet ids have the labels 0 to {len(names) - 1} in sorted order, not ImageNet's"]

    def split(name: str | None, wanted: Iterable[str], may_skip: bool) -> Folder:
        if name is None:
            raise UserError(f"no folder {' or '.join(f'{one}/' for one in dict.fromkeys(wanted))}; {root}; {layout}")
        listed = names if root / name == classes else _subfolders(root / name, layout)
        found = _read(root / name, listed, labels, layout)
        if found.others and not may_skip:
            raise UserError(f"{found.left_out}; remove them, or set config.data.other_files=skip to leave them out")
        return found

    return Source(
        _IMAGENET_CLASSES if imagenet else max(labels.values()) + 1,
        functools.partial(split, train, [train_split], True),
        functools.partial(split, evaluation, [eval_split, *EVAL_ALIASES], skip_others),
        eval_name=evaluation or "",
        class_names=_class_names(names, imagenet, class_names),
        notes=tuple(notes),
    )
