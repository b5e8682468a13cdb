"""The documentation's Python runs as it stands there."""

import re

import pytest

from tests.conftest import ROOT


def run(page):
    """The names that a page's blocks of Python leave behind, one after the other."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.slow
def test_attacks_on_a_model_that_is_not_ours(capsys):
    names = run("docs/attacks.md")
    assert 0 <= names["found"]["attacks"][0]["robust_accuracy"] <= 1
    assert names["result"].images.shape == (8, 32, 32, 3)
    assert capsys.readouterr().out


def test_loading(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert run("docs/checkpoints.md")["classifier"].class_names == tuple("0123456789")
    assert "nf_resnet26" in capsys.readouterr().out


def test_readme(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    found = run("README.md")["found"]
    assert found["clean"]["accuracy"] > 0.95 and 0.4 < found["attacks"][0]["robust_accuracy"] < 0.9
    assert "aa_standard  not run" in capsys.readouterr().out
