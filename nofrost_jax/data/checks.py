"""What can be known about the data before any device works."""

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nofrost_jax.data import preprocess, views
from nofrost_jax.data.folder import Folder
from nofrost_jax.data.preprocess import Geometry
from nofrost_jax.data.records import Records
from nofrost_jax.data.sources import RandomAccess, is_random, whole_of
from nofrost_jax.errors import UserError
from nofrost_jax.progress import shown

DECODE_ALL = 2000
SAMPLE = 256
READERS = 16  # threads that read headers; they wait for the disk more than they work


def examine(dataset, splits) -> tuple[list[str], tuple[str, ...]]:
    """(all that is wrong with the splits of a Dataset, notes on them), a line each."""
    problems: list[str] = []

    def attempt(function: Callable, *args):
        try:
            return function(*args)
        except UserError as error:
            if str(error) not in problems:
                problems.append(str(error))
            return None

    attempt(_check_geometry, dataset)
    attempt(_check_classes, dataset, splits)
    notes = list(dataset.source.notes)
    whole = {name: attempt(_check_split, dataset, name, notes) for name in splits}
    if whole.get("evaluation") and dataset.config.evaluation.ids:
        attempt(lambda: dataset.places)
    if whole.get("train"):
        attempt(lambda: dataset.steps_per_epoch)
        problems += attempt(lambda: dataset.found_trees[1]) or []
        attempt(views.check_weights, dataset.config)
    return problems, tuple(notes)


def _check_geometry(dataset) -> None:
    side, resize = dataset.geometry.image_size, dataset.geometry.eval_resize
    if resize and not side <= resize <= 4 * side:
        raise UserError(
            f"eval_resize = {resize} does not suit images of {side} pixels; config.data.eval_resize; "
            f"use 0 (no resize) or a number from {side} to {4 * side}"
        )


def _check_classes(dataset, splits) -> None:
    have, wanted = dataset.num_classes, dataset.config.model.num_classes
    if have > wanted:
        for name in splits:
            getattr(dataset, name)  # where one class folder has no images, it is the one too many
        raise UserError(
            f"the data has {have} classes, the model {wanted}; {dataset.config.data.source}; "
            f"set config.model.num_classes = {have}"
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


def _checking(dataset, name: str) -> _Checking:
    section = dataset.config.data
    any_size = name == "train" and section.augmentation == "random_resized_crop"
    may_skip = name == "train" and section.on_error == "skip"
    try:
        geometry = None if any_size else dataset.geometry
    except UserError:  # told by `_check_geometry`
        geometry = None
    return _Checking(name, geometry, may_skip)


def _check_split(dataset, name: str, notes: list[str]) -> bool:
    """Looks at images of a split, and notes what was left out. Returns True."""
    split, section = getattr(dataset, name), dataset.config.data
    if split.size == 0:
        raise UserError(f"the {name} split has no images; {section.source}; add images")
    whole = whole_of(split)
    if isinstance(whole, Folder) and whole.others:
        notes.append(f"of the {name} split {whole.left_out}; left out")
    if isinstance(whole, Folder | Records):
        looked = _check_files(split, whole, section.workers or os.cpu_count() or 1, _checking(dataset, name))
        notes += [f"of {split.size:,} {name} images {looked}; python -m nofrost_jax.tools.verify decodes all"] * bool(
            looked
        )
    elif not is_random(split):
        notes.append(f"no {name} image was looked at, as they are read in sequence")
    return True


def _check_files(split: RandomAccess, whole: RandomAccess, workers: int, checking: _Checking) -> str:
    """Decodes all files, or a sample of them; then reads the headers of all evaluation files. Returns what was looked
    at, "" where it was all.

    Raises UserError that names the first bad one, unless it `may_skip`: then only if all are bad; training names and
    counts what it skips.
    """
    n = split.size
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
