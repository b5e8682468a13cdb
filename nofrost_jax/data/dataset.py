"""A config's data, opened once: everything that trains, evaluates or measures takes this value."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
from ml_collections import ConfigDict

from nofrost_jax.data import catalog, checks, fast, fingerprints, pipeline, preprocess, views
from nofrost_jax.data.choice import Choice, ranks
from nofrost_jax.data.preprocess import Geometry
from nofrost_jax.data.sources import Sequential, Source, Split, Subset
from nofrost_jax.data.views import Tree, ViewMaker
from nofrost_jax.errors import UserError

SPLITS = ("train", "evaluation")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The data of a resolved config. A split's files are listed once, when it is first used; nothing here opens the
    source again. notes: what a user should know about it, one line each.

    Every property raises UserError, one line, where its data is missing or broken.
    """

    config: ConfigDict
    source: Source
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Split:
        """The training split, without the images that `config.data.holdout` keeps out of it."""
        return self._parts[0] if self.config.data.holdout else self.source.train

    @property
    def evaluation(self) -> Split:
        """The evaluation split; with `config.data.eval_split = "holdout"` the held-out images."""
        return self._parts[1] if self.is_holdout else self.source.evaluation

    @functools.cached_property
    def _parts(self) -> tuple[Subset, Subset]:
        """(training images, held-out images)."""
        return catalog.hold_out(self.source.train, self.config.data.holdout, self.config.data.source)

    @property
    def is_holdout(self) -> bool:
        """Whether the evaluation split consists of held-out training images."""
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
        return len(self.places) if self.choice.classes else self.choice.count(self.num_eval)

    @property
    def num_classes(self) -> int:
        """Classes of the data's label space; the net may have more."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of their labels, () if they have none."""
        return self.source.class_names

    @property
    def eval_split(self) -> str:
        """The source's own name of the evaluation split."""
        return catalog.HOLDOUT if self.is_holdout else self.source.eval_name or self.config.data.eval_split

    @functools.cached_property
    def geometry(self) -> Geometry:
        """How images get the size of a batch."""
        section = self.config.data
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
        """How evaluation images get the size of a batch, in words."""
        geometry = self.geometry
        if self.source.fitted:
            return f"none, {geometry.image_size}"
        if geometry.eval_resize:
            return f"resize {geometry.eval_resize}, centre {geometry.image_size}"
        return f"centre {geometry.image_size}" + (", padded with black" if geometry.eval_pad else "")

    @property
    def eval_labels(self) -> np.ndarray | None:
        """Labels of the evaluation split, int32 [N], or None if they are only known after reading all of it (tfds)."""
        return getattr(self.evaluation, "labels", None)

    @functools.cached_property
    def eval_side(self) -> int:
        """Short side of the first evaluation image in pixels, before any resize; 0 if images are read in sequence."""
        split = self.evaluation
        try:
            return 0 if isinstance(split, Sequential) else min(preprocess.decode(split.load(0)).size)
        except (preprocess.ImageError, OSError) as error:
            raise UserError(f"{error}; {split.where(0)}; replace it or remove it from the data") from error

    @functools.cached_property
    def choice(self) -> Choice:
        """Which evaluation images `config.evaluation.limit`, `classes` and `ids` choose."""
        section = self.config.evaluation
        return Choice.read(section.limit, section.ids, section.classes)

    @functools.cached_property
    def places(self) -> np.ndarray:
        """Indices of the chosen evaluation images: int64 [count], ascending."""
        return self.choice.places(self.evaluation, self.class_names)

    @functools.cached_property
    def eval_ranks(self) -> np.ndarray:
        """The rank of each image that `eval_batches` yields, by class and file name: int64 [count]. It is the same for
        every source of the same images."""
        return ranks(self.evaluation, self.places)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies the images of the evaluation split, wherever they are. A folder: the SHA-256 of the files' names,
        labels and sizes and of the content of 64 of them. tfds: the data set's version and sizes. Otherwise ""."""
        return fingerprints.of(self.source, self.evaluation)

    @functools.cached_property
    def training_fingerprint(self) -> dict[str, int | str]:
        """Identifies the training images, wherever they are, in plain values. A folder: their number and the SHA-256 of
        all files' names, labels and sizes, also of DeepAugment's. tfds: version and sizes. Otherwise {}. Reads no
        image."""
        return fingerprints.of_training(self.source, self.train, self.trees)

    @functools.cached_property
    def found_trees(self) -> tuple[tuple[Tree, ...], list[str]]:
        """(trees of distorted training images, what is wrong with the other trees, one line each)."""
        return views.find_trees(self.config, self.train)

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The trees of distorted training images; () unless a view is read from files."""
        trees, problems = self.found_trees
        if problems:
            raise UserError(problems[0])
        return trees

    @property
    def view_maker(self) -> ViewMaker:
        """Makes the views of a training image."""
        return views.maker(self.config, self.geometry, self.trees)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; the rest of each epoch's permutation is left out."""
        return steps_per_epoch(self.config, self.num_train)

    def train_batches(self, start_step: int, process_index: int = 0, process_count: int = 1) -> Iterator[dict]:
        """Endless training batches from step `start_step` on: the process's contiguous share of each global batch.

        A batch has `image` uint8 [b, H, W, 3], `label` int32 [b] and `index` int32 [b], with b = batch_size /
        process_count. `image` is the view `clean`; other views have their own names, and `augmented` comes with
        `is_deepaugment`, bool [b]. With `data.on_error = "skip"`, `replaced`, bool [b], marks rows whose own image
        could not be read. `index` is the example's place in the fixed order of its split. `next` raises UserError that
        names an unreadable image. Threads end with the iterator.
        """
        return pipeline.train_batches(self, start_step, process_index, process_count)

    def eval_batches(
        self,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
        wanted: Callable[[int], bool] | None = None,
    ) -> Iterator[dict]:
        """The chosen evaluation examples, once, in the order of their index.

        Global batch j holds examples j * batch_size and following; each process gets its contiguous share, and every
        process yields the same number of batches. `wanted(j)`, if given, says whether to yield batch j; the others are
        not decoded. A batch has `image`, `label` and `index` as in training, and `mask` bool [b]: the last batch is
        filled up with black images, label 0, index -1, mask False. `next` raises UserError, as in training.
        """
        return pipeline.eval_batches(self, batch_size, process_index, process_count, wanted)

    def under(self, config: ConfigDict) -> "Dataset":
        """The same source under a config that only differs in how images are evaluated, or whose `data.eval_split` is
        "holdout". Nothing is listed again."""
        return Dataset(config, self.source)

    def checked(self, splits: tuple[str, ...] = SPLITS) -> "Dataset":
        """This data set with notes, after a look at the images of `splits`. Raises UserError if data is missing, empty
        or unreadable, for labels outside the classes, and for fewer images than one batch."""
        problems, notes = checks.examine(self, splits)
        if problems:
            raise UserError(problems[0])
        return self._with(notes)

    def _with(self, notes: tuple[str, ...]) -> "Dataset":
        noted = copy.copy(self)  # keeps what is cached
        object.__setattr__(noted, "notes", notes)
        return noted


