"""A config's data, opened once: everything that trains, evaluates or measures takes this value."""

import copy
import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from nofrost_jax.data import catalog, checks, fast, fingerprints, pipeline, preprocess, views
from nofrost_jax.data.choice import Choice, ranks
from nofrost_jax.data.preprocess import Geometry
from nofrost_jax.data.sources import RandomAccess, Sequential, Source, Subset, is_random
from nofrost_jax.data.views import Tree, ViewMaker
from nofrost_jax.errors import UserError

SPLITS = ("train", "evaluation")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The data of a resolved config. Its files are listed once, when the training or the evaluation split is first
    asked for; nothing here opens the source again.

    notes: what a user should know of it, a line each, as far as it was checked.

    Every property raises UserError, one line of what, where and how to mend, where its data is missing or broken.
    """

    config: object
    source: Source
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> RandomAccess | Sequential:
        """The training split, without the images that `config.data.holdout` keeps out of it."""
        return self._parts[0] if self.config.data.holdout else self.source.train

    @property
    def evaluation(self) -> RandomAccess | Sequential:
        """The evaluation split: the held-out images if `config.data.eval_split` says so."""
        return self._parts[1] if self.is_holdout else self.source.evaluation

    @functools.cached_property
    def _parts(self) -> tuple[Subset, Subset]:
        """(training images, held-out images)."""
        return catalog.hold_out(self.source.train, self.config.data.holdout, self.config.data.source)

    @property
    def is_holdout(self) -> bool:
        """Whether the evaluation split is that of the held-out training images."""
        return self.config.data.eval_split == catalog.HOLDOUT

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return self.train.size

    @property
    def num_eval(self) -> int:
        """Number of evaluation images, before any choice among them."""
        return self.evaluation.size

    @property
    def count(self) -> int:
        """Number of evaluation images that are chosen."""
        return self.choice.count(self.num_eval)

    @property
    def num_classes(self) -> int:
        """Classes of the data's label space; the net may have more."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names in the order of their labels, () where they have none."""
        return self.source.class_names

    @property
    def eval_split(self) -> str:
        """What the evaluation split is called at the source."""
        return catalog.HOLDOUT if self.is_holdout else self.source.eval_name or self.config.data.eval_split

    @functools.cached_property
    def geometry(self) -> Geometry:
        """How images come to the size of a batch."""
        section = self.config.data
        if section.augmentation not in preprocess.DRAWS:
            known = ", ".join(preprocess.DRAWS)
            raise UserError(
                f"unknown augmentation {section.augmentation!r}; config.data.augmentation; use one of {known}"
            )
        quick = section.decode == "fast" and section.augmentation == "random_resized_crop"
        if quick:
            fast.require()
        return Geometry(
            section.image_size,
            0 if self.source.fitted else section.eval_resize,
            section.augmentation,
            tuple(section.crop_scale),
            quick,
            section.eval_pad,
            section.train_resize,
        )

    @property
    def eval_crop(self) -> str:
        """How evaluation images come to the size of a batch, in words."""
        geometry = self.geometry
        if self.source.fitted:
            return f"none, {geometry.image_size}"
        padded = ", padded with black" * (geometry.eval_pad and not geometry.eval_resize)
        return f"resize {geometry.eval_resize}, " * bool(geometry.eval_resize) + f"centre {geometry.image_size}{padded}"

    @property
    def eval_labels(self) -> np.ndarray | None:
        """Labels of the evaluation split, int32 [N], or None where only reading all of it tells them (tfds)."""
        return getattr(self.evaluation, "labels", None)

    @functools.cached_property
    def eval_side(self) -> int:
        """Pixels of the short side of the first evaluation image, before any resize, or 0 where examples are to be had
        in sequence only."""
        split = self.evaluation
        try:
            return min(preprocess.decode(split.load(0)).size) if is_random(split) else 0
        except (preprocess.ImageError, OSError) as error:
            raise UserError(f"{error}; {split.where(0)}; replace it or remove it from the data") from error

    @functools.cached_property
    def choice(self) -> Choice:
        """Which evaluation images `config.evaluation.limit` and `ids` choose."""
        return Choice.read(self.config.evaluation.limit, self.config.evaluation.ids)

    @functools.cached_property
    def places(self) -> np.ndarray:
        """Which evaluation images are chosen: int64 [count], ascending."""
        return self.choice.places(self.evaluation, self.class_names)

    @functools.cached_property
    def eval_ranks(self) -> np.ndarray:
        """The rank of each image that `eval_batches` yields, in the order of classes and file names, which is the same
        whatever the source: int64 [count]."""
        return ranks(self.evaluation, self.places)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What tells the images of the evaluation split from others, wherever they lie: of a folder, the SHA-256 of
        names, labels and sizes of the files, and of what is in 64 of them; of tfds, the version and sizes of the data
        set; "" where the source's name says all."""
        return fingerprints.of(self.source, self.evaluation)

    @functools.cached_property
    def training_fingerprint(self) -> dict[str, int | str]:
        """What tells the training images from others, wherever they lie, plain values: of a folder their number and the
        SHA-256 of names, labels and sizes of all files, also of DeepAugment's; of tfds the version and sizes of the
        data set; {} where the config says all. Reads no image."""
        return fingerprints.of_training(self.source, self.train, self.trees)

    @functools.cached_property
    def found_trees(self) -> tuple[tuple[Tree, ...], list[str]]:
        """(trees of distorted training images, what is wrong with others, a line each)."""
        return views.find_trees(self.config, self.train)

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The trees of distorted training images; none unless a view comes from files."""
        trees, problems = self.found_trees
        if problems:
            raise UserError(problems[0])
        return trees

    @property
    def view_maker(self) -> ViewMaker:
        """The views of a training image."""
        return views.maker(self.config, self.geometry, self.trees)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; the rest of each epoch's permutation is left out."""
        return steps_per_epoch(self.config, self.num_train)

    def train_batches(self, start_step: int, process_index: int = 0, process_count: int = 1) -> Iterator[dict]:
        """Endless training batches from step `start_step` on; the process's contiguous share of each global batch.

        Returns:
          Iterator of `image` uint8 [b, H, W, 3], `label` int32 [b], `index` int32 [b], with b = batch_size /
          process_count. `image` is the view `clean`; other views are called as they are, and `augmented` has a bool [b]
          `is_deepaugment` with it. With `data.on_error = "skip"` a bool [b] `replaced` tells whose own image could not
          be read. `index` is the example's position in the fixed order of its split. Threads end with the iterator.

        Raises:
          UserError: from `next`, for an image that cannot be read, which is named.
        """
        return pipeline.train_batches(self, start_step, process_index, process_count)

    def eval_batches(self, batch_size: int, process_index: int = 0, process_count: int = 1, wanted=None) -> Iterator:
        """The chosen evaluation examples, once and in the order of their index.

        Global batch j holds number j * batch_size and following; each process gets its contiguous share.
        `wanted(j)`, if given, says whether to yield batch j; the others are not even decoded.

        Returns:
          Iterator of `image`, `label`, `index` as for training and `mask` bool [b]. The last batch is filled up with
          zero images, label 0, index -1, mask False. Every process yields the same number of batches.

        Raises:
          UserError: see `train_batches`.
        """
        return pipeline.eval_batches(self, batch_size, process_index, process_count, wanted)

    def under(self, config) -> "Dataset":
        """The same source under a config that differs in how images are evaluated only, or in `data.eval_split` as far
        as it becomes "holdout". Nothing is listed again."""
        return Dataset(config, self.source)

    def checked(self, splits=SPLITS) -> "Dataset":
        """This, with notes, once the images of `splits` were looked at.

        Raises:
          UserError: data missing, empty or unreadable, labels outside the classes, fewer images than one batch.
        """
        problems, notes = checks.examine(self, splits)
        if problems:
            raise UserError(problems[0])
        return self._with(notes)

    def _with(self, notes: tuple[str, ...]) -> "Dataset":
        noted = copy.copy(self)  # what was found so far goes along
        object.__setattr__(noted, "notes", notes)
        return noted


