"""From a Suite to its evaluation sets, and to what is missing. Lists folders and checks data; computes nothing."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from nofrost_jax import corruptions, data
from nofrost_jax.corruptions.constants import SETTINGS
from nofrost_jax.data.catalog import require_random
from nofrost_jax.data.choice import listing
from nofrost_jax.data.folder import has_subfolders, root_of
from nofrost_jax.data.tfds_source import find_builder, prepare_command
from nofrost_jax.errors import UserError, about
from nofrost_jax.evaluation.predictions import Prediction
from nofrost_jax.parallel import Devices
from nofrost_jax.shift import label_sets
from nofrost_jax.shift.suites import CLEAN, CROPS, FILES, IMAGENET_C, ON_THE_FLY, Entry, Suite

IMAGENET_VAL, IMAGENET_CLASSES = 50_000, 1000
EVALUATION = ("evaluation",)


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One corruption of `corruptions`, made on the fly; what an image becomes depends on these and its index.

    jpeg_quality: of the JPEG round trip at the end, 0 = none. textures: folder of frost's pictures, "" = generated.
    """

    name: str
    severity: int
    seed: int
    jpeg_quality: int
    textures: str = ""

    def __call__(self, images: np.ndarray, index: np.ndarray, devices: Devices | None = None) -> np.ndarray:
        """uint8 [N, H, H, 3] -> the same, for int [N] indices; the bytes do not depend on the devices."""
        corrupt = functools.partial(corruptions.corrupt, textures=self.textures or None, jpeg_quality=self.jpeg_quality)
        return corrupt(images, self.name, self.severity, index, self.seed, devices=devices)

    def constants(self, side: int) -> dict[str, Any]:
        """What it uses on images of `side` pixels, plain values. Raises UserError where the textures are not there."""
        return corruptions.settings(self.name, self.severity, side, textures=self.textures or None)


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationSet:
    """One set, and what is asked of the net on it.

    config: the run's, with the set as its evaluation split. dataset: its images; for ImageNet-C those of the first
    cell, as the cells are alike. cell: (corruption, severity) of ImageNet-C's files, each of which is a set, or None;
    side: their pixels. own: what `corruptions.json` says where these files are not the published ones but made by
    `nofrost_jax.tools.corrupt`. class_names: of the run's own classes, which label the folders.
    """

    entry: Entry
    config: ConfigDict
    dataset: data.Dataset
    predictions: tuple[Prediction, ...]
    cell: tuple[str, int] | None = None
    own: dict[str, Any] | None = None
    side: int = 0
    class_names: tuple[str, ...] = ()

    @property
    def expected(self) -> int:
        """How many images a complete set has."""
        return self.entry.count or self.dataset.num_eval

    @property
    def allowed(self) -> np.ndarray:
        """bool [K]: the classes that the net may answer, of all its predictions alike."""
        return next(one.allowed for one in self.predictions if one.allowed is not None)

    @property
    def is_cropped(self) -> bool:
        """Whether the net sees only the centre of the files: they are larger than its input, and not resized."""
        return self.side > self.config.data.image_size and not self.config.data.eval_resize

    def open(self) -> data.Dataset:
        """The images; ImageNet-C's are listed one cell at a time, as 75 x 1,000 folders take long, and much memory.

        Raises UserError where they are broken.
        """
        if self.dataset.config is self.config:
            return self.dataset
        return data.open(self.config, EVALUATION, self.class_names)


@dataclasses.dataclass(frozen=True)
class Absent:
    """Data that is not there: its name, what it is, where it was looked for, and how to get it."""

    name: str
    what: str
    where: str
    get: str

    @property
    def line(self) -> str:
        return f"{self.name} is not there: {self.what}; expected {self.where}; {self.get}"


Part = tuple[list[EvaluationSet], list[Absent]]


def find(suite: Suite, run: ConfigDict) -> Part:
    """(sets, missing) of a Suite on a run's resolved config: the run's own images, the sets, ImageNet-C.

    Raises UserError where data is broken, or missing and was asked for by name, or where nothing is there at all.
    """
    found, missing = [], []
    for part in _parts(suite, run):
        there, lacking = part()
        found, missing = found + there, missing + lacking
    for one in missing:
        if one.name in suite.named:
            raise UserError(one.line)
    if not found:
        raise UserError(f"none of the {len(missing)} sets is there to evaluate; {missing[0].line}")
    return found, missing


def availability(suite: Suite, run: ConfigDict) -> tuple[list[str], list[str]]:
    """(what of a Suite is there, what is missing or broken and what to do), a line each."""
    there, lacking = [], []
    for part in _parts(suite, run):
        try:
            found, missing = part()
        except UserError as error:
            lacking.append(str(error))
        else:
            there += [_there(found, run)] if found else []
            lacking += [one.line for one in missing]
    return there, lacking


