"""Running statistics of one batch norm layer (paper, Figure 1).

The paper shows "the 15-th layer" of ResNet-26 and does not say how it counts. Two readings are given: of all batch
norms in the order of modules, and of those that are not in a shortcut.
"""

import re
from typing import Any

import flax
import numpy as np

NUMBER = 15
READINGS = ("module order", "without shortcuts")


def layers(batch_stats: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """{"stage1_block1/norm1": {"mean", "var": float [C]}} of a net's batch norms in the order of modules, the stem's
    first, each block's shortcut last. Of a mixture-BN layer there are two, "stem_norm/clean" before ".../adversarial".
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for (*path, statistic), value in flax.traverse_util.flatten_dict(batch_stats).items():
        found.setdefault("/".join(path), {})[statistic] = np.asarray(value)
    return {name: found[name] for name in sorted(found, key=_place)}


def numbered(batch_stats: dict[str, Any], number: int = NUMBER) -> list[dict[str, Any]]:
    """Layer `number`, from 1 on, in both READINGS, as plain values: {"reading", "number", "layer", "mean", "var"}, for
    a mixture-BN net once for each branch. Nets with fewer layers, or none, have none in that reading."""
    every = layers(batch_stats)
    found = []
    for reading in READINGS:
        kept = [name for name in every if reading != "without shortcuts" or "shortcut" not in name]
        for branch in ("", "/clean", "/adversarial"):
            names = [name for name in kept if name.endswith(branch) and (branch or not _branch(name))]
            if len(names) >= number:
                name = names[number - 1]
                values = {statistic: every[name][statistic].tolist() for statistic in ("mean", "var")}
                found.append({"reading": reading, "number": number, "layer": name, **values})
    return found


def _place(name):
    """Sorts as modules are made: the stem, then by stage, block, norm1 to norm3, shortcut; the clean branch first."""
    stage, block = map(int, re.findall(r"\d+", name.partition("/")[0]) or (0, 0))
    return stage, block, name.removesuffix("/" + _branch(name)), _branch(name) == "adversarial"


def _branch(name):
    last = name.rpartition("/")[2]
    return last if last in ("clean", "adversarial") else ""
