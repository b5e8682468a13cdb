"""Runs of a study that fail, are not finite or are stopped, and its time."""

import os
import signal
import threading

import pytest

from nofrost_jax import errors, lock
from nofrost_jax.tools.reproduce import __main__ as reproduce
from nofrost_jax.tools.reproduce import files
from nofrost_jax.tools.reproduce.study import FINAL, SELECTION, Training
from tests.tools.reproduce.conftest import FINALS, SELECT


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
    assert f"[1/4] final st, seed 0, rate 0.1: FAILED with exit code 1 after 1 s: see {log}" in out
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
    with pytest.raises(errors.Preempted, match=r"final st, seed 1, rate 0\.1: stopped by SIGTERM; run the same"):
        fake.run()
    log = fake.workdir / "runs/st/rate_0.1/seed_1/log.txt"
    assert log.read_text().splitlines()[1:] == ["training", "heard"]
    study, run = fake.parse(), Training(FINAL, "st", 1, 0.1)
    spent = files.record(study, run)
    assert 0 < spent["cpu_seconds"] < 30 and 0 < spent["seconds"] < 30
    files.note(study, run, seconds=100.0)
    assert fake.study["missing"][0] == {"row": "st", "seed": 1, "reason": "not run yet", "code": None}
    fake.orders()
    capsys.readouterr()
    assert fake.run() == 0
    assert fake.runs == [*SELECT, *FINALS[:2], *FINALS[1:]]
    assert "[1/3] final st, seed 1, rate 0.1: continues" in capsys.readouterr().out
    again = files.record(study, run)
    assert 100 < again["seconds"] < 130 and spent["cpu_seconds"] < again["cpu_seconds"] < 30
    assert log.read_text().count("$ python main.py") == 2


def test_a_run_that_ends_while_it_is_stopped_is_reported_as_done(fake, capsys):
    fake.orders(**{"runs/st/rate_0.1/seed_1": "preempt late"})
    with pytest.raises(errors.Preempted, match="stopped by SIGTERM; run the same command again"):
        fake.run()
    assert "[2/4] final st, seed 1, rate 0.1: 1 s  clean 90.0%" in capsys.readouterr().out
    assert len(fake.study["runs"]) == 2 and fake.runs[-1] == "runs/st/rate_0.1/seed_1"
    fake.orders(**{"runs/sat/rate_0.1/seed_1": "preempt late"})
    assert fake.run() == 0  # nothing was left to be stopped


def test_time_left_is_the_mean_of_the_finished_runs_of_the_stage(fake):
    study = fake.parse()
    runs = [Training(SELECTION, row, 0, rate) for row in ("st", "sat") for rate in (0.1, 0.3)]
    assert reproduce.time_left(study, runs, 4) == ""
    for result, left in (("{}", ""), ('{"name": "final"}', "  (3 min 00 s left of the selection)")):  # {} is none
        for run, seconds in zip(runs[:2], (60.0, 120.0), strict=True):
            (fake.workdir / run.folder / "evaluations").mkdir(parents=True, exist_ok=True)
            (fake.workdir / run.folder / "evaluations/final.json").write_text(result)
            files.note(study, run, seconds=seconds)
        assert reproduce.time_left(study, runs, 2) == left
    assert reproduce.time_left(study, runs, 0) == ""


def test_a_run_that_another_took_meanwhile_is_done_after_it(fake):
    fake.orders(**{"runs/st/rate_0.1/seed_0": "in use"})
    assert fake.run(rates="0.1", rows="st", seeds="0") == 0
    assert fake.runs == ["runs/st/rate_0.1/seed_0"] * 2


def test_a_second_command_is_refused(fake):
    other = lock.hold(fake.workdir / "lock", "a study")
    with other, pytest.raises(errors.UserError, match="study is in use by a study: process"):
        fake.run(rates="0.1", rows="st", seeds="0")
    assert fake.run(rates="0.1", rows="st", seeds="0") == 0
    assert not (fake.workdir / "lock").exists()


@pytest.mark.parametrize("name", ["lock", "evaluations/shift.lock"])
def test_what_a_killed_command_left_at_work_is_waited_for(fake, capsys, name):
    """Its main.py works on in the folder of a run; a signal ends the waiting, too."""
    one = {"rates": "0.1", "rows": "st", "seeds": "0"}
    path = fake.workdir / FINALS[0] / name
    left = lock.Lock(path, "a training")
    assert left.take() == ""
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(errors.Preempted, match="stopped by SIGTERM; run the same command again"):
        fake.run(**one)
    assert fake.runs == []
    waiting = f"seed 0, rate 0.1: waiting for a training: process {os.getpid()} on "
    assert capsys.readouterr().out.count(waiting) == 1
    threading.Timer(0.5, left.give_back).start()
    assert fake.run(**one) == 0
    assert capsys.readouterr().out.count(waiting) == 1 and fake.runs == [FINALS[0]] and not path.exists()
