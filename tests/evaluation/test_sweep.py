"""Interpolation settings from config to classifier and store, and the sweep over gamma of `--mode=evaluate`."""

import collections
import importlib
import json
import os
import re
import signal

import jax
import numpy as np
import pytest

import nofrost_jax
from nofrost_jax import data, train
from nofrost_jax.config import for_evaluation, prepare
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.convert import sources
from nofrost_jax.data.choice import Choice
from nofrost_jax.evaluation import engine
from tests.conftest import tiny_args, tiny_config
from tests.data.helpers import dataset_of
from tests.evaluation import suite
from tests.evaluation.suite import make_run

# Where the settings come from


@pytest.fixture(scope="module")
def mbnat(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("mbnat") / "run")


def test_load_takes_the_configs_values_or_its_own(tmp_path):
    mixture = {"mbn_gamma": 0.25, "mbn_interpolation": "random", "mbn_p": 0.75, "mbn_seed": 4}
    folder = make_run(tmp_path / "run", **{f"evaluation__{name}": value for name, value in mixture.items()})

    def fields(folder=folder, **given):
        found = nofrost_jax.load(folder, **given)
        return found.gamma, found.interpolation, found.p, found.seed

    assert fields() == (0.25, "random", 0.75, 4)
    assert fields(gamma=0.0, p=0.0, seed=0) == (0.0, "random", 0.0, 0)
    assert fields(interpolation="all") == (0.25, "all", 0.75, 4)
    convert.export(sources.read(folder), str(tmp_path / "out"))
    assert fields(tmp_path / "out") == (0.25, "random", 0.75, 4)


def test_outcomes_of_other_mixtures_are_kept_apart():
    def identity(row, **fields):
        return suite.identity(prepare(tiny_config(row, **fields)))

    one = identity("mbnat", evaluation__mbn_gamma=0.5)
    for field, value in {"gamma": 0.6, "interpolation": "all", "p": 0.1, "seed": 1}.items():
        other = identity("mbnat", **{"evaluation__mbn_gamma": 0.5, f"evaluation__mbn_{field}": value})
        assert {name for name in one if one[name] != other[name]} == {f"mbn_{field}"}
    assert [name for name in identity("sat") if name.startswith("mbn")] == ["mbn_gamma"]  # as it always was


# The sweep

GAMMAS = ["gamma_0", "gamma_0.25", "gamma_0.5", "gamma_1"]
FIELDS = {"name": "sweep", "limit": 64, "batch_size": 64, "mbn_gammas": "(0, 0.25, 0.5, 1)"}


def sweep_args(folder, **fields):
    return ["--mode=evaluate", *tiny_args(folder, "mbnat", **{f"evaluation__{k}": v for k, v in fields.items()})]


