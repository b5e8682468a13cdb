"""A study: with a stand-in for main.py where only the order of things counts, and once with the real one, tiny."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from nofrost_jax import errors
from nofrost_jax.report import study as report
from nofrost_jax.reproduce import __main__ as reproduce
from nofrost_jax.reproduce import files
from nofrost_jax.reproduce.options import parse
from nofrost_jax.reproduce.study import FINAL, SELECTION, Run, arguments
from tests.conftest import ROOT, TINY, environment


class Fake:
    """A folder with the stand-in, and studies of it."""

    def __init__(self, folder):
        self.root, self.workdir = folder / "root", folder / "study"
        self.root.mkdir()
        shutil.copy(ROOT / "tests/reproduce_stand_in.py", self.root / "main.py")
        self.orders()

    def orders(self, **told):
        (self.root / "orders.json").write_text(json.dumps(told))

    def plan(self, *more, rows="st,sat", seeds="0,1", rates="0.1,0.3"):
        lists = [f"--rows={rows}", f"--seeds={seeds}", f"--rates={rates}"]
        return parse(["digits", f"--workdir={self.workdir}", *lists, *more])

    def run(self, *more, **lists):
        return reproduce.reproduce(self.plan(*more, **lists), self.root)

    @property
    def calls(self):
        path = self.root / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def runs(self):
        return [call["run"] for call in self.calls]

    @property
    def study(self):
        return json.loads((self.workdir / "study.json").read_text())


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


SELECT = [f"select/{row}/rate_{rate}" for row in ("st", "sat") for rate in ("0.1", "0.3")]
FINALS = [f"runs/{row}/rate_0.1/seed_{seed}" for row in ("st", "sat") for seed in (0, 1)]


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
    assert str(fake.workdir) not in json.dumps(study) and '"/' not in json.dumps(study)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[1/8] selection st, seed 0, rate 0.1: starts"
    assert lines[1].startswith("[1/8] selection st, seed 0, rate 0.1: 1 s  clean 90.0%  pgd_20 50.0%  (")
    assert lines[1].endswith(" left of the selection)")
    assert "8 of 8" not in lines[15] and lines[15].endswith("pgd_20 60.0%")  # nothing is left then
    assert fake.run() == 0
    assert fake.runs == SELECT + chosen and fake.study == study
    assert "4 of 4 selection runs are there already" in capsys.readouterr().out


def test_what_each_run_is_told(fake):
    assert fake.run("--set", "epochs=1", "--set", "attacks=pgd_20,mine") == 0
    select, final = fake.calls[0], fake.calls[-1]
    assert select["given"]["config"] == "configs/digits.py:st" and final["given"]["config"] == "configs/digits.py:sat"
    common = {"config.epochs": "1"}
    wanted = {"seed": "0", "data.holdout": "237", "data.eval_split": "holdout", "attacks": "pgd_20"}
    wanted |= {"optimizer.learning_rate": "0.1", "evaluation.every_epochs": "0"}
    fields = {name: value for name, value in select["given"].items() if name.startswith("config.")}
    assert fields == common | {f"config.{name}": value for name, value in wanted.items()}
    wanted = {"seed": "1", "data.holdout": "0", "attacks": "pgd_20,mine", "optimizer.learning_rate": "0.1"}
    fields = {name: value for name, value in final["given"].items() if name.startswith("config.")}
    assert fields == common | {f"config.{name}": value for name, value in wanted.items()}
    assert final["given"]["workdir"] == f"{fake.workdir}/runs/sat/rate_0.1/seed_1" and final["cwd"] == str(fake.root)
    assert final["cache"] == os.environ.get("JAX_COMPILATION_CACHE_DIR", f"{fake.workdir}/compilation_cache")
    log = (fake.workdir / "runs/sat/rate_0.1/seed_1/log.txt").read_text().splitlines()
    assert log[0].startswith("$ python main.py --config=configs/digits.py:sat") and log[1] == "training"
    assert fake.study["settings"] == {"epochs": "1", "attacks": "pgd_20,mine"}


def test_equal_scores_choose_the_smaller_rate(fake):
    """And the mean of both accuracies decides, not one of them."""
    fake.orders(**{"select/sat/rate_0.1": [0.5, 0.9], "select/sat/rate_0.3": [0.75, 0.75]})
    fake.run(rates="0.3,0.1,0.03", seeds="0")
    assert fake.study["chosen"] == {"st": 0.03, "sat": 0.3}


def test_a_single_rate_is_not_selected(fake):
    assert fake.run(rates="0.1") == 0
    assert fake.runs == FINALS
    assert fake.study["chosen"] == {"st": 0.1, "sat": 0.1} and fake.study["selection"] == []


def test_a_run_that_is_not_finite_counts_as_nothing_and_is_not_repeated(fake, capsys):
    broken = "not finite at step 3: loss; lower config.optimizer.learning_rate"
    fake.orders(**{"select/sat/rate_0.3": broken, "runs/st/rate_0.1/seed_1": broken})
    assert fake.run() == 2
    entry = next(one for one in fake.study["selection"] if (one["row"], one["rate"]) == ("sat", 0.3))
    assert entry == {"row": "sat", "rate": 0.3, "clean": 0.0, "pgd_20": 0.0, "score": 0.0, "not_finite": True}
    assert fake.study["chosen"]["sat"] == 0.1
    assert fake.study["missing"] == [{"row": "st", "seed": 1, "reason": broken, "code": 2}]
    out = capsys.readouterr().out
    assert "selection sat, seed 0, rate 0.3: 1 s  NOT FINITE, counts as 0 %: not finite at step 3" in out
    assert f"incomplete: st seed 1: {broken}" in out
    assert fake.run() == 2 and len(fake.runs) == 8


def test_a_failure_is_named_and_the_others_go_on(fake, capsys):
    fake.orders(**{"runs/st/rate_0.1/seed_0": "crash", "runs/st/rate_0.1/seed_1": "config.epochs=0 is out of range"})
    assert fake.run() == 1
    assert fake.runs == SELECT + FINALS
    assert [(one["row"], one["seed"], one["code"]) for one in fake.study["missing"]] == [("st", 0, 1), ("st", 1, 2)]
    out = capsys.readouterr().out
    log = fake.workdir / "runs/st/rate_0.1/seed_0/log.txt"
    assert f"[5/8] final st, seed 0, rate 0.1: FAILED with exit code 1 after 1 s: see {log}" in out
    assert "FAILED with exit code 2 after 1 s: config.epochs=0 is out of range" in out
    assert "a bug" in log.read_text()
    fake.orders(**{"runs/st/rate_0.1/seed_1": "config.epochs=0 is out of range"})
    assert fake.run() == 2  # nothing but a refusal is left
    fake.orders(**{"runs/st/rate_0.1/seed_1": "crash"})
    capsys.readouterr()
    assert fake.run() == 1  # and what an earlier attempt complained of is not told again
    assert "FAILED with exit code 1 after 1 s: see " in capsys.readouterr().out
    fake.orders()
    assert fake.run() == 0
    assert fake.runs[8:] == ["runs/st/rate_0.1/seed_0", *["runs/st/rate_0.1/seed_1"] * 3]
    assert fake.study["missing"] == [] and len(fake.study["runs"]) == 4


def test_a_row_whose_selection_failed_is_not_trained(fake):
    fake.orders(**{"select/st/rate_0.3": "crash"})
    assert fake.run() == 1
    assert fake.runs == SELECT + FINALS[2:]
    assert "st" not in fake.study["chosen"]
    assert {one["reason"] for one in fake.study["missing"]} == {"the choice of its rate failed"}


def test_sigterm_is_passed_on_and_the_same_command_goes_on(fake, capsys):
    """The stand-in signals the study's process, waits, and exits with 75 once the signal is handed to it."""
    fake.orders(**{"runs/st/rate_0.1/seed_1": "preempt"})
    with pytest.raises(errors.Preempted, match=r"final st, seed 1, rate 0\.1: stopped; run the same command again"):
        fake.run()
    log = fake.workdir / "runs/st/rate_0.1/seed_1/log.txt"
    assert log.read_text().splitlines()[1:] == ["training", "heard"]
    plan, run = fake.plan(), Run(FINAL, "st", 1, 0.1)
    assert 0 < files.seconds(plan, run) < 30 and "started" not in files.attempts(plan, run)
    files.note(plan, run, {"seconds": 100.0})
    assert fake.study["missing"][0] == {"row": "st", "seed": 1, "reason": "not run yet", "code": None}
    fake.orders()
    capsys.readouterr()
    assert fake.run() == 0
    assert fake.runs == [*SELECT, *FINALS[:2], *FINALS[1:]]
    assert "[6/8] final st, seed 1, rate 0.1: goes on" in capsys.readouterr().out
    assert 100 < files.seconds(plan, run) < 130
    assert log.read_text().count("$ python main.py") == 2


