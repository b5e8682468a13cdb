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
from nofrost_jax.data.records import Records
from nofrost_jax.data.sources import Source, Subset, size
from nofrost_jax.errors import UserError

DECODE_ALL = 2000
SAMPLE = 256


@dataclasses.dataclass(frozen=True)
class Spec:
    """Shape of a data set: examples in either split (0 where it was not asked for), classes in its label space, pixels
    of a side in the batches, the evaluation split's name, and how its images come to that size."""

    num_train: int
    num_eval: int
    num_classes: int
    image_size: int
    eval_split: str
    eval_crop: str


SPLITS = ("train", "evaluation")


def check(config, splits=SPLITS) -> Spec:
    """See `nofrost_jax.data.check`."""
    problems, spec = _examine(config, splits)
    if problems:
        raise UserError(problems[0])
    return spec


def describe_missing(config) -> list[str]:
    """See `nofrost_jax.data.describe_missing`."""
    return _examine(config, SPLITS)[0]


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


def _examine(config, splits) -> tuple[list[str], Spec | None]:
    problems: list[str] = []

    def attempt(function: Callable, *args):
        try:
            return function(*args)
        except UserError as error:
            problems.append(str(error))
            return None

    source = attempt(open_source, config)
    if source is None:
        return problems, None
    attempt(_check_geometry, config, source)
    attempt(_check_classes, config, source)
    counts = [attempt(_check_split, config, name, getattr(source, name)) if name in splits else 0 for name in SPLITS]
    if counts[1] and (ids := config.get("evaluation", {}).get("ids")):
        attempt(lambda: Choice.read(0, ids).places(source.evaluation(), source.class_names))
    if "train" in splits and counts[0] is not None:
        attempt(pipeline.epoch_length, config, counts[0])
        problems += attempt(lambda: views.describe_missing(config, source.train())) or []
        attempt(views.check_weights, config)
    if problems:
        return problems, None
    name = source.eval_name or config.data.eval_split
    return problems, Spec(*counts, source.num_classes, config.data.image_size, name, _crop(config, source))


def _crop(config, source: Source) -> str:
    geometry = pipeline.geometry_of(config, source)
    if source.fitted:
        return f"none, {geometry.image_size}"
    return f"resize {geometry.eval_resize}, " * bool(geometry.eval_resize) + f"centre {geometry.image_size}"


def _check_geometry(config, source: Source) -> None:
    geometry = pipeline.geometry_of(config, source)
    side, resize = geometry.image_size, geometry.eval_resize
    if resize and not side <= resize <= 4 * side:
        raise UserError(
            f"eval_resize = {resize} does not suit images of {side} pixels; config.data.eval_resize; "
            f"use 0 (no resize) or a number from {side} to {4 * side}"
        )


def _check_classes(config, source: Source) -> None:
    if source.num_classes > config.model.num_classes:
        raise UserError(
            f"the data has {source.num_classes} classes, the model {config.model.num_classes}; {config.data.source}; "
            f"set config.model.num_classes = {source.num_classes}"
        )


def _check_split(config, name: str, open_split: Callable) -> int:
    split = open_split()
    if size(split) == 0:
        raise UserError(f"the {name} split has no images; {config.data.source}; add images")
    if isinstance(split.whole if isinstance(split, Subset) else split, Folder | Records):
        may_skip = name == "train" and config.data.get("on_error", "raise") == "skip"
        _check_files(split, config.data.workers or os.cpu_count() or 1, may_skip)
    return size(split)


def _check_files(split: Folder | Records | Subset, workers: int, may_skip: bool) -> None:
    """Decodes all files or a sample of them. Raises UserError that names the first bad one, unless `may_skip`: then
    only if all are bad; training names and counts what it skips."""
    n = size(split)
    sample = range(n) if n <= DECODE_ALL else np.unique(np.linspace(0, n - 1, SAMPLE).astype(int)).tolist()

    def damaged(index: int) -> str | None:
        try:
            preprocess.decode(split.load(index))
        except (preprocess.ImageError, OSError) as error:
            return f"{error}; {split.where(index)}"
        return None

    with ThreadPoolExecutor(workers) as pool:
        bad = [message for message in pool.map(damaged, sample) if message]
    if bad and not (may_skip and len(bad) < len(sample)):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{more}; replace it or remove it from the data")
