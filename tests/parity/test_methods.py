"""One update of each training method equals a PyTorch transcription of its published algorithm (`published.py`).

The same rows as `python -m tests.parity methods`: adversarial images to the last bit, back-propagations of each image,
what the train-mode forwards saw, in which order they moved the running statistics, loss, parameters.
"""

import json

import pytest

from tests.conftest import finish, start

pytest.importorskip("torch", reason="the parity tests need PyTorch: requirements-parity.txt")
ROWS = ("trades", "fat", "trades_fat", "fastat", "freeat", "combine", "nofrost_star", "deepaugment", "tda")


@pytest.fixture(scope="module")
def certificate():
    """Its rows, from a process of their own: float64, and no fused operations, are for a whole process."""
    outcome = finish(start("-m", "tests.parity", "--json", "methods"), timeout=900)
    assert outcome.returncode in (0, 1), outcome.stderr
    return [json.loads(line) for line in outcome.stdout.splitlines()]


@pytest.mark.parametrize("row", ROWS)
def test_an_update_equals_the_published_algorithms(certificate, row):
    rows = [entry for entry in certificate if entry["attack"] == row]
    broken = [entry for entry in rows if not entry["deviation"] <= entry["tolerance"]]
    assert rows and not broken, "\n".join(map(str, broken))


def test_the_certificate_has_these_methods_and_no_other(certificate):
    assert {entry["attack"] for entry in certificate} == set(ROWS)