def test_a_run_that_ends_while_it_is_stopped_is_reported_as_done(fake, capsys):
    fake.orders(**{"runs/st/rate_0.1/seed_1": "preempt late"})
    with pytest.raises(errors.Preempted, match="stopped; run the same command again"):
        fake.run()
    assert "[6/8] final st, seed 1, rate 0.1: 1 s  clean 90.0%" in capsys.readouterr().out
    assert len(fake.study["runs"]) == 2 and fake.runs[-1] == "runs/st/rate_0.1/seed_1"
    fake.orders(**{"runs/sat/rate_0.1/seed_1": "preempt late"})
    assert fake.run() == 0  # nothing was left to be stopped


def test_seconds_of_an_attempt_whose_end_nobody_noted_last_until_its_last_output(fake):
    plan, run = fake.plan(), Run(FINAL, "st", 0, 0.1)
    folder = fake.workdir / run.folder
    folder.mkdir(parents=True)
    files.note(plan, run, {"seconds": 10.0, "started": 1000.0})
    assert files.seconds(plan, run) == 10.0
    (folder / "log.txt").write_text("output")
    os.utime(folder / "log.txt", (1025, 1025))
    assert files.seconds(plan, run) == 35.0
    assert files.seconds(plan, Run(FINAL, "st", 0, 0.3)) == 0.0  # another rate's attempts are not this run's


