"""The table of data sources, and how `config.data.source` is opened."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from nofrost_jax.data.sources import RandomAccess, Source, Subset, size
from nofrost_jax.errors import UserError

SOURCES = ("digits", "fake", "tfds:NAME", "folder:PATH")
#: As `config.data.eval_split`: the training images that `config.data.holdout` keeps out of training.
HOLDOUT = "holdout"


def holdout_mask(n: int, holdout: int) -> np.ndarray:
    """bool [n]: the `holdout` < n examples that are kept out of training, those at floor((2 i + 1) n / (2 holdout))."""
    mask = np.zeros(n, bool)
    mask[(2 * np.arange(holdout) + 1) * n // (2 * max(holdout, 1))] = True
    return mask


def is_known(source: str) -> bool:
    """Whether `source` has the form of one of `SOURCES`, e.g. "digits" or "tfds:cifar10"."""
    kind, colon, rest = source.partition(":")
    if colon:
        return bool(rest) and any(known.startswith(f"{kind}:") for known in SOURCES)
    return kind in SOURCES


def open_source(config) -> Source:
    """The source named by `config.data.source`, its training split without the images that `config.data.holdout` keeps.

    Raises UserError where it is unknown, its data is not there, or it cannot keep so many images.
    """
    name, holdout = config.data.source, config.data.get("holdout", 0)
    if not is_known(name):
        raise UserError(f"unknown data source {name!r}; config.data.source; use one of {', '.join(SOURCES)}")
    wanted = config.data.eval_split == HOLDOUT
    if name.startswith("tfds:") and (holdout or wanted) and config.data.get("access") == "sequential":
        raise UserError(
            f"{name} is read in sequence and cannot keep single images out of training; config.data.holdout = "
            f"{holdout}, config.data.eval_split = {config.data.eval_split}; set config.data.access = random, or use "
            'slices: config.data.holdout = 0, config.data.train_split = "train[:90%]", eval_split = "train[90%:]"'
        )
    if wanted and not holdout:
        raise UserError(
            "config.data.eval_split = holdout, but no images are held out; config.data.holdout = 0; set it to a number "
            "of training images"
        )
    source = _open_named(config, *name.partition(":")[::2])
    if not holdout:
        return source
    kept, held = (functools.partial(_split_holdout, source.train, holdout, name, which) for which in (False, True))
    if wanted:
        return dataclasses.replace(source, train=kept, evaluation=held, eval_name=HOLDOUT)
    return dataclasses.replace(source, train=kept)


def _split_holdout(open_train: Callable[[], RandomAccess], holdout: int, name: str, which: bool) -> Subset:
    """The training examples that are held out (`which`), or all the others."""
    split = open_train()
    if holdout >= size(split):
        raise UserError(
            f"the training split has {size(split)} images, so {holdout} cannot be held out; {name}; lower "
            "config.data.holdout"
        )
    return Subset.of(split, np.flatnonzero(holdout_mask(size(split), holdout) == which))


def _open_named(config, kind: str, rest: str) -> Source:
    if kind == "digits":
        from nofrost_jax.data import digits

        return digits.open_source(config)
    if kind == "fake":
        from nofrost_jax.data import fake

        return fake.open_source(config)
    if kind == "folder":
        from nofrost_jax.data import folder

        return folder.open_source(config, rest)
    from nofrost_jax.data import tfds_source

    return tfds_source.open_source(config, rest)
