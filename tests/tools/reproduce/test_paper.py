"""Tables and figures of the paper: which runs they make, once each, and what they still lack; once with main.py."""

import json
import re

import pytest

from nofrost_jax import accelerators, errors
from nofrost_jax.report.exhibits import EXHIBITS
from nofrost_jax.tools.reproduce import __main__ as reproduce
from nofrost_jax.tools.reproduce import plan
from tests.conftest import ROOT, TINY, finish, start


def test_a_table_trains_then_evaluates_and_does_nothing_twice(fake, capsys):
    assert fake.make("table3") == 0
    nets = [f"runs/{row}_digits/seed_0" for row in ("sat", "sat_in", "nofrost")]
    assert fake.runs == nets * 2
    training, evaluation = fake.calls[0]["given"], fake.calls[3]["given"]
    assert training == {
        "config": "configs/digits.py:sat",
        "config.data.source": "digits",
        "config.seed": "0",
        "workdir": f"{fake.workdir}/{nets[0]}",
    }
    assert evaluation["config"] == "configs/eval/paper.py" and evaluation["config.evaluation.name"] == "table3"
    assert evaluation["config.evaluation.only"] == "pgd_20,aa_fast_20,aa_standard"
    out = capsys.readouterr().out
    assert "[3/3] table3 nofrost_digits, seed 0: clean 90.0%  aa_fast_20 70.0%  aa_standard 70.0%" in out
    assert "complete: table3" in out
    assert fake.make("table3") == 0 and len(fake.runs) == 6
    assert "3 of 3 final runs exist already" in capsys.readouterr().out


def test_a_part_of_a_suite_that_was_evaluated_as_a_whole_is_not_evaluated_again(fake):
    assert fake.make("table1", "table3", "table2") == 0  # on digits both depths are the same nets
    table1 = [f"runs/{row}_digits/seed_0" for row in ("st", "sat", "trades", "fat", "trades_fat", "nofrost")]
    assert fake.runs == table1 * 2 + ["runs/sat_in_digits/seed_0"] * 2
    told = [call["given"].get("config.evaluation.name", "whole") for call in fake.calls if "mode" in call["given"]]
    assert told == ["whole"] * 6 + ["table3"]
    assert fake.make("table6", more=["--source=digits", "--rows=st,nofrost"]) == 0  # "paper" has its attacks
    assert len(fake.calls) == 14


def test_the_seeds_radii_and_settings_of_the_nets(fake):
    assert fake.make("table4", "figure1", "table7") == 0
    told = {call["run"]: call["given"] for call in fake.calls if "mode" not in call["given"]}
    assert {f"runs/nofrost_digits/seed_{seed}" for seed in (0, 1, 2)} <= told.keys()
    assert told["runs/nofrost_digits/seed_2"]["config.seed"] == "2"
    assert told["runs/freeat_digits_eps2/seed_0"]["config.attack.epsilon_255"] == "2.0"
    assert told["runs/pgdat_digits_clean_forward/seed_0"]["config.method.pgdat_clean_forward"] == "True"
    assert "config.method.pgdat_clean_forward" not in told["runs/pgdat_digits/seed_0"]


def test_shift_has_the_authors_crop_on_imagenet_only(fake):
    """configs/eval/shift.py refuses it for corruptions made on the fly."""
    fields = {}
    for source in ("digits", "folder:images"):
        asked = fake.parse_paper("figure3", f"--source={source}")
        (suite,) = {suite for _, suite in asked.evaluations if suite.config == "shift"}
        fields[source] = dict(suite.settings)
    assert fields == {"digits": {}, "folder:images": {"imagenet_c_crop": "nofrost"}}


def test_mixtures_are_evaluated_at_their_weights(fake):
    assert fake.make("table5", more=["--source=digits", "--rows=mbnat"]) == 0
    assert fake.calls[1]["given"]["config"] == "configs/eval/properties.py:mbn"
    (fake.workdir / "runs/mbnat_digits/seed_0/evaluations/properties_gamma_1.json").unlink()
    assert fake.make("table5", more=["--source=digits", "--rows=mbnat"]) == 0 and len(fake.calls) == 3


