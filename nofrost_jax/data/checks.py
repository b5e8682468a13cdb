"""What can be checked about the data before any device works."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nofrost_jax.data import preprocess, views
from nofrost_jax.data.folder import Folder
from nofrost_jax.data.preprocess import Geometry
from nofrost_jax.data.records import Records
from nofrost_jax.data.sources import READERS, RandomAccess, Sequential, in_threads, whole_of
from nofrost_jax.errors import UserError

DECODE_ALL = 2000
SAMPLE = 256


def examine(dataset: Any, splits: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """(all that is wrong with the splits of a Dataset, notes on them), one line each."""
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
    usable = {name: attempt(_check_split, dataset, name, notes) for name in splits}
    if usable.get("evaluation") and dataset.config.evaluation.ids:
        attempt(lambda: dataset.places)
    if usable.get("train"):
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


def _check_classes(dataset, splits: tuple[str, ...]) -> None:
    have, wanted = dataset.num_classes, dataset.config.model.num_classes
    if have > wanted:
        for name in splits:
            getattr(dataset, name)  # names a class folder without images, which may be the one too many
        raise UserError(
            f"the data has {have} classes, the model {wanted}; {dataset.config.data.source}; "
            f"set config.model.num_classes = {have}"
        )


@dataclasses.dataclass(frozen=True)
class _Check:
    """How images of a split are checked. geometry: what they must suit, None if any size will do."""

    split: RandomAccess
    geometry: Geometry | None
    may_skip: bool

    def image(self, index: int) -> None:
        """Decodes it. Raises ImageError, OSError."""
        image = self.split.load(index)
        if self.geometry is None:
            preprocess.decode(image)
        else:
            preprocess.eval_image(image, self.geometry)

    def header(self, index: int) -> None:
        """Reads a file's header. Raises ImageError, OSError."""
        preprocess.check_header(self.split.where(index), self.geometry)

    def refuse_bad(self, indices: Sequence[int], look: Callable[[int], None], workers: int) -> None:
        """Raises UserError that names the first bad image; if it `may_skip`, only if all are bad, since training names
        and counts what it skips."""

        def problem(place: int) -> tuple[Exception, str] | None:
            try:
                look(indices[place])
            except (preprocess.ImageError, OSError) as error:
                return error, self.split.where(indices[place])
            return None

        bad = [one for one in in_threads(problem, len(indices), "checking the images", workers) if one]
        if bad and not (self.may_skip and len(bad) < len(indices)):
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            mend = "replace it or remove it from the data"
            if len(bad) == len(indices) and all(isinstance(error, preprocess.SmallImageError) for error, _ in bad):
                mend = (
                    "so are all others that were checked; in the run's config set data.eval_resize to image_size or "
                    "more, which enlarges them, or data.eval_pad=True, for black borders, or a smaller data.image_size"
                )
            error, place = bad[0]
            raise UserError(f"{error}; {place}{more}; {mend}")


def _check_split(dataset, name: str, notes: list[str]) -> bool:
    """Checks images of a split and notes what was left out. Returns True."""
    split, section = getattr(dataset, name), dataset.config.data
    if split.size == 0:
        raise UserError(f"the {name} split has no images; {section.source}; add images")
    whole = whole_of(split)
    if isinstance(whole, Folder) and whole.others:
        notes.append(f"of the {name} split {whole.left_out}; left out")
    if isinstance(whole, Folder | Records):
        if checked := _check_images(dataset, name, split, isinstance(whole, Folder)):
            notes.append(f"of {split.size:,} {name} images {checked}; python -m nofrost_jax.tools.verify decodes all")
    elif isinstance(split, Sequential):
        notes.append(f"no {name} image was checked, because they are read in sequence")
    return True


def _check_images(dataset, name: str, split: RandomAccess, has_files: bool) -> str:
    """Decodes all images, or a sample of them and the headers of all evaluation files. Returns what was checked, "" if
    everything was. Raises UserError, see `_Check.refuse_bad`."""
    section, is_train = dataset.config.data, name == "train"
    try:
        geometry = None if is_train and section.augmentation == "random_resized_crop" else dataset.geometry
    except UserError:  # reported by `_check_geometry`
        geometry = None
    check = _Check(split, geometry, is_train and section.on_error == "skip")
    every = split.size <= DECODE_ALL
    sample = range(split.size) if every else np.unique(np.linspace(0, split.size - 1, SAMPLE).astype(int)).tolist()
    check.refuse_bad(sample, check.image, section.workers or os.cpu_count() or 1)
    if every:
        return ""
    headers = has_files and not is_train
    if headers:
        check.refuse_bad(range(split.size), check.header, READERS)
    return f"{len(sample)} were decoded, and " + (
        "the headers of all others were read" if headers else "no others were checked"
    )
