"""The study's table: exact numbers from a small study made by hand."""

import json
import subprocess
import sys

import pytest

from configs import methods
from nofrost_jax.report import study as report
from tests.conftest import ROOT


def run(row, seed, clean, pgd, aa, seconds=100.0, **more):
    attacks = {"pgd_20": pgd} if aa is None else {"aa_standard": aa, "pgd_20": pgd}  # by name, as results have them
    return {
        "row": row,
        "seed": seed,
        "learning_rate": 0.3,
        "clean": clean,
        "attacks": attacks,
        "flags": {label: [] for label in attacks},
        "n": 360,
        "attacked": dict.fromkeys(attacks, 360),
        "epsilon_255": 38.25,
        "seconds": seconds,
        **more,
    }


def study(**changes):
    return {
        "study": "digits",
        "rows": ["st", "nofrost"],
        "seeds": [0, 1, 2],
        "rates": [0.1, 0.3],
        "rule": "greatest mean",
        "chosen": {"st": 0.1, "nofrost": 0.3},
        "runs": [
            *(run("st", seed, 0.98, 0.03, 0.0) for seed in range(3)),
            run("nofrost", 0, 0.99, 0.70, 0.60, 200.0, cpu_seconds=150.0),
            run("nofrost", 1, 0.98, 0.72, 0.62, 210.0, cpu_seconds=160.0),
            run("nofrost", 2, 0.97, 0.77, 0.64, 220.0),
        ],
        "missing": [],
        "device": "cpu",
        "cores": 2,
        **changes,
    }


def test_means_and_sample_deviations_are_exact():
    """0.70, 0.72, 0.77: mean 73.0, squares 9 + 1 + 16 = 26, sample deviation sqrt(13) = 3.6 (population: 2.9)."""
    assert report.table(study()).splitlines() == [
        r"| Method | Learning rate | Clean | PGD-20 | aa\_standard | Seconds | CPU seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| ST | 0.1 | 98.0 ± 0.0 | 3.0 ± 0.0 | 0.0 ± 0.0 | 100 | – |",
        "| NoFrost | 0.3 | 98.0 ± 1.0 | 73.0 ± 3.6 | 62.0 ± 2.0 | 210 | 155 |",
    ]


def test_notes_say_what_the_numbers_are():
    assert report.notes(study()) == (
        "Accuracy in %: mean ± sample standard deviation, n = 3 seeds (0, 1, 2) and 360 images each; "
        "epsilon 38.25/255. Seconds: mean of a run's training and evaluation on cpu, 2 cores; "
        "the seeds share compiled programs. Learning rates tried for every row: 0.1, 0.3; chosen: greatest mean. "
        "A better rate may lie beyond: ST chose the least; NoFrost chose the greatest."
    )


def test_notes_name_what_was_changed_and_no_edge_where_there_is_none():
    inner = study(rates=[0.01, 0.1, 0.3, 1.0], settings={"epochs": "3"})
    assert report.notes(inner).endswith("chosen: greatest mean. Changed for every run: epochs=3.")


def test_notes_name_partial_attacks_flags_and_that_nothing_was_selected():
    one = run("sat", 0, 0.9, 0.5, 0.4, attacked={"pgd_20": 360, "aa_standard": 100})
    one["flags"]["pgd_20"] = ["weak_attack"]
    text = report.notes(study(rows=["sat"], rates=[0.1], runs=[one, dict(one, seed=1)]))
    assert "360 images each (aa_standard: 100 of them)" in text
    assert "Learning rate of every row: 0.1; none was selected." in text
    assert "Flags, and in how many runs: pgd_20 weak_attack: SAT 2." in text


def test_one_seed_has_no_deviation():
    alone = study(seeds=[0], rows=["st"], runs=[run("st", 0, 0.98, 0.03, 0.0)])
    assert report.table(alone).splitlines()[-1] == "| ST | 0.1 | 98.0 | 3.0 | 0.0 | 100 | – |"
    assert report.notes(alone).startswith("Accuracy in %, of one seed (0) and 360 images each")


def test_incomplete_cells_say_so():
    runs = [run("st", 0, 0.98, 0.02, 0.0), run("st", 2, 0.96, 0.04, None)]
    lines = report.table(study(runs=runs, chosen={"st": 0.1})).splitlines()
    assert lines[2:] == [
        "| ST | 0.1 | 97.0 ± 1.4 (2 of 3) | 3.0 ± 1.4 (2 of 3) | 0.0 (1 of 3) | 100 | – |",
        "| NoFrost | – | – (0 of 3) | – (0 of 3) | – (0 of 3) | – | – |",
    ]
    assert report.render(study(runs=[], chosen={}))  # before the first run is done


def test_every_row_has_the_papers_name():
    assert set(report.METHODS) == set(methods.ROWS)
    assert len(set(report.METHODS.values())) == len(report.METHODS)


TEXT = "# Results\n\n<!-- table digits -->\nold\n<!-- end -->\n\nText.\n<!-- table cifar10 -->\n<!-- end -->\n"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps(study()))
    return tmp_path / "study.json"


def test_the_command_replaces_the_table_between_its_markers_only(file, tmp_path, capsys):
    document = tmp_path / "RESULTS.md"
    document.write_text(TEXT)
    for _ in range(2):  # the second time it finds what it wrote
        report.main([str(file), f"--into={document}"])
        assert document.read_text() == TEXT.replace("old", report.render(study()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RESULTS.md", "study.json"]
    assert "written: the table digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "<!-- table digits --> occurs 0 times"),
        ("<!-- table digits -->\nold\n", "no line <!-- end --> follows <!-- table digits -->"),
        ("<!-- table digits -->\n<!-- table cifar10 -->\n<!-- end -->\n", "no line <!-- end --> follows"),
        (TEXT + TEXT, "occurs 2 times"),
        (None, "cannot be read"),
    ],
)
def test_missing_markers_are_one_line_and_change_nothing(file, tmp_path, capsys, text, words):
    document = tmp_path / "RESULTS.md"
    if text is not None:
        document.write_text(text)
    with pytest.raises(SystemExit) as stop:
        report.main([str(file), f"--into={document}"])
    complaint = capsys.readouterr().err
    assert stop.value.code == 2 and complaint.count("\n") == 1 and words in complaint and "RESULTS.md" in complaint
    assert text is None or document.read_text() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "it is not JSON"),
        ("[]", "is not a study: it is not an object"),
        (json.dumps(study(runs=[{"row": "st", "seed": 0}])), "it lacks runs[0].learning_rate"),
        (json.dumps(study(seeds=["<b>"])), "seeds[0] is <b>, not a whole number"),
    ],
)
def test_what_is_not_a_study_is_refused(tmp_path, capsys, text, words):
    path = tmp_path / "study.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        report.main([str(path)])
    assert stop.value.code == 2 and words in capsys.readouterr().err


def test_the_command_prints_the_table_and_loads_no_jax(file):
    """In a program where `import jax` fails."""
    code = "import sys; sys.modules['jax'] = None; from nofrost_jax.report import study; study.main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout == report.render(study()) + "\n", done.stderr


def test_texts_of_the_file_stay_texts():
    hostile = "<img src=x onerror=1> | [a](javascript:1)"
    shown = report.render(study(rows=[hostile], chosen={hostile: 0.1}, rule=hostile, settings={"epochs": hostile}))
    assert "<img" not in shown and "[a](" not in shown and shown.splitlines()[2].count(" | ") == 6
