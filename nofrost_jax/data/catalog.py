"""The table of data sources, and how one is opened."""

import numpy as np
from ml_collections import ConfigDict

from nofrost_jax.data.sources import RandomAccess, Sequential, Source, Split, Subset
from nofrost_jax.errors import UserError

SOURCES = ("digits", "fake", "tfds:NAME", "folder:PATH")
#: As `config.data.eval_split`: the training images that `config.data.holdout` keeps out of training.
HOLDOUT = "holdout"


def holdout_mask(n: int, holdout: int) -> np.ndarray:
    """bool [n]: the `holdout` < n examples that are kept out of training, those at floor((2 i + 1) n / (2 holdout))."""
    mask = np.zeros(n, bool)
    mask[(2 * np.arange(holdout) + 1) * n // (2 * max(holdout, 1))] = True
    return mask


def require_random(split: Split, name: str, prevented: str, otherwise: str = "") -> RandomAccess:
    """The split. Raises UserError if it is read in sequence. name: the source's; prevented: what that makes impossible,
    and the field that asks for it; otherwise: another solution."""
    if isinstance(split, Sequential):
        raise UserError(
            f"{name} is prepared as TFRecord files, which are read in sequence, so {prevented}; prepare it again with "
            f"nofrost_jax.tools.prepare into another config.data.data_dir{otherwise}"
        )
    return split


def hold_out(split: Split, holdout: int, name: str) -> tuple[Subset, Subset]:
    """(the rest of a training split, the `holdout` examples that are kept out of training). name: the source's.

    Raises UserError if there are too few, or if the split is read in sequence.
    """
    slices = 'use slices: train_split = "train[:90%]", eval_split = "train[90%:]", holdout = 0'
    prevented = "no single images can be kept out of training; config.data.holdout"
    split = require_random(split, name, prevented, f", or {slices}")
    if holdout >= split.size:
        raise UserError(
            f"the training split has {split.size} images, so {holdout} cannot be held out; {name}; lower "
            "config.data.holdout"
        )
    mask = holdout_mask(split.size, holdout)
    return Subset(split, np.flatnonzero(~mask)), Subset(split, np.flatnonzero(mask))


def is_known(source: str) -> bool:
    """Whether `source` has the form of one of `SOURCES`, e.g. "digits" or "tfds:cifar10"."""
    kind, colon, rest = source.partition(":")
    if colon:
        return bool(rest) and any(known.startswith(f"{kind}:") for known in SOURCES)
    return kind in SOURCES


def is_present(source: str, data_dir: str) -> bool:
    """Whether the data of a source exists: the folder has folders in it, the tfds data set is prepared. Checks nothing
    else; `Dataset.checked` does."""
    kind, _, rest = source.partition(":")
    if kind == "folder":
        from nofrost_jax.data import folder

        return folder.has_subfolders(folder.root_of(data_dir, rest))
    if kind == "tfds":
        from nofrost_jax.data import tfds_source

        return tfds_source.is_prepared(rest, data_dir)
    return True


def open_config(config: ConfigDict, class_names: tuple[str, ...] = ()) -> Source:
    """The source of `config.data`. class_names: see `folder.open_source`.

    Raises UserError if its data is missing, or no images are held out for the split "holdout".
    """
    data = config.data
    if data.eval_split == HOLDOUT and not data.holdout:
        raise UserError(
            "config.data.eval_split = holdout, but no images are held out; config.data.holdout = 0; set it to a number "
            "of training images"
        )
    if data.source == "fake":
        from nofrost_jax.data import fake

        larger = data.augmentation == "random_resized_crop"
        return fake.open_source(data.fake_train, data.fake_eval, data.image_size, config.model.num_classes, larger)
    return open_source(
        data.source,
        data.data_dir,
        data.train_split,
        data.eval_split,
        num_classes=config.model.num_classes,
        class_names=class_names,
        skip_others=data.other_files == "skip",
        shuffle_buffer=data.shuffle_buffer,
        image_size=data.image_size,
    )


def open_source(
    name: str,
    data_dir: str,
    train_split: str,
    eval_split: str,
    *,
    num_classes: int = 0,
    class_names: tuple[str, ...] = (),
    skip_others: bool = True,
    shuffle_buffer: int = 1,
    image_size: int = 8,
) -> Source:
    """Any source but `fake`. The arguments have the names of config fields; the defaults are for reading images only.

    Raises UserError if its data is missing.
    """
    kind, _, rest = name.partition(":")
    if kind == "folder":
        from nofrost_jax.data import folder

        return folder.open_source(rest, data_dir, train_split, eval_split, num_classes, class_names, skip_others)
    if kind == "tfds":
        from nofrost_jax.data import tfds_source

        return tfds_source.open_source(rest, data_dir, train_split, eval_split, shuffle_buffer)
    if name != "digits":
        raise ValueError(f"unknown data.source {name!r}; choose one of {', '.join(SOURCES)}")
    from nofrost_jax.data import digits

    return digits.open_source(image_size)
