"""The command of the report: what it refuses, what it leaves alone, and the document that it fills."""

import errno
import os
import sys

import pytest

from nofrost_jax import files
from tests.conftest import ROOT
from tests.report.reported import call


def test_a_report_is_made_again_in_its_place(runs, tmp_path, no_figures, capsys):
    out = tmp_path / "out"
    assert call(runs, f"--output={out}") == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "tables" / "table9.md").write_text("of an older version")
    assert call(runs, f"--output={out}") == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda out: (folder(out) / "thesis.tex").write_text("x"), "holds thesis.tex"),
        (lambda out: (folder(out) / "index.html").write_text("<html>my page"), "holds index.html"),
        (lambda out: (folder(folder(out) / "tables") / "data.xlsx").write_text("x"), "holds tables/data.xlsx"),
        (lambda out: out.write_text("x"), "cannot be written to"),
    ],
)
def test_an_output_with_something_else_in_it_is_refused(runs, tmp_path, no_figures, capsys, make, words):
    out = tmp_path / "out"
    make(out)
    before = sorted(tmp_path.rglob("*"))
    assert call(runs, f"--output={out}") == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert words in complaint and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--output=out"], "nowhere is not a folder"),
        (["empty", "--output=out"], "holds no result files"),
        (["empty"], "--output"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert call(*arguments) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_page_as_it_was(runs, tmp_path, no_figures, capsys, monkeypatch):
    out = tmp_path / "out"
    assert call(runs, f"--output={out}") == 0
    before = (out / "index.html").read_bytes()

    def full(path, content, sync=True):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(files, "write", full)
    assert call(runs, f"--output={out}") == 1
    assert "the disk is full" in capsys.readouterr().err and (out / "index.html").read_bytes() == before


def test_a_document_gets_its_tables(runs, tmp_path, no_figures, capsys):
    document = tmp_path / "RESULTS.md"
    start = "# Results\n<!-- table table3 -->\nold\n<!-- end -->\ntext\n<!-- table digits -->\n<!-- end -->\n"
    document.write_text(start + "<!-- table accelerator -->\n<!-- end -->\n")
    assert call(runs, f"--output={tmp_path / 'out'}", f"--into={document}") == 0
    text = document.read_text()
    assert "| SAT" in text and "ST \\(NF" not in text and "No accelerator has been measured yet" in text
    assert "old" not in text and "\ntext\n" in text and (tmp_path / "out/tables/table3.md").read_text().strip() in text
    document.write_text(start + "<!-- table table7 -->\n<!-- end -->\n")
    assert call(runs, f"--output={tmp_path / 'out'}", f"--into={document}") == 2
    assert "no result for <!-- table table7 -->" in capsys.readouterr().err and "old" in document.read_text()


@pytest.mark.parametrize("text", ["no place for a table", "<!-- table table3 -->\nno end"])
def test_a_document_without_a_place_is_refused_before_anything_is_written(runs, tmp_path, no_figures, capsys, text):
    document = tmp_path / "own.md"
    document.write_text(text)
    assert call(runs, f"--output={tmp_path / 'out'}", f"--into={document}") == 2
    assert "<!-- " in capsys.readouterr().err and document.read_text() == text
    assert not list(tmp_path.glob("out/*"))


def test_results_md_is_what_the_command_makes_of_the_committed_files(tmp_path, no_figures):
    document = tmp_path / "RESULTS.md"
    document.write_text((ROOT / "RESULTS.md").read_text())
    assert call(ROOT / "benchmarks/results", f"--output={tmp_path / 'out'}", f"--into={document}") == 0
    made, hint = (
        document.read_text(),
        "run python -m nofrost_jax.report benchmarks/results --output=OUT --into=RESULTS.md",
    )
    assert made == (ROOT / "RESULTS.md").read_text(), hint


def test_without_jinja_the_command_says_what_to_install(runs, tmp_path, no_figures, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert call(runs, f"--output={tmp_path / 'out'}") == 2
    assert "pip install matplotlib jinja2" in capsys.readouterr().err
