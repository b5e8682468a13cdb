"""The paper's numbers, in paper.json: of its tables and text, and the public measurement of its released net."""

import functools
import json
import pathlib
from typing import Any


@functools.cache
def read() -> dict[str, Any]:
    """{"tables": {name: {"source", "unit", "rows"}}, "text", "differences", "public": rows}.

    A row: {"row": of configs/methods.py, "depth", "values": {key of a column: in the paper's unit}}, and where it
    applies "method" as the table writes it, "epsilon_255", "gamma", "deviations", "exhibit", "source".
    """
    return json.loads(pathlib.Path(__file__).with_name("paper.json").read_text())


def find(exhibit: str, row: str, epsilon_255: float | None = None) -> dict[str, Any] | None:
    """A row of a table, or None where the paper has none. epsilon_255: of the training where the table has several."""
    rows = read()["tables"].get(exhibit, {}).get("rows", ())
    return next((one for one in rows if (one["row"], one.get("epsilon_255")) == (row, epsilon_255)), None)


def public() -> dict[str, Any]:
    """The row of the public measurement of the authors' released net."""
    return read()["public"][0]