def _there(found: list[EvaluationSet], run: ConfigDict) -> str:
    """A line for the sets of one part: one set, or cells."""
    entry, source, n = found[0].entry, found[0].config.data.source, found[0].dataset.num_eval
    kind, _, name = (f"folder:{entry.folder}" if found[0].cell else source).partition(":")
    place = str(root_of(run.data.data_dir, name)) if kind == "folder" else source
    of = f" of {entry.count:,}" if entry.count not in (0, n) else ""
    return f"{entry.name}: {f'{len(found)} cells of ' if found[0].cell else ''}{n:,}{of} images, {place}"


def _parts(suite: Suite, run: ConfigDict) -> Iterator[Callable[[], Part]]:
    yield functools.partial(_own, suite, run)
    for entry in suite.entries:
        yield functools.partial(_set, entry, suite, run)
    if suite.corruptions == FILES:
        yield functools.partial(_imagenet_c, suite, run)


def _own(suite: Suite, run: ConfigDict) -> Part:
    """The run's evaluation images, as they are and under corruptions."""
    if suite.problem is not None:
        raise suite.problem
    count = IMAGENET_VAL if suite.is_imagenet else 0
    entry = Entry(CLEAN, f"the evaluation images of the run, {run.data.source}", count=count)
    if suite.own is None:
        kind, _, name = run.data.source.partition(":")
        data_dir = run.data.data_dir
        where = str(root_of(data_dir, name)) if kind == "folder" else f"in config.data.data_dir={data_dir!r}"
        get = "set config.data.source or data_dir to where they are"
        get += f", or run: {prepare_command(name, data_dir)}" * (kind == "tfds")
        return [], [Absent(CLEAN, entry.what, where, get)]
    allowed = np.ones(run.model.num_classes, bool)
    predictions = [Prediction(CLEAN, allowed, probe=True)]
    for name, severity in suite.cells if suite.corruptions == ON_THE_FLY else ():
        made_by = Corruption(name, severity, run.seed, suite.jpeg_quality, suite.textures)
        made_by.constants(run.data.image_size)  # refuses a folder without textures now, not in the middle
        predictions.append(Prediction(f"{suite.corrupted} {name} {severity}", allowed, made_by))
    with about(CLEAN):
        return [EvaluationSet(entry, run, suite.own.checked(EVALUATION), tuple(predictions))], []


def _set(entry: Entry, suite: Suite, run: ConfigDict) -> Part:
    """One evaluation set."""
    num_classes = run.model.num_classes
    label_sets.mask(entry.label_set, num_classes, [0])  # refuses a set that does not suit the net, there or not
    with about(entry.name):
        config = _locate(entry, run)
        if config is None:
            if not entry.folder:
                find_builder(entry.builder, run.data.data_dir)  # raises for a name that tfds does not know
            return [], [_lacking(entry, run)]
        dataset = data.open(config, EVALUATION, suite.class_names)
        labels = _present_labels(entry, dataset) if entry.label_set == label_sets.PRESENT else dataset.eval_labels
    prediction = Prediction(entry.name, label_sets.mask(entry.label_set, num_classes, () if labels is None else labels))
    if labels is not None:
        prediction.check_labels(labels, np.arange(len(labels)))
    return [EvaluationSet(entry, config, dataset, (prediction,))], []


def _present_labels(entry: Entry, dataset: data.Dataset) -> np.ndarray:
    """The labels of all images of a set, int32 [N], also where that means reading its records."""
    prevented = f"the classes that occur are not known at once; config.shift.{entry.name}.label_set=present"
    require_random(dataset.evaluation, dataset.config.data.source, prevented, ", or set it to all")
    return listing(dataset.evaluation)[0]


