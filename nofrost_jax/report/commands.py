"""The commands that make a result or an exhibit, safe to paste into a shell whatever a file says."""

import shlex
from collections.abc import Mapping
from typing import Any

from nofrost_jax.report.exhibits import EXHIBITS

SUITES = {name: suite for one in EXHIBITS.values() for _, suite in one.suites for name in suite.results}


def evaluate(result: Mapping[str, Any]) -> str:
    """Makes a result again, as far as it says how. result: checked by `reading.RESULT`."""
    suite = SUITES.get(result["name"])
    given = []
    if suite:
        name, colon, argument = suite.config.partition(":")
        given = [f"--config=configs/eval/{name}.py{colon}{argument}"]
        given += [f"--config.{field}={value}" for field, value in suite.settings]
        given += [f"--config.evaluation.only={','.join(suite.only)}"] if suite.only else []
        given += [f"--config.evaluation.name={suite.name}"] if suite.name != name and not suite.gammas else []
    return _joined("main.py", "--mode=evaluate", *given, f"--workdir={result['checkpoint']['path']}")


def reproduce(exhibit: str, folder: str, source: str = "") -> str:
    """Trains and evaluates what an exhibit lacks in a folder. source: the data's; "" = ImageNet."""
    given = [f"--source={source}"] if source else []
    return _joined("-m", "nofrost_jax.tools.reproduce", exhibit, *given, f"--workdir={folder}")


def _joined(*arguments: str) -> str:
    return " ".join(["python", *map(shlex.quote, arguments)])
