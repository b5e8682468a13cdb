"""The same command again, or another, on a folder that holds a run already."""

import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest

from nofrost_jax import data, fields, files, lock, train
from nofrost_jax.config import prepare
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import Preempted
from nofrost_jax.evaluation import engine, table
from nofrost_jax.fields import to_plain
from tests.conftest import tiny_args, tiny_config
from tests.resume.helpers import contents, saved_steps, train_here


def test_everything_is_traced_once(whole):
    _, traces = whole
    assert traces.steps == 1
    assert traces.attacks == 2  # in the step; in the evaluator, for two evaluations on the way and the last


@pytest.mark.usefixtures("compile_once")
def test_changed_config_is_refused_and_force_goes_on(cli, copy):
    shutil.rmtree(copy / "checkpoints/15")
    metrics, config = ((copy / name).read_bytes() for name in ("metrics.jsonl", "config.json"))
    changed = tiny_args(copy, log__every_steps=2, evaluation__limit=100)
    refused = cli(*changed)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "(evaluation.limit: 0 -> 100)" in refused.stderr and "--force" in refused.stderr
    assert ((copy / "metrics.jsonl").read_bytes(), (copy / "config.json").read_bytes()) == (metrics, config)

    forced = cli(*changed, "--force")
    assert forced.returncode == 0, forced.stderr
    assert "resuming from the checkpoint of step 12" in forced.stdout and "step 14/15" in forced.stdout
    assert "do not change the result: log.every_steps: 3 -> 2\n" in forced.stdout
    assert "--force continues although the result changes: evaluation.limit: 0 -> 100\n" in forced.stdout
    assert json.loads((copy / "config.json").read_text())["log"]["every_steps"] == 2
    result = json.loads((copy / "evaluations/final.json").read_text())
    assert result["dataset"]["n"] == 100
    assert result["checkpoint"]["forced"] == ["from step 12: evaluation.limit: 0 -> 100"]
    steps = [json.loads(line)["step"] for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 5, 6, 9, 10, 12, 14, 15]
    assert saved_steps(copy) == [12, 15]


@pytest.mark.usefixtures("compile_once")
def test_what_does_not_change_the_result_is_only_told(cli, copy):
    """A line names the fields, and the finished run shows its result: nothing is measured again."""
    free = {"data__data_dir": "/elsewhere", "data__workers": 3, "data__on_error": "skip", "checkpoint__keep": 7}
    free |= {"evaluation__batch_size": 64, "evaluation__every_epochs": 2, "log__tensorboard": True}
    outcome = cli(*tiny_args(copy, **free))
    assert outcome.returncode == 0 and "written by an earlier run" in outcome.stdout, outcome
    (note,) = (line for line in outcome.stdout.splitlines() if line.startswith("note: "))
    assert all(f"{field.replace('__', '.')}: " in note for field in free)
    assert json.loads((copy / "config.json").read_text())["data"]["workers"] == 3


def test_every_field_decides_or_is_known_not_to():
    """Of a field that is not in the table another value is refused; of looks, too, where they choose the checkpoint."""
    config = to_plain(prepare(tiny_config()))
    for section, inside in config.items():
        for name, value in inside.items() if isinstance(inside, dict) else [("", inside)]:
            other = json.loads(json.dumps(config))
            place, key = (other[section], name) if name else (other, section)
            place[key] = [value, 1]
            deciding, free = fields.changes(config, other)
            field = f"{section}.{name}".rstrip(".")
            assert (len(deciding), len(free)) == ((0, 1) if field in fields.FREE_FIELDS else (1, 0))
    best = json.loads(json.dumps(config)) | {"checkpoint": config["checkpoint"] | {"select": "best_ra_val"}}
    other = best | {"evaluation": best["evaluation"] | {"every_epochs": 2}}
    assert fields.changes(best, other) == (["evaluation.every_epochs: 1 -> 2"], [])


