"""Which images of an evaluation split are evaluated: all, a number of evenly spread ones, or those of a list.

They are spread over the order of the classes and, within a class, of the file names. So every class has its share, and
a folder and a tfds data set give the same images.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nofrost_jax.data.sources import Split
from nofrost_jax.errors import UserError
from nofrost_jax.files import sha256

_SHOWN = 200  # characters of a line that is quoted


@dataclasses.dataclass(frozen=True)
class Choice:
    """limit: number of images, evenly spread; 0 = all. ids: lines of a list, () = no list. file: its path. classes:
    only images of this many first classes; 0 = all."""

    limit: int = 0
    ids: tuple[str, ...] = ()
    file: str = ""
    classes: int = 0

    @classmethod
    def read(cls, limit: int = 0, path: str = "", classes: int = 0) -> "Choice":
        """With the lines of the list at `path`, if any: each is a file name, with or without folders before it, or the
        index of an image in its split. Empty lines and what follows a # are ignored. Raises UserError for a list that
        cannot be read, is empty, or has a line twice."""
        return cls(limit, _lines(path) if path else (), path, classes)

    def count(self, n: int) -> int:
        """How many of `n` images are chosen, if every listed one exists. `classes` is not considered."""
        n = len(self.ids) or n
        return min(self.limit or n, n)

    @property
    def plain(self) -> dict[str, str | int]:
        """Plain values that identify this choice; {} for all images. The order of the list does not count."""
        found: dict[str, str | int] = {"spread": self.limit} if self.limit else {}
        if self.classes:
            found["classes"] = self.classes
        if self.ids:
            found["ids_sha256"] = sha256(json.dumps(sorted(self.ids)))
        return found

    def __str__(self) -> str:
        parts = ["evenly spread"] * bool(self.limit) + [f"of {os.path.basename(self.file)}"] * bool(self.ids)
        return ", ".join(parts + [f"the first {self.classes} classes"] * bool(self.classes))

    def places(self, split: Split, class_names: Sequence[str] = ()) -> np.ndarray:
        """Which examples of a split are evaluated, int64 [count] ascending. class_names: of the source. Raises
        UserError for an id that is missing or ambiguous."""
        n = split.size
        if self.count(n) == n and not (self.ids or self.classes):
            return np.arange(n)
        labels, names = listing(split)
        ordered = _order(labels, names)
        if self.ids:
            ordered = ordered[np.isin(ordered, self._listed(labels, names, class_names))]
        if self.classes:
            ordered = ordered[labels[ordered] < self.classes]
            if not len(ordered):
                raise UserError(
                    f"none of these images is of the first {self.classes} classes; {split.where(0)}; "
                    "set config.evaluation.classes=0 for all"
                )
        return np.sort(ordered[spread(len(ordered), min(self.limit or n, len(ordered)))])

    def _listed(self, labels: np.ndarray, names: list[str] | None, class_names: Sequence[str]) -> np.ndarray:
        """The index of each id, int64 [len(ids)]."""
        table = _table(labels, names, class_names)
        found = [_find(one, table, len(labels), self.file) for one in self.ids]
        absent = [line for line, place in zip(self.ids, found, strict=True) if place is None]
        if absent:
            mend = "list this data's own files" if names else "this data has no file names, so list indices"
            raise UserError(
                f"{len(absent)} of {len(self.ids)} ids are none of the {len(labels)} images, the first is "
                f"{absent[0][:_SHOWN]}; {self.file}; {mend}, or set config.evaluation.ids to another list"
            )
        places, counts = np.unique(np.array(found, np.int64), return_counts=True)
        if len(places) < len(found):
            twice = [line for line, place in zip(self.ids, found, strict=True) if place == places[counts > 1][0]]
            raise UserError(f"{' and '.join(twice)[:_SHOWN]} are the same image; {self.file}; leave one out")
        return places


ALL = Choice()


def spread(n: int, count: int) -> np.ndarray:
    """`count` <= n of the numbers below n, evenly spread and ascending: int64 [count]."""
    return np.arange(count) * n // max(count, 1)


def ranks(split: Split, places: np.ndarray) -> np.ndarray:
    """The rank of each example at `places` among them, by class and name: int64 [len(places)]."""
    labels, names = listing(split)
    chosen = _order(labels, names)
    chosen = chosen[np.isin(chosen, places)]
    found = np.empty(len(places), np.int64)
    found[np.searchsorted(places, chosen)] = np.arange(len(places))
    return found


def listing(split: Split) -> tuple[np.ndarray, list[str] | None]:
    """What `split.listing()` returns. Raises UserError if a file cannot be read."""
    try:
        return split.listing()
    except OSError as error:
        raise UserError(f"cannot read labels and names ({error}); {split.where(0)}; prepare the data again") from error


def _order(labels: np.ndarray, names: list[str] | None) -> np.ndarray:
    """All indices, class by class, within a class by file name if there are names: int64 [n]."""
    if names is None:
        return np.argsort(labels, kind="stable")
    return np.lexsort((np.array(names), labels))


def _lines(path: str) -> tuple[str, ...]:
    try:
        text = Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise UserError(f"cannot read the list of images ({why}); {path}; correct config.evaluation.ids") from error
    found = tuple(filter(None, (line.partition("#")[0].strip() for line in text.splitlines())))
    if not found:
        raise UserError(f"no ids in the list of images; {path}; give one in each line, or config.evaluation.ids=''")
    if len(set(found)) < len(found):
        twice = next(line for number, line in enumerate(found) if line in found[:number])
        raise UserError(f"{twice[:_SHOWN]} is in the list of images twice; {path}; leave one out")
    return found


def _table(labels: np.ndarray, names: list[str] | None, class_names: Sequence[str]) -> dict[str, list[int]]:
    """{"CLASS/FILE", "FILE": indices}, and {"CLASS/": []} for every class folder."""
    table: dict[str, list[int]] = {f"{name}/": [] for name in class_names}
    for place, name in enumerate(names or ()):
        folder, slash, rest = name.partition("/")
        if not slash and class_names:
            folder, rest = class_names[labels[place]], name
        table.setdefault(f"{folder}/", [])
        if rest:
            table.setdefault(f"{folder}/{rest}", []).append(place)
        table.setdefault(name.rpartition("/")[2], []).append(place)
    return table


def _find(line: str, table: dict[str, list[int]], n: int, file: str) -> int | None:
    """The index of the image that a line means, or None."""
    if line.isascii() and line.isdigit() and line not in table:
        return int(line) if int(line) < n else None
    rest = line.replace("\\", "/").removeprefix("./")
    while rest not in table and "/" in rest:
        folder, _, rest = rest.partition("/")
        if f"{folder}/" in table:  # the class exists, the file in it does not
            return None
    found = table.get(rest, [])
    if len(found) > 1:
        raise UserError(f"{line[:_SHOWN]} may be any of {len(found)} images; {file}; put its class folder before it")
    return found[0] if found else None