def test_what_the_first_run_refuses_is_one_line_and_leaves_nothing(fake):
    fake.orders(**{"runs/sat_digits/seed_0": "config.epochs=0 is out of range"})
    with pytest.raises(errors.UserError, match=r"seed 0: refused, as all others would be: config\.epochs=0"):
        fake.make("table3")
    assert not (fake.workdir / "runs").exists()


def test_what_failed_is_named_and_done_by_the_same_command(fake, capsys):
    fake.orders(**{"runs/sat_digits/seed_0": "crash", "table3 runs/nofrost_digits/seed_0": "crash"})
    assert fake.make("table3") == 1
    out = capsys.readouterr().out
    assert "incomplete: table3 lacks sat_digits, seed 0, table3 of nofrost_digits, seed 0" in out
    assert "[2/2] table3 nofrost_digits, seed 0: FAILED with exit code 1: see " in out
    fake.orders()
    assert fake.make("table3") == 0
    assert fake.runs[5:] == ["runs/sat_digits/seed_0"] * 2 + ["runs/nofrost_digits/seed_0"]


def test_a_net_that_is_not_finite_leaves_a_hole_and_is_not_repeated(fake, capsys):
    broken = "not finite at step 3: loss; lower config.optimizer.learning_rate"
    fake.orders(**{"runs/sat_digits/seed_0": broken})
    assert fake.make("table3") == 2
    assert f"incomplete: table3 lacks sat_digits, seed 0: {broken}" in capsys.readouterr().out
    assert fake.make("table3") == 2 and len(fake.runs) == 5


def test_results_of_earlier_parameters_do_not_count(fake):
    assert fake.make("table3") == 0
    path = fake.workdir / "runs/sat_digits/seed_0/evaluations/final.json"
    final = json.loads(path.read_text())
    path.write_text(json.dumps(final | {"checkpoint": {"params_sha256": "other"}}))
    assert plan.lacking(fake.parse_paper("table3", "--source=digits")) == {"table3": ["table3 of sat_digits, seed 0"]}


def test_a_dry_run_says_what_is_missing_and_its_cost(fake, capsys):
    asked = fake.parse_paper("table3", "figure7")
    assert plan.dry_run(asked, ROOT, accelerators.machine("8xh100")) == 3
    text = capsys.readouterr().out
    hours = re.search(r"\n +on 8 x h100 on 1 host training ([\d.]+) h, evaluations at most ([\d.]+) h;", text)
    assert 10 < float(hours[1]) < 200 and 0.1 < float(hours[2]) < 20  # of about 2,000 on one A100
    assert "table3   Instance norm in place of batch norm: lacks 3\n" in text
    assert "sat_in_r26      seed 0  about 384 h  table3 about 7 h\n" in text
    assert "all      training about 2," in text and "missing: imagenet2012 is not prepared" in text
    assert not fake.workdir.exists()
    assert fake.make("table3") == 0
    capsys.readouterr()
    assert plan.dry_run(fake.parse_paper("table3", "--source=digits"), ROOT) == 0
    assert capsys.readouterr().out == "table3   Instance norm in place of batch norm: complete\n"
    assert plan.dry_run(fake.parse_paper("table3", "table4", "--source=digits"), ROOT) == 3
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["sat_digits", "seed", "0", "there", "there"] in lines


def test_runs_of_other_settings_are_refused(fake):
    assert fake.make("table3", more=["--source=digits", "--rows=sat", "--set=epochs=2"]) == 0
    with pytest.raises(errors.UserError, match=r"holds other runs \(settings.epochs: '2' -> '3'\)"):
        fake.parse_paper("table3", "--source=digits", "--set=epochs=3")
    fake.parse_paper("figure2", "--source=digits", "--set=epochs=2")