@pytest.mark.usefixtures("compile_once")
def test_a_checkpoint_of_another_config_is_refused(whole, cli, copy):
    """As where two runs shared a folder: config.json is of the one, the newest checkpoint of the other."""
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"seed": 1}))
    outcomes = [cli(*tiny_args(copy, seed=1)), cli("--mode=evaluate", f"--workdir={copy}")]
    for outcome in outcomes:
        assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1
        assert "the checkpoint of step 15" in outcome.stderr and "(seed: 0 -> 1)" in outcome.stderr
    outcome = cli(*tiny_args(copy, seed=1), "--force")
    assert outcome.returncode == 0 and "which is of another config: seed: 0 -> 1" in outcome.stdout
    assert cli("--mode=evaluate", f"--workdir={copy}").returncode == 0
    result = json.loads((copy / "evaluations/final.json").read_text())
    assert result["checkpoint"]["forced"] == ["from step 15: seed: 0 -> 1"] and result["seed"] == 1


def test_force_neither_calls_another_net_damaged_nor_takes_its_config(cli, copy):
    config = (copy / "config.json").read_bytes()
    outcome = cli(*tiny_args(copy, model__width=0.125), "--force")
    assert outcome.returncode == 2 and "damaged" not in outcome.stdout + outcome.stderr
    assert "does not fit" in outcome.stderr and len(outcome.stderr.splitlines()) == 1
    assert (copy / "config.json").read_bytes() == config


