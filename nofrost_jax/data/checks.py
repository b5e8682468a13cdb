"""What can be known about the data before any device works."""

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nofrost_jax.data import folder, pipeline, preprocess, views
from nofrost_jax.data.catalog import open_source
from nofrost_jax.data.choice import Choice, ranks
from nofrost_jax.data.folder import Folder
from nofrost_jax.data.preprocess import Geometry
from nofrost_jax.data.records import Records
from nofrost_jax.data.sources import Source, Subset, size
from nofrost_jax.errors import UserError
from nofrost_jax.progress import shown

DECODE_ALL = 2000
SAMPLE = 256
READERS = 16  # threads that read headers; they wait for the disk more than they work


@dataclasses.dataclass(frozen=True)
class Spec:
    """Shape of a data set: examples in either split (0 where it was not asked for), classes in its label space, pixels
    of a side in the batches, the evaluation split's name, and how its images come to that size. notes: a line each for
    what is left out, and what of the images was not looked at."""

    num_train: int
    num_eval: int
    num_classes: int
    image_size: int
    eval_split: str
    eval_crop: str
    notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)


SPLITS = ("train", "evaluation")


def check(config, splits=SPLITS) -> Spec:
    """See `nofrost_jax.data.check`."""
    problems, spec = examine(config, splits)
    if problems:
        raise UserError(problems[0])
    return spec


def is_present(config) -> bool:
    """See `nofrost_jax.data.is_present`."""
    kind, _, rest = config.data.source.partition(":")
    if kind == "folder":
        return folder.has_subfolders(folder.root_of(config, rest))
    if kind == "tfds":
        from nofrost_jax.data import tfds_source

        return tfds_source.is_prepared(rest, config.data.data_dir)
    return True


def eval_side(config) -> int:
    """See `nofrost_jax.data.eval_side`."""
    split = open_source(config).evaluation()
    try:
        return min(preprocess.decode(split.load(0)).size) if hasattr(split, "load") else 0
    except (preprocess.ImageError, OSError) as error:
        raise UserError(f"{error}; {split.where(0)}; replace it or remove it from the data") from error


def eval_ranks(config, choice: Choice) -> np.ndarray:
    """See `nofrost_jax.data.eval_ranks`."""
    source = open_source(config)
    split = source.evaluation()
    return ranks(split, choice.places(split, source.class_names))


def examine(config, splits=SPLITS) -> tuple[list[str], Spec | None]:
    """See `nofrost_jax.data.examine`."""
    problems: list[str] = []

    def attempt(function: Callable, *args):
        try:
            return function(*args)
        except UserError as error:
            if str(error) not in problems:
                problems.append(str(error))
            return None

    source = attempt(open_source, config)
    if source is None:
        return problems, None
    attempt(_check_geometry, config, source)
    attempt(_check_classes, config, source, splits)
    notes = list(source.notes)
    counts = [
        attempt(_check_split, config, name, getattr(source, name), _checking(config, source, name), notes)
        if name in splits
        else 0
        for name in SPLITS
    ]
    if counts[1] and (ids := config.get("evaluation", {}).get("ids")):
        attempt(lambda: Choice.read(0, ids).places(source.evaluation(), source.class_names))
    if "train" in splits and counts[0] is not None:
        attempt(pipeline.epoch_length, config, counts[0])
        problems += attempt(lambda: views.describe_missing(config, source.train())) or []
        attempt(views.check_weights, config)
    if problems:
        return problems, None
    name = source.eval_name or config.data.eval_split
    shape = source.num_classes, config.data.image_size, name, _crop(config, source)
    return problems, Spec(*counts, *shape, tuple(notes))


def _crop(config, source: Source) -> str:
    geometry = pipeline.geometry_of(config, source)
    if source.fitted:
        return f"none, {geometry.image_size}"
    padded = ", padded with black" * (geometry.eval_pad and not geometry.eval_resize)
    return f"resize {geometry.eval_resize}, " * bool(geometry.eval_resize) + f"centre {geometry.image_size}{padded}"


def _check_geometry(config, source: Source) -> None:
    geometry = pipeline.geometry_of(config, source)
    side, resize = geometry.image_size, geometry.eval_resize
    if resize and not side <= resize <= 4 * side:
        raise UserError(
            f"eval_resize = {resize} does not suit images of {side} pixels; config.data.eval_resize; "
            f"use 0 (no resize) or a number from {side} to {4 * side}"
        )


