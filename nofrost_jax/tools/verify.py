"""Reads and decodes every image of a data set in full, once, and names each that is unreadable.

    python -m nofrost_jax.tools.verify folder:PATH
    python -m nofrost_jax.tools.verify tfds:imagenet2012 --data_dir=DIR

A run checks a sample only before it starts (`nofrost_jax.data.open`). Ends with exit code 2 if an image is unreadable.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nofrost_jax.data import preprocess
from nofrost_jax.data.catalog import is_known, open_source
from nofrost_jax.data.sources import Source, is_random
from nofrost_jax.errors import Parser, UserError, exit_codes
from nofrost_jax.progress import shown
from nofrost_jax.tools.wording import speaking_of

BLOCK = 1024  # Images that are handed to the threads at once.
_OPTIONS = {
    "config.data.source": "source",
    **{f"config.data.{name}": f"--{name}" for name in ("data_dir", "train_split", "eval_split")},
    "config.data": "--train_split or --eval_split",  # as in: set the split in config.data
}


def unreadable(split, workers: int, what: str = "reading") -> Iterator[str]:
    """ "WHY; WHERE" of each image of a split that cannot be decoded, in order; tells its progress on stderr.

    Raises UserError where a source that can only be read in sequence is damaged: nothing after that can be read.
    """
    with ThreadPoolExecutor(workers) as pool:
        checked = _random(split, pool) if is_random(split) else _sequential(split, pool)
        yield from filter(None, shown(checked, split.size, what, "images"))


def _random(split, pool: ThreadPoolExecutor) -> Iterator[str | None]:
    for first in range(0, split.size, BLOCK):
        block = range(first, min(first + BLOCK, split.size))
        yield from pool.map(lambda index: _problem(lambda: split.load(index), split.where(index)), block)


def _sequential(split, pool: ThreadPoolExecutor) -> Iterator[str | None]:
    for chunk in split.evaluation(BLOCK, (0, 1), np.arange(split.size)):
        items = zip(chunk.images, chunk.index.tolist(), strict=True)
        yield from pool.map(lambda item: _problem(lambda: item[0], split.where(item[1])), items)


def _problem(load, where: str) -> str | None:
    try:
        preprocess.decode(load())
    except (preprocess.ImageError, OSError) as error:
        return f"{error}; {where}"
    return None


def _splits(source: Source, name: str, data_dir: str, eval_split: str) -> Iterator[tuple[str, object]]:
    """(name, split) of those that are there. Raises UserError if there is none."""
    errors = []
    for part in ("train", "evaluation"):
        try:
            with speaking_of(_OPTIONS, name, data_dir, eval_split):
                split = getattr(source, part)
            if told := getattr(split, "left_out", ""):
                print(f"note: {told}; left out", file=sys.stderr)
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