def test_finished_run_shows_its_table_again(whole, copy, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a finished run neither trains nor evaluates again")

    monkeypatch.setattr(train.Trainer, "_compile", never)
    monkeypatch.setattr(engine.Evaluator, "run", never)
    capsys.readouterr()
    train_here(copy)
    text = capsys.readouterr().out
    shown = table.render(json.loads((copy / "evaluations/final.json").read_text()))
    assert shown in text and "written by an earlier run" in text
    assert contents(copy) == contents(whole[0])


@pytest.mark.usefixtures("compile_once")
def test_sigterm_in_an_evaluation_loses_nothing(whole, tmp_path, capsys, monkeypatch):
    """First in the one of step 5, then in the last one."""
    folder, eval_batches = tmp_path / "run", data.Dataset.eval_batches
    handler, begun = signal.getsignal(signal.SIGTERM), []

    def stopped_batches(*args, **kwargs):
        begun.append(saved_steps(folder))
        if len(begun) in (1, 4):  # those between are of steps 5, again, and 10
            os.kill(os.getpid(), signal.SIGTERM)
        yield from eval_batches(*args, **kwargs)

    monkeypatch.setattr(data.Dataset, "eval_batches", stopped_batches)
    for _ in range(2):
        with pytest.raises(Preempted, match="during an evaluation; run the same command again"):
            train_here(folder)
        assert signal.getsignal(signal.SIGTERM) is handler
    begin, again, later, last = map(set, begun)
    assert again == {4, 5} and last == {12, 15}
    assert begin <= {4, 5} and later <= {5, 8, 10}  # the newest may still be being saved
    assert not (folder / "evaluations/final.json").exists()
    capsys.readouterr()
    train_here(folder)
    assert "compiling the training step" not in capsys.readouterr().out
    assert contents(folder) == contents(whole[0])


@pytest.mark.usefixtures("compile_once")
def test_evaluating_a_run_repeats_its_own_result(whole, cli, copy):
    metrics = (copy / "metrics.jsonl").read_bytes()
    (copy / "evaluations/final.json").unlink()
    assert cli("--mode=evaluate", f"--workdir={copy}").returncode == 0
    assert contents(copy) == contents(whole[0])

    other = [*tiny_args(copy, evaluation__name="other", evaluation__limit=100), "--mode=evaluate"]
    outcome = cli(*other)
    told = "digits, 100 of 360 validation images (evenly spread), step 15"
    assert outcome.returncode == 0 and told in outcome.stdout, outcome
    (copy / "ids.txt").write_text("200\n5\n77\n")
    listed = tiny_args(copy, evaluation__name="listed", evaluation__ids=copy / "ids.txt")
    assert cli(*listed, "--mode=evaluate").returncode == 0
    found = {}
    for name in ("other", "listed", "final"):
        with np.load(copy / f"evaluations/{name}.npz") as columns:
            found[name] = dict(columns)
        found[name, "is"] = json.loads((copy / f"evaluations/{name}.json").read_text())
    assert found["listed"]["index"].tolist() == [5, 77, 200]
    for part in ("other", "listed"):  # an image's outcome is its own, whatever else is evaluated
        assert "partial" in found[part, "is"]["flags"]
        for name, column in found["final"].items():
            np.testing.assert_array_equal(found[part][name], column[found[part]["index"]])
    assert "partial" not in found["final", "is"]["flags"] and found["final", "is"]["dataset"]["choice"] == "all"
    expected = {
        "n": 3,
        "of": 360,
        "choice": "of ids.txt",
        "ids_sha256": Choice(0, ("200", "5", "77")).plain["ids_sha256"],
    }
    assert expected.items() <= found["listed", "is"]["dataset"].items()
    assert contents(copy)["metrics"] == metrics


@pytest.mark.usefixtures("compile_once")
def test_an_evaluation_says_what_it_leaves_out(cli, copy):
    """The net and its training are the run's; where the data is, and how to evaluate, may be another host's."""
    others = {"seed": 5, "data__workers": 1, "evaluation__limit": 50, "evaluation__name": "fifty"}
    outcome = cli(*tiny_args(copy, **others), "--mode=evaluate")
    assert outcome.returncode == 0, outcome.stderr
    (note,) = (line for line in outcome.stdout.splitlines() if line.startswith("note: "))
    assert "seed: 0 -> 5" in note and "workers:" not in note and "limit" not in note
    result = json.loads((copy / "evaluations/fifty.json").read_text())
    assert result["seed"] == 0 and result["dataset"]["n"] == 50


@pytest.mark.usefixtures("compile_once")
def test_no_evaluation_takes_the_place_of_another(whole, cli, copy):
    """Neither of other images or attacks, nor of another checkpoint, unless forced; and then the other is renamed."""
    place = copy / "evaluations/final.json"
    before = place.read_bytes()
    other = [*tiny_args(copy, evaluation__limit=100), "--mode=evaluate"]
    refused = cli(*other)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    for words in (
        "evaluations/final.json is of something else (evaluation.limit: 0 -> 100)",
        "name=final_2",
        "--force",
    ):
        assert words in refused.stderr
    shutil.rmtree(copy / "checkpoints/15")
    earlier = cli("--mode=evaluate", f"--workdir={copy}")
    assert earlier.returncode == 2 and "(another checkpoint, of step 15)" in earlier.stderr
    assert place.read_bytes() == before

    forced = cli(*other, "--force")
    assert forced.returncode == 0 and "it is final_2.json from now on" in forced.stdout
    renamed = files.read_json(copy / "evaluations/final_2.json")
    assert (
        renamed == files.unsealed(json.loads(before)) | {"name": "final_2"}
        and (copy / "evaluations/final_2.npz").exists()
    )
    found = json.loads(place.read_text())
    assert found["dataset"]["n"] == 100 and found["checkpoint"]["step"] == 12
    assert cli(*other).returncode == 0  # the same again is no other
    train_here(copy)  # a training's own result keeps its name
    assert contents(copy)["result"] == contents(whole[0])["result"]
    assert json.loads((copy / "evaluations/final_3.json").read_text())["dataset"]["n"] == 100


@pytest.mark.usefixtures("compile_once")
def test_a_second_evaluation_is_refused_and_the_training_waits_for_the_first(whole, cli, copy, capfd):
    """And an evaluation may look at a run whose training goes on."""
    place = copy / "evaluations/final.lock"
    with lock.hold(copy / "lock", "a training"), lock.hold(place, "the evaluation final"):
        refused = cli("--mode=evaluate", f"--workdir={copy}")
        assert refused.returncode == 2
        assert "evaluations/final is in use by the evaluation final: process" in refused.stderr
        assert cli(*tiny_args(copy, evaluation__name="other"), "--mode=evaluate").returncode == 0
    (copy / "evaluations/final.json").unlink()
    own = lock.Lock(place, "the evaluation final")
    assert own.take() == ""
    timer = threading.Timer(2, own.give_back)
    timer.start()
    train_here(copy)
    timer.join()
    assert "waiting for the evaluation final: process" in capfd.readouterr().out
    assert contents(copy)["result"] == contents(whole[0])["result"]
