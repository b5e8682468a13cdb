"""How the nets of a collection were attacked: one name may stand for attacks with other settings, whose numbers do not
compare."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from nofrost_jax.report import commands

_NAMES = {"attack": "", "steps": "", "step_rule": "", "queries": "", "count": "right", "restarts": 1, "norm": "linf"}
Settings = tuple[str, ...]


def settings(entry: Mapping[str, Any]) -> Settings:
    """What two entries of a result's attacks must share to be compared, besides the radius of the nets' training."""
    shared = tuple(str(entry.get(name) or default) for name, default in _NAMES.items())
    return shared + (f"{entry['epsilon_255']:g}",) * ("eps_" in entry["name"])


def usual(results: Iterable[Mapping[str, Any]]) -> dict[str, Settings]:
    """{attack: its settings in most results of the paper's suites, or in most others where these lack it}."""
    counts: dict[str, Counter] = {}
    for result in results:
        for entry in result["attacks"]:
            counts.setdefault(entry["name"], Counter())[result["name"] in commands.SUITES, settings(entry)] += 1
    return {name: max(found, key=lambda how: (how[0], found[how]))[1] for name, found in counts.items()}


def is_as_named(entry: Mapping[str, Any]) -> bool:
    """Whether an attack has the radius and the steps or queries of its name: pgd_20 may have been given others."""
    name, _, radius = entry["name"].partition("_eps_")
    radius = re.match(r"\d+(\.\d+)?", radius)
    if radius and float(radius[0]) != entry["epsilon_255"]:
        return False
    found = re.search(r"_(\d+)(_|$)", name)
    counts = {entry.get(name) for name in ("steps", "queries")} - {None}
    return not (found and counts) or int(found[1]) in counts
