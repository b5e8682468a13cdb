"""Data: sources of images, and the batches made of them. Uses no TensorFlow except for `tfds:` sources.

One preprocessing code serves all sources: Pillow and NumPy, equal to torchvision on PIL images. Batches are NumPy
arrays on the host; a training batch is a pure function of (`config.seed`, step), so that resuming needs nothing but
the step. (With `data.access = "sequential"`, of the number of processes too.)

Fields of the config that count here:

* `seed` (int), `batch_size` (int, all processes together), `model.num_classes` (int)
* `data.source`: one of `SOURCES`. `digits`: 1,797 real 8 x 8 digits, comes with scikit-learn. `fake`: synthetic
  images. `tfds:NAME`: a prepared TensorFlow data set with `image` and `label`. `folder:PATH`:
  `PATH/train/CLASS/*.jpg` and an evaluation folder of the same layout; with `data.eval_split = "."` an evaluation set
  only, `PATH/CLASS/*.jpg`.
* `data.data_dir` (str): where tfds keeps its data sets ("" = its default); a relative folder PATH starts here.
* `data.train_split`, `data.eval_split` (str): names of the splits or folders; if there is no such evaluation split,
  the first of `val`, `validation`, `test`. tfds also understands slices, "train[:90%]".
* `data.class_names` (strings; may be missing): `folder` only, the classes' names in the order of their labels, where a
  tree with some of the classes is to have the labels of one with all of them; () = see `folder`.
* `data.holdout` (int): so many images of the training split, evenly spaced over its fixed order, are kept out of
  training; with `data.eval_split = "holdout"` evaluation sees these, so that choices are made without the evaluation
  split. `index` then counts within what is left, or what is held out (and within a slice of a tfds split).
* `evaluation.limit`, `evaluation.ids`: which of the evaluation images count (`choice.py`), for `choice_of` only.
* `data.image_size` (int): pixels of the square images in a batch.
* `data.eval_resize` (int): the short side before the central square is cut out, 0 = no resize. Not used by `digits`
  and `fake`, which come at `image_size`. `data.eval_pad` (bool): without a resize, smaller images get black borders.
* `data.train_resize` (int): the short side before a random resized crop, bicubic; 0 = no resize.
* `data.augmentation`: `random_resized_crop` (and flip; ImageNet), `pad_crop_flip` (4 pixels; CIFAR), `none`. The last
  two start from the evaluation geometry.
* `data.crop_scale`: (least, greatest) share of the image's area in a random resized crop.
* `data.views`: which views of each training image a batch holds, of `clean`, `deepaugment`, `tda` and `augmented`, one
  of the two by a coin (`views.py`); from one decoding, each with random numbers of its own. `data.tda_crop_scale`:
  `crop_scale` of `tda`.
* `deepaugment.mode`, `deepaugment.folders`, `deepaugment.sources`: with `files` the view `deepaugment` comes from
  trees of distorted images, each laid out and named as a `folder:` source or as its training split, but for
  extensions; a relative folder is below `data.data_dir`.
* `data.workers` (int): decoding threads, 0 = one a core. Does not change a byte of any batch.
* `data.decode` ("exact" | "fast"): training images by Pillow, equal to torchvision to the last bit, or by faster
  packages, equal to a level or two of 255 (`fast.py`; `random_resized_crop` only). Evaluation is always exact.
* `data.on_error` ("raise" | "skip"): an unreadable training image is an error that names it, or is replaced by the next
  readable one of the epoch's order, with its label and index, named and counted on stderr and in the metrics.
  Evaluation never skips.
* `data.other_files` ("raise" | "skip"): `folder` only, files in the class folders of evaluation images that are no
  images by their extension: refused, or left out and counted, as in training.
* `data.access` ("random" | "sequential"): how record files of tfds are read. Random: exact shuffling, resumes anywhere
  in seconds; an index of the files is made once. Sequential: where seeking is slow, and for gs:// paths.
* `data.shuffle_buffer` (int): encoded images in the shuffle buffer of sequential access.
* `data.fake_train`, `data.fake_eval` (int): number of images of the `fake` source.
"""

from collections.abc import Iterator

from nofrost_jax.data import checks, fingerprints, pipeline
from nofrost_jax.data.catalog import SOURCES, is_known
from nofrost_jax.data.checks import Spec
from nofrost_jax.data.choice import ALL, Choice, spread
from nofrost_jax.data.fast import DECODE
from nofrost_jax.data.folder import OTHER_FILES
from nofrost_jax.data.preprocess import AUGMENTATIONS
from nofrost_jax.data.skips import ON_ERROR
from nofrost_jax.data.views import DEEPAUGMENT_MODES

#: Training and evaluation images of data sets that take long to prepare, for a dry run before they are there.
PUBLISHED_SIZES = {"tfds:imagenet2012": (1_281_167, 50_000), "tfds:cifar10": (50_000, 10_000)}

#: Ways to read the record files of a tfds source.
ACCESS = ("random", "sequential")