def test_a_result_of_another_learning_rate_does_not_count(fake):
    """The rates changed, so another was chosen: main.py is asked again, and refuses the folder."""
    assert fake.run(rates="0.1", rows="st", seeds="0") == 0
    plan = fake.plan(rates="0.1", rows="st", seeds="0")
    assert files.result(plan, Run(FINAL, "st", 0, 0.1)) and files.result(plan, Run(FINAL, "st", 0, 0.3)) is None


def test_time_left_is_the_mean_of_the_finished_runs_of_the_stage(fake):
    plan = fake.plan()
    runs = [Run(SELECTION, row, 0, rate) for row in ("st", "sat") for rate in (0.1, 0.3)]
    assert reproduce.time_left(plan, runs, runs) == ""
    for run, seconds in zip(runs[:2], (60.0, 120.0), strict=True):
        (fake.workdir / run.folder / "evaluations").mkdir(parents=True)
        config = {"seed": 0, "optimizer": {"learning_rate": run.rate}, "data": {"holdout": 237}}
        (fake.workdir / run.folder / "config.json").write_text(json.dumps(config))
        (fake.workdir / run.folder / "evaluations/final.json").write_text("{}")
        files.note(plan, run, {"seconds": seconds})
    assert reproduce.time_left(plan, runs, runs[2:]) == ""  # an empty result is none
    for run in runs[:2]:
        (fake.workdir / run.folder / "evaluations/final.json").write_text('{"name": "final"}')
    assert reproduce.time_left(plan, runs, runs[2:]) == "  (3 min 00 s left of the selection)"
    assert reproduce.time_left(plan, runs, runs[:0]) == ""


