"""Decodes every image of a data set, once, and names each unreadable one.

    python -m nofrost_jax.tools.verify folder:PATH
    python -m nofrost_jax.tools.verify tfds:imagenet2012 --data_dir=DIR

Before a run only a sample is checked (`nofrost_jax.data.open`). Exit code 2 if an image is unreadable.
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nofrost_jax.data import preprocess
from nofrost_jax.data.catalog import is_known, open_source
from nofrost_jax.data.sources import Sequential, Source, Split, in_threads
from nofrost_jax.errors import Parser, UserError, exit_codes
from nofrost_jax.progress import shown
from nofrost_jax.tools.wording import speaking_of

BLOCK = 1024  # images of a sequential split that the threads get at once
_OPTIONS = {
    "config.data.source": "source",
    **{f"config.data.{name}": f"--{name}" for name in ("data_dir", "train_split", "eval_split")},
    "config.data": "--train_split or --eval_split",  # as in: set the split in config.data
}


def unreadable(split: Split, workers: int, what: str = "reading") -> Iterator[str]:
    """ "WHY; WHERE" of each image of a split that cannot be decoded, in order; its progress goes to stderr.

    Raises UserError if a sequential source is damaged: nothing after that can be read.
    """

    def problem(index: int, load: Callable[[], bytes | np.ndarray]) -> str | None:
        try:
            preprocess.decode(load())
        except (preprocess.ImageError, OSError) as error:
            return f"{error}; {split.where(index)}"
        return None

    def in_sequence(split: Sequential) -> Iterator[str | None]:
        with ThreadPoolExecutor(workers) as pool:
            for part in split.evaluation(BLOCK, (0, 1), np.arange(split.size)):
                yield from pool.map(
                    lambda index, image: problem(index, lambda: image), part.index.tolist(), part.images
                )

    if isinstance(split, Sequential):
        found = shown(in_sequence(split), split.size, what, "images")
    else:
        load = split.load
        found = in_threads(lambda index: problem(index, lambda: load(index)), split.size, what, workers)
    yield from filter(None, found)


def _splits(source: Source, name: str, data_dir: str, eval_split: str) -> Iterator[tuple[str, Split]]:
    """(name, split) of those that exist. Raises UserError if there is none."""
    errors = []
    for part in ("train", "evaluation"):
        try:
            with speaking_of(_OPTIONS, name, data_dir, eval_split):
                split = getattr(source, part)
            if left_out := getattr(split, "left_out", ""):
                print(f"note: {left_out}; left out", file=sys.stderr)
            yield part, split
        except UserError as error:
            errors.append(error)
            print(f"note: {error}", file=sys.stderr)
    if len(errors) == 2:
        raise UserError(f"{name} has neither a training nor an evaluation split; {errors[0]}")


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("tools.verify", __doc__)
    parser.add_argument("source", help="folder:PATH or tfds:NAME")
    parser.add_argument("--data_dir", default="", help="as config.data.data_dir")
    parser.add_argument("--train_split", default="train")
    parser.add_argument("--eval_split", default="validation")
    parser.add_argument("--workers", type=int, default=0, help="threads; 0 = one a core")
    with exit_codes():
        given = parser.parse_args(arguments)
        name, workers, place = given.source, given.workers or os.cpu_count() or 1, (given.data_dir, given.eval_split)
        if not is_known(name) or name == "fake":
            raise UserError(f"unknown data source {name!r}; give folder:PATH or tfds:NAME, e.g. folder:/data/imagenet")
        images = bad = 0
        with speaking_of(_OPTIONS, name, *place):
            source = open_source(name, given.data_dir, given.train_split, given.eval_split)
        for part, split in _splits(source, name, *place):
            for line in unreadable(split, workers, f"reading {part} of {name}"):
                print(f"unreadable: {line}", flush=True)
                bad += 1
            images += split.size
    print(f"{name}: {images:,} images, {bad:,} unreadable")
    if bad:
        raise SystemExit(2)


if __name__ == "__main__":
    main()