def steps_per_epoch(config: ConfigDict, num_train: int) -> int:
    """Full batches in an epoch of `num_train` images. Raises UserError if there is none."""
    if num_train < config.batch_size:
        raise UserError(
            f"the training split has {num_train} images, fewer than one batch of {config.batch_size}; "
            f"{config.data.source}; lower config.batch_size or add images"
        )
    return num_train // config.batch_size


def open(config: ConfigDict, check: tuple[str, ...] = SPLITS, class_names: tuple[str, ...] = ()) -> Dataset:
    """Opens the data of a resolved config and checks the images of the splits in `check`, without using a device.

    All images of a folder are decoded if there are at most 2,000, otherwise an evenly spaced sample of 256.
    class_names: for `folder`, the classes in the order of their labels, if the tree has only some of them. Raises
    UserError, see `Dataset.checked`.
    """
    dataset = Dataset(config, catalog.open_config(config, class_names))
    return dataset.checked(check) if check else dataset


def examine(config: ConfigDict, splits: tuple[str, ...] = SPLITS) -> tuple[list[str], Dataset | None]:
    """(all that `open` would complain about, one line each; what it would return, or None if it complains)."""
    try:
        dataset = open(config, check=())
    except UserError as error:
        return [str(error)], None
    problems, notes = checks.examine(dataset, splits)
    return problems, None if problems else dataset._with(notes)