def steps_per_epoch(config, num_train: int) -> int:
    """Full batches in an epoch of so many images. Raises UserError if there is none."""
    if num_train < config.batch_size:
        raise UserError(
            f"the training split has {num_train} images, fewer than one batch of {config.batch_size}; "
            f"{config.data.source}; lower config.batch_size or add images"
        )
    return num_train // config.batch_size


def open(config, check=SPLITS, class_names: tuple[str, ...] = ()) -> Dataset:
    """Opens the data of a resolved config and checks its splits, without touching a device.

    check: splits whose images are looked at; () only opens the source. Of a folder with at most 2,000 images every one
    is decoded, otherwise an evenly spaced sample of 256. class_names: `folder` only, the classes' names in the order of
    their labels, where a tree with some of the classes is to have the labels of one with all of them.

    Raises:
      UserError: see `Dataset.checked`. One line that says what, where and how to mend.
    """
    source = catalog.open_config(config, class_names)
    return Dataset(config, source).checked(check) if check else Dataset(config, source)


def examine(config, splits=SPLITS) -> tuple[list[str], Dataset | None]:
    """(all that `open` would complain about, one line each, what it returns, or None where it complains), by one look
    at the data."""
    try:
        dataset = open(config, check=())
    except UserError as error:
        return [str(error)], None
    problems, notes = checks.examine(dataset, splits)
    return problems, None if problems else dataset._with(notes)