def test_a_second_command_waits_for_the_first_and_its_run_holds_the_folder(fake, capsys):
    fake.workdir.mkdir()
    with open(fake.workdir / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        timer = threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        assert fake.run(rates="0.1", rows="st", seeds="0") == 0
        timer.join()
    assert "waiting for its end" in capsys.readouterr().out
    assert all(call["locked"] for call in fake.calls)


def test_tfds_holds_out_slices_and_a_folder_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = parse(["cifar10", "--workdir=study", "--rates=0.1,0.3"])
    assert plan.rows == ("sat", "mbnat", "sat_in", "nofrost") and plan.seeds == (0,)
    told = arguments(plan, Run(SELECTION, "sat", 0, 0.3))
    assert {"--config.data.train_split=train[:-5000]", "--config.data.eval_split=train[-5000:]"} <= set(told)
    assert "--config.data.holdout=0" in told
    plan = parse(["cifar10", "--workdir=study", "--source=folder:images"])
    told = arguments(plan, Run(SELECTION, "sat", 0, 0.3))
    assert f"--config.data.source=folder:{tmp_path}/images" in told and "--config.data.holdout=5000" in told
    source = files.identity(plan)["source"]
    other = parse(["cifar10", "--workdir=study", "--source=folder:others", "--set=data.data_dir=/data"])
    assert source.startswith("folder:path-") and str(tmp_path) not in source
    assert files.identity(other)["source"] == "folder:others"  # below data_dir, of which only a hash is kept
    assert files.identity(other)["settings"]["data.data_dir"].startswith("path-")


WRONG = [
    (["digit"], "unknown study 'digit'; choose one of digits, cifar10"),
    ([], "required: study"),
    (["digits", "--rows=st,satt"], "unknown row 'satt'"),
    (["digits", "--rows="], "unknown row ''"),
    (["digits", "--seeds=0,one"], "--seeds=0,one must be whole numbers"),
    (["digits", "--seeds=0,-1"], "0 to 2147483647"),
    (["digits", "--rates=fast"], "--rates=fast must be numbers"),
    (["digits", "--rates=0.1,nan"], "must be positive numbers"),
    (["digits", "--rates=0"], "must be positive numbers"),
    (["digits", "--set", "epochs"], "must be FIELD=VALUE"),
    (["digits", "--set", "seed=3"], "the study sets this field"),
    (["digits", "--set", "start_from=runs/a"], "the study sets this field"),
    (["digits", "--sets=1"], "unrecognized arguments: --sets=1"),
    (["digits", "--workdir=FILE"], "is a file"),
    (["digits", "--workdir="], "--workdir is missing"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[" ".join(given) for given, _ in WRONG])
def test_misuse_is_one_line_and_writes_nothing(tmp_path, capsys, given, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        reproduce.main([f"--workdir={tmp_path}/study", *(text.replace("FILE", f"{tmp_path}/file") for text in given)])
    complaint = capsys.readouterr().err
    assert stop.value.code == 2 and complaint.count("\n") == 1 and words in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_other_settings_is_refused(fake):
    assert fake.run("--set", "epochs=1", rates="0.1", rows="st", seeds="0") == 0
    with pytest.raises(errors.UserError, match=r"holds another study \(settings.epochs: '1' -> '2'\)"):
        fake.plan("--set", "epochs=2")


def test_a_refusal_of_the_first_run_ends_the_study_and_the_corrected_command_may_follow(fake):
    fake.orders(**dict.fromkeys(SELECT, "the config has no such field: epoch"))
    with pytest.raises(errors.UserError, match="refused, and so would be the others: the config has no such field"):
        fake.run("--set", "epoch=1")
    assert fake.runs == SELECT[:1]
    fake.orders()
    assert fake.run("--set", "epochs=1") == 0


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
    assert "[2/2] corruptions sat, seed 0: FAILED with exit code 1: see " in capsys.readouterr().out
    fake.orders()
    assert fake.run("--shift", **lists) == 0
    assert fake.runs[4:] == ["runs/sat/rate_0.1/seed_0"]  # what is there is not looked at again
    assert "[1/1] corruptions sat, seed 0: digits_c_otf 70.0%" in capsys.readouterr().out
    text = report.render(fake.study)
    assert "| Corruptions | Seconds |" in text and "| 60.0 ± – |" in text and "75 cells of digits_c_otf" in text


def test_cpu_seconds_are_the_childs_and_unknown_after_a_kill(fake):
    assert fake.run(rates="0.1", rows="st", seeds="0") == 0
    plan, run = fake.plan(rates="0.1", rows="st", seeds="0"), Run(FINAL, "st", 0, 0.1)
    assert 0 < fake.study["runs"][0]["cpu_seconds"] == files.cpu_seconds(plan, run) < 30
    files.note(plan, run, {"seconds": 10.0, "started": 1000.0})
    assert files.cpu_seconds(plan, run) is None


def test_a_real_study_in_miniature(tmp_path):
    """Two rates, one seed, a net of one block: the held-out images choose, the evaluation split is in the table."""
    settings = TINY | {"epochs": 1, "evaluation.every_epochs": 0}
    given = [f"--set={field}={value}" for field, value in settings.items()]
    command = ["digits", f"--workdir={tmp_path}/study", "--rows=st", "--seeds=0", "--rates=0.1,0.2", *given]
    done = subprocess.run(
        [sys.executable, "-m", "nofrost_jax.reproduce", *command],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    study = json.loads((tmp_path / "study/study.json").read_text())
    held = json.loads((tmp_path / "study/select/st/rate_0.2/evaluations/final.json").read_text())
    assert (held["dataset"]["split"], held["clean"]["n"]) == ("holdout", 237)
    (run,) = study["runs"]
    assert run["n"] == 360 and set(run["attacks"]) == {"pgd_20"} and run["learning_rate"] == study["chosen"]["st"]
    scores = {entry["rate"]: entry["score"] for entry in study["selection"]}
    assert scores[run["learning_rate"]] == max(scores.values()) > 0
    assert any((tmp_path / "study/compilation_cache").iterdir())
    assert "| ST | " in report.render(study) and str(tmp_path) not in json.dumps(study)
