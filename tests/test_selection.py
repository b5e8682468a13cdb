"""The choice of a checkpoint by its robustness while training, through main.py."""

import json
import shutil
import types

import numpy as np
import pytest

import nofrost_jax
from nofrost_jax import checkpoint, parallel, selection, train
from nofrost_jax.config import prepare
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.evaluation import protocols
from nofrost_jax.selection import SELECTIONS
from tests.conftest import sharing_compiled, tiny_args, tiny_config
from tests.data.helpers import dataset_of

HELD = {"checkpoint__select": "best_ra_holdout", "data__holdout": 237, "evaluation__every_epochs": 2, "epochs": 5}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def best_in(folder, devices, make=selection.Best, **fields):
    config = prepare(tiny_config(**HELD, **fields))
    return make(config, str(folder), devices, dataset_of(config))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory, compilation_cache):
    """A run of 5 epochs of 4 steps: looks after epochs 1, 3 (every second) and 5 (the last tenth)."""
    folder = tmp_path_factory.mktemp("chosen") / "run"
    with sharing_compiled(compilation_cache):
        train.train(tiny_config(**HELD), str(folder))
    return folder


def test_the_most_robust_checkpoint_is_kept_and_everyone_reads_it(chosen):
    looks = {line["step"]: line["eval/selection"] for line in lines(chosen) if "eval/selection" in line}
    assert sorted(looks) == [4, 12, 20]
    kept = checkpoint.read_selection(chosen / "best")
    best = max(looks.values())
    assert kept["accuracy"] == best
    assert kept["step"] == max(step for step, share in looks.items() if share == best)
    assert (kept["rule"], kept["n"]) == ("best_ra_holdout", 237)
    assert (kept["attack"]["steps"], kept["attack"]["step_rule"]) == (5, "fixed:21.125")  # of training: 42.25 / 2
    result = json.loads((chosen / "evaluations/final.json").read_text())
    assert result["checkpoint"]["selection"] == kept and result["checkpoint"]["step"] == kept["step"]
    assert result["clean"]["n"] == 360 and "selected_on_evaluation" not in result["flags"]
    loaded = nofrost_jax.load(chosen)
    assert checkpoint.tree_sha256(loaded.variables) == result["checkpoint"]["params_sha256"]
    assert sorted(path.name for path in chosen.glob("best*")) == ["best"]


def test_of_equal_ones_the_later_stays_and_a_better_one_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(selection.runs, "evaluator", lambda *_: Fixed())
    state, shares = type("State", (), {"variables": {"params": {"w": np.zeros(1)}}})(), iter((0.5, 0.5, 0.4, 0.6))

    class Fixed:
        images = types.SimpleNamespace(count=4)

        def run(self, variables, stop, folder, progress=False):
            (tmp_path / "best_outcomes").mkdir()
            return {"protocols": {"selection": {}}}

    monkeypatch.setattr(selection.results, "robust_accuracy", lambda _: next(shares))
    best = best_in(tmp_path, None)
    steps = []
    for step in (8, 16, 20, 24):
        best.measure(state, step, None)
        steps.append(checkpoint.read_selection(tmp_path / "best")["step"])
    assert steps == [8, 16, 16, 24]  # theirs: >=


