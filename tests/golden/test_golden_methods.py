"""One step of every row of configs/methods.py gives the numbers that it gave when they were last meant to change."""

import json

import pytest

from configs.methods import ROWS
from tests.golden import make_methods

STORED = json.loads(make_methods.PATH.read_text()) if make_methods.PATH.exists() else {}
# Batch norm rounds running statistics to float32, of which a last bit may differ; everything else is float64.
RELATIVE, ABSOLUTE = 1e-6, 1e-9


def test_every_row_has_its_numbers_and_no_other():
    assert STORED.keys() == ROWS.keys(), "run python -m tests.golden.make_methods"


@pytest.mark.parametrize("row", ROWS)
def test_a_step_gives_the_stored_numbers(row):
    changed = differences(row, STORED.get(row, {}), make_methods.measure(row))
    assert not changed, "\n".join(changed)


def differences(row, old, new):
    """A line for each number of a row that is not what it was, and what to do about them; empty where all are."""
    lines = [
        f"{row}: {name}: was {old.get(name, 'absent')}, is {new.get(name, 'absent')}"
        for name in old | new
        if name not in old or name not in new or new[name] != pytest.approx(old[name], rel=RELATIVE, abs=ABSOLUTE)
    ]
    advice = "If the change is meant, run python -m tests.golden.make_methods and say why in the commit."
    return [*lines, advice] if lines else []


def test_a_changed_number_is_named_with_what_to_do():
    old = {"loss": 1.0, "gradient_norm": 2.0}
    assert differences("sat", old, {"loss": 1.0 + 1e-8, "gradient_norm": 2.0}) == []
    first, second, advice = differences("sat", old, {"loss": 1.00001, "parameter_norm": 2.0, "gradient_norm": 2.0})
    assert first == "sat: loss: was 1.0, is 1.00001"
    assert second == "sat: parameter_norm: was absent, is 2.0"
    assert "make_methods" in advice
