"""Which runs a study makes, what it tells them and what it keeps of them; and once with the real main.py, tiny."""

import json
import os

import pytest

from nofrost_jax.report import study as report
from tests.conftest import TINY, finish, start
from tests.tools.reproduce.conftest import FINALS, SELECT


def test_a_study_selects_then_trains_every_seed_and_does_nothing_twice(fake, capsys):
    fake.orders(
        **{"select/st/rate_0.3": [0.9, 0.7], "select/sat/rate_0.3": [0.9, 0.3], "runs/sat/rate_0.1/seed_1": [0.8, 0.6]}
    )
    chosen = [name.replace("st/rate_0.1", "st/rate_0.3") for name in FINALS]
    assert fake.run() == 0
    assert fake.runs == SELECT + chosen
    study = fake.study
    assert study["chosen"] == {"st": 0.3, "sat": 0.1} and study["missing"] == []
    assert study["selection"][1] == {"row": "st", "rate": 0.3, "clean": 0.9, "pgd_20": 0.7, "score": 0.8}
    assert [(one["row"], one["seed"], one["learning_rate"]) for one in study["runs"]] == [
        *[("st", 0, 0.3), ("st", 1, 0.3), ("sat", 0, 0.1), ("sat", 1, 0.1)]
    ]
    last = study["runs"][-1]
    assert (last["clean"], last["attacks"], last["n"], last["epsilon_255"]) == (0.8, {"pgd_20": 0.6}, 10, 8.0)
    assert last["flags"] == {"pgd_20": ["weak_attack"], "net": ["probabilities"]}
    assert last["params_sha256"] == "p" and last["versions"] == {"jax": "1"} and study["device"] == "cpu"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[1/4] selection st, seed 0, rate 0.1: starts"
    assert lines[1].startswith("[1/4] selection st, seed 0, rate 0.1: 1 s  clean 90.0%  pgd_20 50.0%  (")
    assert lines[1].endswith(" left of the selection)")
    assert lines[15].startswith("[4/4] final") and lines[15].endswith("pgd_20 60.0%")  # nothing is left then
    assert fake.run() == 0
    assert fake.runs == SELECT + chosen and fake.study == study
    assert "4 of 4 selection runs exist already" in capsys.readouterr().out


def test_what_each_run_is_told(fake):
    assert fake.run("--set", "epochs=1", "--set", "evaluation.only=pgd_20,mine") == 0
    select, final = fake.calls[0], fake.calls[-1]
    assert select["given"]["config"] == "configs/digits.py:st" and final["given"]["config"] == "configs/digits.py:sat"
    common = {"config.epochs": "1"}
    wanted = {"seed": "0", "data.holdout": "237", "data.eval_split": "holdout", "evaluation.only": "pgd_20"}
    wanted |= {"optimizer.learning_rate": "0.1", "evaluation.every_epochs": "0"}
    fields = {name: value for name, value in select["given"].items() if name.startswith("config.")}
    assert fields == common | {f"config.{name}": value for name, value in wanted.items()}
    wanted = {"seed": "1", "data.holdout": "0", "evaluation.only": "pgd_20,mine", "optimizer.learning_rate": "0.1"}
    fields = {name: value for name, value in final["given"].items() if name.startswith("config.")}
    assert fields == common | {f"config.{name}": value for name, value in wanted.items()}
    assert final["given"]["workdir"] == f"{fake.workdir}/runs/sat/rate_0.1/seed_1" and final["cwd"] == str(fake.root)
    assert final["cache"] == os.environ.get("JAX_COMPILATION_CACHE_DIR", f"{fake.workdir}/compilation_cache")
    log = (fake.workdir / "runs/sat/rate_0.1/seed_1/log.txt").read_text().splitlines()
    assert log[0].startswith("$ python main.py --config=configs/digits.py:sat") and log[1] == "training"
    assert fake.study["settings"] == {"epochs": "1", "evaluation.only": "pgd_20,mine"}


def test_equal_scores_choose_the_smaller_rate(fake):
    """And the mean of both accuracies decides, not one of them."""
    fake.orders(**{"select/sat/rate_0.1": [0.5, 0.9], "select/sat/rate_0.3": [0.75, 0.75]})
    fake.run(rates="0.3,0.1,0.03", seeds="0")
    assert fake.study["chosen"] == {"st": 0.03, "sat": 0.3}


def test_a_single_rate_is_not_selected(fake):
    assert fake.run(rates="0.1") == 0
    assert fake.runs == FINALS
    assert fake.study["chosen"] == {"st": 0.1, "sat": 0.1} and fake.study["selection"] == []


def test_a_rate_added_later_that_wins_gets_folders_of_its_own(fake):
    assert fake.run(rates="0.1,0.3", rows="st", seeds="0") == 0
    fake.orders(**{"select/st/rate_1": [0.99, 0.9]})
    assert fake.run(rates="0.1,0.3,1", rows="st", seeds="0") == 0
    assert fake.runs[-2:] == ["select/st/rate_1", "runs/st/rate_1/seed_0"] and fake.study["chosen"] == {"st": 1.0}


def test_corruptions_are_looked_at_on_request_once_and_a_failure_is_named(fake, capsys):
    lists = {"rates": "0.1", "rows": "st,sat", "seeds": "0"}
    fake.orders(**{"shift runs/sat/rate_0.1/seed_0": "crash", "shift runs/st/rate_0.1/seed_0": 0.6})
    assert fake.run("--shift", **lists) == 1
    given = fake.calls[2]["given"]
    assert (given["config"], given["config.corruptions"]) == ("configs/eval/shift.py", "on_the_fly")
    st, sat = fake.study["runs"]
    assert st["corruptions"] == {"name": "digits_c_otf", "mean": 0.6, "cells": 75} and "corruptions" not in sat
    assert "[2/2] shift sat, seed 0, rate 0.1: FAILED with exit code 1: see " in capsys.readouterr().out
    fake.orders()
    assert fake.run("--shift", **lists) == 0
    assert fake.runs[4:] == ["runs/sat/rate_0.1/seed_0"]  # what is there is not looked at again
    assert "[1/1] shift sat, seed 0, rate 0.1: digits_c_otf 70.0%" in capsys.readouterr().out
    text = report.render(fake.study)
    assert "| Corruptions | Seconds |" in text and "| 60.0 |" in text and r"75 cells of digits\_c\_otf" in text


@pytest.mark.slow
def test_a_real_study_in_miniature(tmp_path):
    """Two rates, one seed, a net of one block: the held-out images choose, the evaluation split is in the table."""
    settings = TINY | {"epochs": 1, "evaluation.every_epochs": 0}
    given = [f"--set={field}={value}" for field, value in settings.items()]
    command = ["digits", f"--workdir={tmp_path}/study", "--rows=st", "--seeds=0", "--rates=0.1,0.2", *given]
    done = finish(start("-m", "nofrost_jax.tools.reproduce", *command))
    assert done.returncode == 0, done.stdout + done.stderr
    study = json.loads((tmp_path / "study/study.json").read_text())
    held = json.loads((tmp_path / "study/select/st/rate_0.2/evaluations/final.json").read_text())
    assert (held["dataset"]["split"], held["clean"]["n"]) == ("holdout", 237)
    (run,) = study["runs"]
    assert run["n"] == 360 and set(run["attacks"]) == {"pgd_20"} and run["learning_rate"] == study["chosen"]["st"]
    scores = {entry["rate"]: entry["score"] for entry in study["selection"]}
    assert scores[run["learning_rate"]] == max(scores.values()) > 0
    assert any((tmp_path / "study/compilation_cache").iterdir())
    assert "| ST | " in report.render(study)