@pytest.mark.usefixtures("compile_once")
def test_the_sweep_evaluates_each_gamma_once(cli, mbnat, monkeypatch):
    begun, eval_batches = [], data.Dataset.eval_batches

    def stopped_batches(*args, **kwargs):
        begun.append(sorted(path.stem for path in mbnat.glob("evaluations/*.json")))
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        yield from eval_batches(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(data.Dataset, "eval_batches", stopped_batches)
        patch.setattr(engine, "tree_sha256", lambda _: pytest.fail("the parameters are hashed twice"))
        stopped = cli(*sweep_args(mbnat, **FIELDS))
        assert stopped.returncode == 75 and begun == [[], ["sweep_gamma_0"]], stopped
        done = cli(*sweep_args(mbnat, **FIELDS))
    assert done.returncode == 0 and len(begun) == 5, done
    assert done.stdout.count("written by an earlier run") == 1
    compiled = [line for line in done.stdout.splitlines() if line.startswith("compiling ")]
    assert sorted(collections.Counter(compiled).values()) == [2, 2], compiled  # for 0.25 and 0.5, and for 1

    results = {name: json.loads((mbnat / f"evaluations/sweep_{name}.json").read_text()) for name in GAMMAS}
    assert [result["name"] for result in results.values()] == [f"sweep_{name}" for name in GAMMAS]
    compiling = [results[name]["attacks"][0]["compile_seconds"] for name in GAMMAS]
    assert compiling[2] == 0 < min(compiling[:2] + compiling[3:]), "each its own, none those of others"
    title, head, *rows = done.stdout.splitlines()[-6:]
    assert "sweep" in title and "logits" in title and "64 validation images" in title
    assert head.split()[:3] == ["gamma", "clean", "pgd_20"]
    for row, result, gamma in zip(rows, results.values(), ("0", "0.25", "0.5", "1"), strict=True):
        shares = result["clean"]["accuracy"], result["attacks"][0]["robust_accuracy"]
        assert row.split()[:3] == [gamma, *(f"{share:.2%}" for share in shares)]

    (batch,) = dataset_of(prepare(tiny_config("mbnat")), Choice(64)).eval_batches(64)
    right = []
    for name, gamma in zip(GAMMAS, (0.0, 0.25, 0.5, 1.0), strict=True):
        classifier = nofrost_jax.load(mbnat, gamma=gamma)
        right.append(np.asarray(jax.jit(classifier.predict)(batch["image"]) == batch["label"]))
        with np.load(mbnat / f"evaluations/sweep_{name}.npz") as columns:
            np.testing.assert_array_equal(columns["clean_correct"], right[-1])
    assert min(np.sum(right[2] != right[0]), np.sum(right[2] != right[3])) > 0

    monkeypatch.setattr(engine.Evaluator, "run", lambda *_, **__: pytest.fail("evaluates again"))
    again = cli(*sweep_args(mbnat, **FIELDS))
    assert again.returncode == 0 and again.stdout.count("written by an earlier run") == 4
    assert again.stdout.splitlines()[-6:] == done.stdout.splitlines()[-6:]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mbn_gammas": "(0, 2)"}, ["mbn_gammas=2", "between 0 and 1"]),
        ({"mbn_gammas": "(0.5, 0.1, 0.5)"}, ["mbn_gammas", "twice"]),
        ({"mbn_gammas": "('a',)"}, ["mbn_gammas", "numbers"]),
        ({"mbn_interpolation": "al"}, ["mbn_interpolation", "did you mean all?"]),
        ({"mbn_p": 1.5}, ["mbn_p=1.5", "between 0 and 1"]),
        ({"mbn_seed": -1}, ["mbn_seed=-1"]),
    ],
)
def test_impossible_mixtures_are_one_line(cli, mbnat, fields, words):
    assert_refused(cli(*sweep_args(mbnat, **fields)), *words)


def assert_refused(outcome, *words):
    assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
    assert all(word in outcome.stderr for word in words), outcome.stderr


def test_a_net_without_branches_is_refused(cli, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    train.write_config(prepare(tiny_config("nofrost")), str(folder))
    suite = ["--mode=evaluate", "--config=configs/eval/mbn_gamma.py", f"--workdir={folder}"]
    assert_refused(cli(*suite), "mbn_gammas", "model.norm=mbn", "mbnat config")
    for field in ("mbn_gammas=(0.5, 1)", "mbn_interpolation=all"):
        outcome = cli("--config=configs/digits.py:sat", f"--workdir={tmp_path}/new", f"--config.evaluation.{field}")
        assert_refused(outcome, "model.norm=mbn", "this one has bn")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "config.json"]


@pytest.mark.parametrize(
    ("arg", "name", "interpolation", "p"),
    [
        (None, "mbn_logits", "logits", 0.5),
        ("all", "mbn_all", "all", 0.5),
        ("random", "mbn_random_50", "random", 0.5),
        ("random_25", "mbn_random_25", "random", 0.25),
    ],
)
def test_the_suite_of_figures_2_and_5(arg, name, interpolation, p):
    get_config = importlib.import_module("configs.eval.mbn_gamma").get_config
    given = get_config() if arg is None else get_config(arg)
    config, left_out = for_evaluation(prepare(tiny_config("mbnat")), given)
    section = prepare(config).evaluation
    assert left_out == [] and section.name == name
    assert (section.mbn_interpolation, section.mbn_p) == (interpolation, p)
    assert list(section.mbn_gammas) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert set(section.attacks) == {"pgd_20", "apgd_ce_20", "aa_fast_20", "aa_standard", "pgdt_20", "pgdt_20_all"}


@pytest.mark.parametrize("arg", ["al", "random_", "random_101", "random_-1", "logits_5"])
def test_the_suite_refuses_other_words(cli, tmp_path, arg):
    with pytest.raises(ValueError, match=re.escape(repr(arg))):
        importlib.import_module("configs.eval.mbn_gamma").get_config(arg)
    outcome = cli("--mode=evaluate", f"--config=configs/eval/mbn_gamma.py:{arg}", f"--workdir={tmp_path}")
    assert_refused(outcome, repr(arg), "logits, all, random")