def _imagenet_c(suite: Suite, run: ConfigDict) -> Part:
    """The cells of ImageNet-C's files, or of files made here; what is missing of them in one piece."""
    found, lacking, dataset, own = [], [], None, _made_here(suite.imagenet_c, run)
    entry, title = suite.imagenet_c, suite.corrupted if own is None else suite.corrupted_own
    if own is not None:
        what, count = f"corruptions of {own['source']}, made by nofrost_jax", own["images"]
        count = entry.count if suite.is_imagenet else count
        get = "python -m nofrost_jax.tools.corrupt, as they were made"
        entry = dataclasses.replace(entry, what=what, count=count, get=get)
    elif run.model.num_classes != IMAGENET_CLASSES:
        raise UserError(
            f"ImageNet-C has ImageNet's 1,000 classes, and the net has {run.model.num_classes}; config.sets, "
            "config.corruptions; set config.corruptions=on_the_fly for corruptions of the run's own images, or "
            "config.shift.imagenet_c.folder to files made of them by: python -m nofrost_jax.tools.corrupt"
        )
    for name, severity in suite.cells:
        config = _with_data(run, f"folder:{entry.folder}/{name}/{severity}", ".", CROPS[suite.crop])
        if not _is_present(config):
            lacking.append(f"{name}/{severity}")
            continue
        if dataset is None:
            with about(entry.name):
                dataset = data.open(config, (), suite.class_names)
                side = _side(dataset)  # has a line of its own, which comes first
                dataset = dataset.checked(EVALUATION)
        predictions = (Prediction(f"{title} {name} {severity}", np.ones(run.model.num_classes, bool)),)
        cell = name, severity
        found.append(EvaluationSet(entry, config, dataset, predictions, cell, own, side, suite.class_names))
    if not lacking:
        return found, []
    missing = _lacking(entry, run)
    if found:
        shown = ", ".join(lacking[:3]) + ", ..." * (len(lacking) > 3)
        what = f"{len(lacking)} of {len(suite.cells)} cells ({shown}) of {entry.what}"
        missing = dataclasses.replace(missing, what=what)
    return found, [missing]


def _side(dataset: data.Dataset) -> int:
    """Pixels of a side of corrupted files. Raises UserError where they are smaller than the net's input."""
    side, config = dataset.eval_side, dataset.config
    if side < config.data.image_size and not config.data.eval_resize:
        raise UserError(
            f"the files have {side} pixels a side, and the net takes {config.data.image_size}; {config.data.source}; "
            "set config.imagenet_c_crop=nofrost, which resizes them as the run's own evaluation does its images"
        )
    return side


def _made_here(entry: Entry, run: ConfigDict) -> dict[str, Any] | None:
    """What `corruptions.json` in ImageNet-C's folder says, or None where there is none: in the published files."""
    path = root_of(run.data.data_dir, entry.folder) / SETTINGS
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not {"source", "images", "side"} <= found.keys():
            raise ValueError("no settings in it")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read how the corruptions were made ({error}); {path}; make them again, or remove this file if "
            "they are the published ones"
        ) from error
    side, taken = found["side"], run.data.image_size
    if side != taken:  # the strength of a corruption is in pixels: cropped or resized, the images are different ones
        raise UserError(
            f"{entry.name}: the files were made with {side} pixels a side, and the net takes {taken}; {path}; write "
            f"others of the same source, with --side={taken} and another --output: "
            "python -m nofrost_jax.tools.corrupt"
        )
    return found


def _locate(entry: Entry, run: ConfigDict) -> ConfigDict | None:
    """The run's config with the set as its evaluation split: the folder, or else the tfds data set; None if neither
    is there."""
    places = [(f"folder:{entry.folder}", ".")] * bool(entry.folder)
    places += [(f"tfds:{entry.builder}", entry.split)] * bool(entry.builder)
    for source, split in places:
        config = _with_data(run, source, split, entry.eval_resize)
        config.evaluation.ids = ""  # the list is of the run's own images; ImageNet-C's files have the same names
        if _is_present(config):
            return config
    return None


def _with_data(run: ConfigDict, source: str, split: str, eval_resize: int | None) -> ConfigDict:
    config = run.copy_and_resolve_references()
    with config.unlocked():
        config.data.update({"source": source, "eval_split": split, "holdout": 0})
        if eval_resize is not None:
            config.data.eval_resize = eval_resize
    return config


def _is_present(config: ConfigDict) -> bool:
    return data.is_present(config.data.source, config.data.data_dir)


def _lacking(entry: Entry, run: ConfigDict) -> Absent:
    places, ways = [], [f"get it from {entry.get}"] * bool(entry.get)
    if entry.folder:
        path = root_of(run.data.data_dir, entry.folder)
        inside = "CORRUPTION/SEVERITY/CLASS" if entry.name == IMAGENET_C else "CLASS"
        empty = ", which has no folders in it" * (path.is_dir() and not has_subfolders(path))
        places.append(f"folders {path}/{inside}{empty}")
        ways = ways or ["put it there, or set config.data.data_dir"]
    if entry.builder:
        places.append(f"tfds:{entry.builder} in {run.data.data_dir or 'its default folder'}")
        ways.append(f"run: {prepare_command(entry.builder, run.data.data_dir)}")
    return Absent(entry.name, entry.what, " or ".join(places), ", or ".join(ways))