__all__ = [
    "ACCESS",
    "AUGMENTATIONS",
    "DECODE",
    "DEEPAUGMENT_MODES",
    "ON_ERROR",
    "OTHER_FILES",
    "PUBLISHED_SIZES",
    "SOURCES",
    "Choice",
    "Spec",
    "check",
    "choice_of",
    "class_names",
    "describe_missing",
    "eval_batches",
    "eval_labels",
    "eval_ranks",
    "eval_side",
    "examine",
    "fingerprint",
    "is_known",
    "is_present",
    "spread",
    "steps_per_epoch",
    "train_batches",
    "training_fingerprint",
]


def check(config, splits=checks.SPLITS) -> Spec:
    """Validates the data of a config without touching a device; of `splits` only, e.g. ("evaluation",).

    Decodes every image of a folder with at most 2,000 of them, otherwise an evenly spaced sample of 256.

    Raises:
      UserError: data missing, empty or unreadable, labels outside the classes, fewer images than one batch. One line
        that says what, where and how to mend.
    """
    return checks.check(config, splits)


def describe_missing(config) -> list[str]:
    """What `check` would complain about, all of it, one line each; empty if nothing is wrong."""
    return examine(config)[0]


def examine(config, splits=checks.SPLITS) -> tuple[list[str], Spec | None]:
    """(all that `check` would complain about, what it returns, or None where it complains), by one look at the data."""
    return checks.examine(config, splits)


def is_present(config) -> bool:
    """Whether the data of a config is there at all: the folder exists and has folders in it, the tfds data set is
    prepared. Says nothing about what else is in it; `check` does.
    """
    return checks.is_present(config)


def class_names(config) -> tuple[str, ...]:
    """The classes' names in the order of their labels, () where they have none. Raises UserError, see `check`."""
    return checks.open_source(config).class_names


def eval_labels(config):
    """Labels of the evaluation split, int32 [N], or None where they are only known by reading all of it (tfds). Raises
    UserError, see `check`."""
    return getattr(checks.open_source(config).evaluation(), "labels", None)


def eval_side(config) -> int:
    """Pixels of the short side of the first evaluation image, before any resize, or 0 where examples are to be had in
    sequence only. Raises UserError, see `check`."""
    return checks.eval_side(config)


def fingerprint(config) -> str:
    """What tells the images of a config's evaluation split from others, wherever they lie: of a folder, the SHA-256 of
    names, labels and sizes of the files, and of what is in 64 of them; of tfds, the version and sizes of the data set;
    "" where the source's name says all. Lists a folder and asks for each file's size.

    Raises UserError, see `check`.
    """
    return fingerprints.of(config)


def training_fingerprint(config) -> dict[str, int | str]:
    """What tells a config's training images from others, wherever they lie, plain values: of a folder their number and
    the SHA-256 of names, labels and sizes of all files, also of DeepAugment's; of tfds the version and sizes of the
    data set; {} where the config says all. Reads no image.

    Raises UserError, see `check`.
    """
    return fingerprints.of_training(config)


def steps_per_epoch(config, spec: Spec) -> int:
    """Full batches in an epoch; the rest of each epoch's permutation is left out. Raises UserError if there is none."""
    return pipeline.epoch_length(config, spec.num_train)


def train_batches(config, start_step: int, process_index: int = 0, process_count: int = 1) -> Iterator[dict]:
    """Endless training batches from step `start_step` on; the process's contiguous share of each global batch.

    Returns:
      Iterator of `image` uint8 [b, H, W, 3], `label` int32 [b], `index` int32 [b], with b = batch_size /
      process_count. `image` is the view `clean`; other views are called as they are, and `augmented` has a bool [b]
      `is_deepaugment` with it. With `data.on_error = "skip"` a bool [b] `replaced` tells whose own image could not be
      read. `index` is the example's position in the fixed order of its split. Threads end with the iterator.

    Raises:
      UserError: see `check`; from `next` also for an image that cannot be read, which is named.
    """
    return pipeline.train_batches(config, start_step, process_index, process_count)


def eval_batches(
    config, batch_size: int, process_index: int = 0, process_count: int = 1, choice: Choice = ALL, wanted=None
) -> Iterator[dict]:
    """All evaluation examples, or those of a choice, once and in the order of their index.

    Global batch j holds number j * batch_size and following; each process gets its contiguous share.
    `wanted(j)`, if given, says whether to yield batch j; the others are not even decoded.

    Returns:
      Iterator of `image`, `label`, `index` as for training and `mask` bool [b]. The last batch is filled up with zero
      images, label 0, index -1, mask False. Every process yields the same number of batches.

    Raises:
      UserError: see `train_batches`.
    """
    return pipeline.eval_batches(config, batch_size, process_index, process_count, choice, wanted)


def choice_of(config) -> Choice:
    """Which images `config.evaluation.limit` and `ids` choose. Raises UserError for a list that cannot be read."""
    return Choice.read(config.evaluation.limit, config.evaluation.ids)


def eval_ranks(config, choice: Choice = ALL):
    """The rank of each image that `eval_batches` yields, in the order of classes and file names, which is the same
    whatever the source: int64 [N]. Raises UserError, see `check`."""
    return checks.eval_ranks(config, choice)
