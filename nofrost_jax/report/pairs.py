"""Are two nets different on the same images? Exact McNemar tests from per-image outcomes, with Holm's correction."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nofrost_jax.report.collect import Evaluation, Value

Z95 = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two nets under one attack. n: images that both were measured on; only_first, only_second: images on which one
    net alone is right. points: first minus second, a fraction; ci95: its interval; p: see `mcnemar`."""

    n: int
    only_first: int
    only_second: int

    @property
    def points(self) -> float:
        return (self.only_first - self.only_second) / max(self.n, 1)

    @property
    def ci95(self) -> tuple[float, float]:
        """Of a difference of paired shares, half an image added to each cell (Agresti and Min, 2005)."""
        total, gap = self.n + 2, self.only_first - self.only_second
        half = Z95 * math.sqrt(self.only_first + self.only_second + 1 - gap * gap / total) / total
        return max(-1.0, gap / total - half), min(1.0, gap / total + half)

    @property
    def p(self) -> float:
        return mcnemar(self.only_first, self.only_second)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p value: how likely so unequal counts are if each of these images falls to either net with
    probability one half (McNemar, 1947, with the binomial distribution). 1 where there are none."""
    total, least = only_first + only_second, min(only_first, only_second)
    if 2 * least == total:
        return 1.0
    logarithm = math.lgamma(total + 1) - math.lgamma(least + 1) - math.lgamma(total - least + 1) - total * math.log(2)
    term, tail = 1.0, 1.0  # the greatest term of the tail is 1 here
    for count in range(least, 0, -1):
        term *= count / (total - count + 1)
        if term < 1e-18 * tail:
            break
        tail += term
    return min(1.0, 2 * math.exp(logarithm) * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for there being several (Holm, 1979), in the same order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, greatest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        greatest = max(greatest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = greatest
    return corrected


def compare(first: Value, second: Value) -> Difference:
    """Two nets' outcomes under the same key. Raises ValueError, with the reason, where they are not comparable."""
    if first.settings != second.settings:
        raise ValueError("they were attacked in different ways")
    if _images(first) != _images(second):
        raise ValueError("they were measured on different images")
    columns = [_columns(value) for value in (first, second)]
    if not all(np.array_equal(columns[0][name], columns[1][name]) for name in ("index", "label")):
        raise ValueError("their images or labels differ")
    shared = np.logical_and(*(one["selected"] for one in columns))
    right, other = (one["right"][shared] for one in columns)
    return Difference(len(right), int((right & ~other).sum()), int((other & ~right).sum()))


def _images(value: Value) -> tuple[Any, ...]:
    """What says which images a value is of: a folder's fingerprint, or else the source; the split; which of it."""
    result = value.evaluation.result
    dataset, data = result["dataset"], (result.get("asked") or {}).get("data") or {}
    return data.get("contents") or dataset["source"], dataset["split"], dataset.get("index_sha256") or value.path


def _columns(value: Value) -> dict[str, np.ndarray]:
    """{"index", "label", "right", "selected"} of a value's images, each [N]. Raises ValueError."""
    arrays = _arrays(value.evaluation)
    name = "clean_correct" if value.key == "clean" else value.key
    if lacking := {"index", "label", name} - arrays.keys():
        raise ValueError(f"the .npz file of {value.path} is missing or lacks {', '.join(sorted(lacking))}")
    found = {"index": arrays["index"], "label": arrays["label"], "right": arrays[name]}
    found["selected"] = arrays.get(f"{name}.selected", np.ones(len(arrays["index"]), bool))
    if len({len(array) for array in found.values()}) > 1 or any(
        found[name].dtype != bool for name in ("right", "selected")
    ):
        raise ValueError(f"the .npz file of {value.path} has columns of different lengths or kinds")
    chosen = found["right"][found["selected"]]
    if abs(chosen.sum() - value.accuracy * len(chosen)) > 1e-3:
        raise ValueError(f"the .npz file of {value.path} does not belong to it: another accuracy")
    return found


@functools.lru_cache(maxsize=32)
def _arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    return evaluation.arrays()