WRONG = [
    (
        ["table8"],
        "unknown name 'table8'; choose table1 to table7, figure1 to figure7, all, or a study: digits, cifar10",
    ),
    (["table1", "digits"], "the study digits does not go with tables and figures; give it alone"),
    (["table1,Table2"], "unknown name 'Table2'"),
    (["digits", "table1"], "table1 does not go with the study digits"),
    (["table1", "--device=8xh100"], "--device is for --dry_run"),
    (["table1", "--dry_run", "--device=8xh10"], "--device=8xh10 is unknown"),
    (["digits", "--dry_run"], "--dry_run does not go with the study digits"),
    (["table1", "--rates=0.1"], "--rates is for a study"),
    (
        ["table1", "--rows=mbnat"],
        "nothing asked for has such a net; its rows are fat, nofrost, sat, st, trades, trades",
    ),
    (["table1", "--rows=mbnat,satt"], "--rows=mbnat,satt: nothing asked for"),
    (["table1", "--rows=sat,satt"], "unknown row 'satt'"),
    (["table1", "--source=digits", "--files=/x"], "--files is for ImageNet"),
    (["table1", "--scale=mnist"], "invalid choice: 'mnist'"),
    (["table1", "--set=seed=1"], "sets this field itself"),
    (["table1", "--dry_run", "--set=epoch=1"], "config.epoch is missing"),
    (["table1", "--dry_run", "--set=epochs=many"], "config.epochs=many"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[" ".join(given) for given, _ in WRONG])
def test_misuse_is_one_line(tmp_path, capsys, given, words):
    with pytest.raises(SystemExit) as stop:
        reproduce.main([f"--workdir={tmp_path}/paper", *given])
    complaint = capsys.readouterr().err
    assert stop.value.code == 2 and complaint.count("\n") == 1 and words in complaint
    assert not list(tmp_path.iterdir())


def test_every_table_and_figure_can_be_asked_for(fake):
    asked = fake.parse_paper("all", "--source=digits")
    assert asked.names == tuple(EXHIBITS)
    assert len(asked.trainings) == 23  # ImageNet has 33: both depths
    assert fake.parse_paper("table1,figure2", "table3").names == ("table1", "figure2", "table3")
    some = fake.parse_paper("all", "--source=digits", "--rows=mbnat,sat_in")
    assert some.names == ("table3", "table5", "figure2", "figure5", "figure6") and len(some.trainings) == 2


def test_a_killed_run_is_a_failure_and_a_report_that_breaks_does_not_stop_the_others(fake, capsys, monkeypatch):
    fake.orders(**{"runs/sat_digits/seed_0": "killed"})

    def broken(*_):
        raise RuntimeError("a bug in the report")

    monkeypatch.setattr(reproduce.report, "report", broken)
    assert fake.make("table3", "table6", more=["--source=digits", "--rows=sat,st"]) == 1
    told = capsys.readouterr()
    assert "FAILED with exit code -9" in told.out and told.err.count("RuntimeError: a bug in the report") == 2
    assert fake.runs == ["runs/sat_digits/seed_0", *["runs/st_digits/seed_0"] * 2]
    fake.orders()
    assert fake.make("table3", "table6", more=["--source=digits", "--rows=sat,st"]) == 1  # for the report alone


@pytest.mark.slow
def test_a_real_table_in_miniature(tmp_path):
    settings = TINY | {"epochs": 1, "evaluation.every_epochs": 0, "evaluation.limit": 12}
    given = [f"--set={field}={value}" for field, value in settings.items()]
    command = ["table3", f"--workdir={tmp_path}/paper", "--source=digits", "--rows=sat", *given]
    done = finish(start("-m", "nofrost_jax.tools.reproduce", *command), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "paper/runs/sat_digits/seed_0/evaluations/table3.json").read_text())
    assert [one["name"] for one in found["attacks"]] == ["pgd_20", "aa_fast_20", "aa_standard"]
    assert found["net"]["method"] == "at" and found["clean"]["n"] == 12
    assert "<caption" in (tmp_path / "paper/report/index.html").read_text()
    assert "| SAT |" in (tmp_path / "paper/report/tables/table3.md").read_text()