def _check_classes(config, source: Source, splits) -> None:
    if source.num_classes > config.model.num_classes:
        for name in splits:
            getattr(source, name)()  # where one class folder has no images, it is the one too many
        raise UserError(
            f"the data has {source.num_classes} classes, the model {config.model.num_classes}; {config.data.source}; "
            f"set config.model.num_classes = {source.num_classes}"
        )


@dataclasses.dataclass(frozen=True)
class _Checking:
    """How the images of a split are looked at. geometry: what an image must suit, None where it may have any size."""

    name: str
    geometry: Geometry | None
    may_skip: bool

    def image(self, split, index: int) -> None:
        """Decodes it. Raises ImageError, OSError."""
        image = split.load(index)
        if self.geometry is None:
            preprocess.decode(image)
        else:
            preprocess.eval_image(image, self.geometry)

    def header(self, split, index: int) -> None:
        """Reads a file's header. Raises ImageError, OSError."""
        preprocess.check_header(split.where(index), self.geometry)


def _checking(config, source: Source, name: str) -> _Checking:
    any_size = name == "train" and config.data.augmentation == "random_resized_crop"
    may_skip = name == "train" and config.data.get("on_error", "raise") == "skip"
    try:
        geometry = None if any_size else pipeline.geometry_of(config, source)
    except UserError:  # told by `_check_geometry`
        geometry = None
    return _Checking(name, geometry, may_skip)


def _check_split(config, name: str, open_split: Callable, checking: _Checking, notes: list[str]) -> int:
    split = open_split()
    if size(split) == 0:
        raise UserError(f"the {name} split has no images; {config.data.source}; add images")
    whole = split.whole if isinstance(split, Subset) else split
    if isinstance(whole, Folder) and whole.others:
        notes.append(f"of the {name} split {whole.left_out}; left out")
    if isinstance(whole, Folder | Records):
        looked = _check_files(split, whole, config.data.workers or os.cpu_count() or 1, checking)
        notes += [f"of {size(split):,} {name} images {looked}; python -m nofrost_jax.tools.verify decodes all"] * bool(
            looked
        )
    elif not hasattr(split, "labels"):
        notes.append(f"no {name} image was looked at, as they are read in sequence")
    return size(split)


def _check_files(split: Folder | Records | Subset, whole, workers: int, checking: _Checking) -> str:
    """Decodes all files, or a sample of them; then reads the headers of all evaluation files. Returns what was looked
    at, "" where it was all.

    Raises UserError that names the first bad one, unless it `may_skip`: then only if all are bad; training names and
    counts what it skips.
    """
    n = size(split)
    every = n <= DECODE_ALL
    sample = range(n) if every else np.unique(np.linspace(0, n - 1, SAMPLE).astype(int)).tolist()
    _refuse_bad(split, sample, workers, checking.image, checking.may_skip)
    if every:
        return ""
    headers = isinstance(whole, Folder) and checking.name == "evaluation"
    if headers:
        _refuse_bad(split, range(n), READERS, checking.header, checking.may_skip)
    return f"{len(sample)} were decoded, and " + ("of all others the header read" if headers else "no others looked at")


def _refuse_bad(split, indices, workers: int, look: Callable, may_skip: bool) -> None:
    def problem(index: int) -> tuple[Exception, str] | None:
        try:
            look(split, index)
        except (preprocess.ImageError, OSError) as error:
            return error, split.where(index)
        return None

    with ThreadPoolExecutor(workers) as pool:
        found = shown(pool.map(problem, indices), len(indices), "checking the images", "images")
        bad = [one for one in found if one]
    if bad and not (may_skip and len(bad) < len(indices)):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        mend = "replace it or remove it from the data"
        if len(bad) == len(indices) and all(isinstance(error, preprocess.SmallImageError) for error, _ in bad):
            mend = (
                "all that were looked at are; set in the run's config data.eval_resize, to image_size or more, which "
                "enlarges them, or data.eval_pad=True, for black borders, or a smaller data.image_size"
            )
        error, place = bad[0]
        raise UserError(f"{error}; {place}{more}; {mend}")