def test_what_another_rule_or_attack_chose_is_put_aside(chosen, tmp_path):
    """So that no evaluation after --force reads it; the same rule and attack keep it."""
    held = prepare(tiny_config(**HELD))
    shutil.copytree(chosen / "best", tmp_path / "best")
    selection.put_aside(held, str(tmp_path))
    assert (tmp_path / "best").is_dir()
    for other in (tiny_config(), tiny_config(**HELD, attack__epsilon_255=16.0)):
        selection.put_aside(prepare(other), str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["best_before"]
        shutil.copytree(chosen / "best", tmp_path / "best")


def test_a_refused_force_leaves_the_run_as_it_is(chosen, tmp_path, cli):
    folder = tmp_path / "run"
    shutil.copytree(chosen, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for rule in ("last", "best_ra_val"):
        outcome = cli(*tiny_args(folder, **HELD | {"checkpoint__select": rule, "model__width": 0.125}), "--force")
        assert outcome.returncode == 2 and "does not fit" in outcome.stderr, outcome
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_forced_rule_puts_aside_what_another_chose(chosen, tmp_path, cli, compile_once):
    folder = tmp_path / "run"
    shutil.copytree(chosen, folder)
    outcome = cli(*tiny_args(folder, **HELD | {"checkpoint__select": "last"}), "--force")
    assert outcome.returncode == 0, outcome
    assert sorted(path.name for path in folder.glob("best*")) == ["best_before"]
    assert checkpoint.read_selection(folder / "best_before") == checkpoint.read_selection(chosen / "best")
    assert "seed" in json.loads((folder / "best_before/config.json").read_text())


def test_a_kill_between_the_old_choice_and_the_new_keeps_the_old(chosen, tmp_path):
    shutil.copytree(chosen / "best", tmp_path / "best.old")
    best_in(tmp_path, parallel.Devices(), selection.start)
    assert checkpoint.read_selection(tmp_path / "best") == checkpoint.read_selection(chosen / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_lost_choice_is_an_error(chosen, tmp_path, cli):
    """Also where only a part of it is lost; the newest checkpoint, which is there, is not the run's result."""
    folder = tmp_path / "run"
    shutil.copytree(chosen, folder)
    held = tiny_args(folder, **HELD)
    (folder / "best/model.safetensors").unlink()
    outcome = cli("--mode=evaluate", f"--workdir={folder}")
    assert outcome.returncode == 2 and "best/model.safetensors" in outcome.stderr
    shutil.rmtree(folder / "best")
    for outcome in (cli(*held), cli("--mode=evaluate", f"--workdir={folder}")):
        assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
        assert f"{folder}/best is" in outcome.stderr and "put it back" in outcome.stderr
    with pytest.raises(UserError, match=r"best_ra_holdout in .*/config.json, but .*/best is missing"):
        nofrost_jax.load(folder)
    shutil.copytree(chosen / "best", folder / "best")
    variables, _ = checkpoint.load_export(folder / "best")
    variables["params"]["head"]["bias"] += 1e-6
    checkpoint.export(str(folder / "best"), variables, (folder / "best/config.json").read_text())
    with pytest.raises(UserError, match=r"best/model.safetensors is not what was saved: its hash differs"):
        nofrost_jax.load(folder)


def test_what_is_forced_takes_the_choice_along(chosen, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(chosen, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"seed": 5}))
    with pytest.raises(UserError, match=r"best is of another config than .* \(seed: 0 -> 5\)"):
        nofrost_jax.load(folder)
    shutil.copy(chosen / "config.json", folder)
    best = best_in(folder, parallel.Devices(), seed=5)
    best.require(best.kept(), ["seed: 0 -> 5"])
    assert json.loads((folder / "best/config.json").read_text())["seed"] == 5


def due(row, **fields):
    """The epochs after which a run with the authors' recipe is measured."""
    config = prepare(tiny_config(row, recipe="authors", **fields))
    best = object.__new__(selection.Best)
    best.config, best._per_epoch = config, 7
    assert not any(best.is_due(7 * epoch + 3) for epoch in range(config.epochs))
    return [epoch for epoch in range(1, config.epochs + 1) if best.is_due(7 * epoch)]


def test_when_it_looks():
    """PGDAT.py:283, CRT_TDAT.py:286: `epoch % 10 == 0 or epoch >= int(0.9 * epochs)`, counted from 0."""
    assert due("sat", epochs=90, evaluation__every_epochs=10) == [*range(1, 82, 10), *range(82, 91)]
    assert due("freeat", epochs=23, evaluation__every_epochs=10, attack__steps=1) == [1, 11, 21, 22, 23]
    star = due("nofrost_star", epochs=30, evaluation__every_epochs=7)
    assert star == [epoch + 1 for epoch in range(30) if epoch % 7 == 0 or epoch >= 24]
    assert due("st", epochs=9) == [*range(1, 10)]  # best_SA.pth: after every epoch
    assert due("sat", epochs=3, evaluation__every_epochs=0) == [3]


@pytest.mark.parametrize(
    ("row", "fields", "expected"),
    [
        ("sat", {"attack__steps": 10}, (5, "fixed:1")),
        ("nofrost", {"attack__steps": 10, "attack__epsilon_255": 4.0}, (5, "fixed:0.5")),
        ("pgdat", {"attack__steps": 10, "attack__epsilon_255": 2.0}, (5, "fixed:0.25")),
        ("sat", {"attack__steps": 7}, (5, "fixed:1.42857")),
        ("sat", {"attack__steps": 10, "attack__step_rule": "madry"}, (5, "fixed:2")),
        ("nofrost_star", {"attack__steps": 10}, (10, "fixed:1")),
        ("fastat", {"attack__steps": 1}, (5, "fixed:1")),
        ("sat", {"attack__steps": 10, "attack__epsilon_255": 0.0}, (5, "fixed:1")),
        ("sat", {"attack__steps": 10, "attack__norm": "l2", "attack__epsilon_255": 3000.0}, (5, "fixed:300.4")),
    ],
)
def test_the_attack_is_that_of_the_authors(row, fields, expected):
    """PGDAT.py:160-163: five steps of the training attack's size, min(1.25 eps, eps + 4) / T."""
    config = prepare(tiny_config(row, recipe="authors", **{"attack__epsilon_255": 8.0, **fields}))
    attack = selection.selection_attack(config)
    assert (attack["steps"], attack["step_rule"]) == expected and attack["epsilon_255"] == config.attack.epsilon_255
    (protocol,) = protocols.make_all(selection.evaluation_config(config))
    assert protocol.members[0].attack.steps == expected[0]


def test_a_run_stopped_between_its_last_step_and_the_last_look_looks_again(chosen, compile_once, tmp_path, monkeypatch):
    original = selection.Best.measure

    def stopped(self, state, step, stop):
        if step == 20:  # after the last step
            raise Preempted("stopped")
        return original(self, state, step, stop)

    monkeypatch.setattr(selection.Best, "measure", stopped)
    with pytest.raises(Preempted):
        train.train(tiny_config(**HELD), str(tmp_path / "run"))
    monkeypatch.setattr(selection.Best, "measure", original)
    train.train(tiny_config(**HELD), str(tmp_path / "run"))
    assert lines(tmp_path / "run") == lines(chosen)
    assert checkpoint.read_selection(tmp_path / "run/best") == checkpoint.read_selection(chosen / "best")


def test_the_authors_choice_is_flagged(cli, compile_once, tmp_path):
    outcome = cli(*tiny_args(tmp_path / "run", recipe="authors", epochs=1))
    assert outcome.returncode == 0, outcome
    assert "selected_on_evaluation" in json.loads((tmp_path / "run/evaluations/final.json").read_text())["flags"]
    assert "selected_on_evaluation: the checkpoint was chosen by" in outcome.stdout


def test_without_an_attack_the_most_accurate_state_counts(compile_once, tmp_path):
    train.train(tiny_config("st", recipe="authors", epochs=3, evaluation__every_epochs=0), str(tmp_path / "run"))
    looks = {line["step"]: line["eval/selection"] for line in lines(tmp_path / "run") if "eval/selection" in line}
    assert sorted(looks) == [5, 10, 15]
    kept = checkpoint.read_selection(tmp_path / "run/best")
    best = max(looks.values())
    assert kept["accuracy"] == best and kept["step"] == max(step for step, share in looks.items() if share == best)
    assert (kept["rule"], kept["n"], kept["attack"]) == ("best_sa_val", 360, None)
    result = json.loads((tmp_path / "run/evaluations/final.json").read_text())
    assert result["clean"]["accuracy"] == best and "selected_on_evaluation" in result["flags"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"checkpoint__select": "best"}, "choose one of last, best_ra_val, best_sa_val, best_ra_holdout"),
        ({"checkpoint__select": "best_ra_holdout"}, "config.data.holdout=0; set it"),
        ({"method__sum_losses": True, "method__adversarial_weight": 1.0}, "adversarial_weight between 0 and 1"),
    ],
)
def test_misuse(fields, words):
    with pytest.raises(UserError, match=words):
        prepare(tiny_config(**fields))
    assert SELECTIONS[0] == prepare(tiny_config()).checkpoint.select
