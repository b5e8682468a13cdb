"""The commands that make a result or an exhibit, safe to paste into a shell whatever a file says."""

import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

from nofrost_jax.report import reading
from nofrost_jax.report.exhibits import EXHIBITS

SUITES = {name: suite for one in EXHIBITS.values() for _, suite in one.suites for name in suite.results}
_MOST_SETTINGS = 100
_LIST = "LIST"  # a result knows the hash of its list of images, not the path


def evaluate(result: Mapping[str, Any], folder: str = "") -> str:
    """Makes a result again, as far as it says how. result: checked by `reading.RESULT`; folder: of its run, "" = where
    the run was when it was evaluated."""
    suite = SUITES.get(result["name"])
    given = []
    if suite:
        name, colon, argument = suite.config.partition(":")
        given = [f"--config=configs/eval/{name}.py{colon}{argument}"]
        given += [f"--config.{field}={value}" for field, value in suite.settings]
        given += [f"--config.evaluation.only={','.join(suite.only)}"] if suite.only else []
        given += [f"--config.evaluation.name={suite.name}"] if suite.name != name and not suite.gammas else []
    chosen = (result.get("asked") or {}).get("evaluation") or {}
    given += [f"--config.evaluation.{name}={int(chosen[name])}" for name in ("limit", "classes") if chosen.get(name)]
    given += [f"--config.evaluation.ids={_LIST}"] * bool(chosen.get("ids"))
    return _joined("main.py", "--mode=evaluate", *given, f"--workdir={folder or result['checkpoint']['path']}")


def reproduce(exhibit: str, folder: str, source: str = "") -> str:
    """Trains and evaluates what an exhibit lacks in a folder, with the settings of the runs that `tools.reproduce` has
    made there: it refuses any others. source: the data's, where there are no such runs; "" = ImageNet."""
    scale = "cifar10" if re.search(r"cifar_?10(?!0)", source) else ""
    made = _settings(folder) or {"scale": scale, "source": source, "files": "", "settings": {}}
    given = [f"--{name}={made[name]}" for name in ("scale", "source", "files") if made[name]]
    given += [f"--set={field}={value}" for field, value in made["settings"].items()]
    return _joined("-m", "nofrost_jax.tools.reproduce", exhibit, *given, f"--workdir={folder}")


def _settings(folder: str) -> dict[str, Any] | None:
    """What all runs of `tools.reproduce` in a folder share; None where it has none, or does not say so."""
    try:
        made = reading.read_json(os.path.join(folder, "reproduce.json"))
        reading.check(made, reading.REPRODUCE)
    except ValueError:
        return None
    return made if len(made["settings"]) <= _MOST_SETTINGS else None


def _joined(*arguments: str) -> str:
    return " ".join(["python", *map(shlex.quote, arguments)])
