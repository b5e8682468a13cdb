"""Runs for a report, made once, and a report without figures."""

import os

import pytest

from nofrost_jax.report import __main__ as command
from tests.conftest import ROOT
from tests.report import made
from tests.report.reported import NASTY, run


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs & <b>")
    run(folder / "sat", "sat", (110, 20, 8, 7), ["weak_attack"])
    run(folder / "sat_again", "sat", (111, 22, 9))
    run(folder / NASTY.replace("/", "\\"), "nofrost", (140, 25, 10), [NASTY])
    run(folder / "digits", "nofrost", (190, 150, 130, 125, 120), source=f"tfds:{NASTY}")
    bad = made.write(folder / "bad", made.result(None))
    bad.rename(bad.with_name(f"{NASTY.replace('/', ' ')}.json")).write_text("<html>")
    (folder / "study.json").write_text((ROOT / "benchmarks/results/study_digits.json").read_text())
    return folder


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes seconds and has tests of its own."""

    def draw_all(collection, out):
        os.makedirs(os.path.join(out, "figures"), exist_ok=True)
        return [], []

    monkeypatch.setattr(command.figures, "draw_all", draw_all)
