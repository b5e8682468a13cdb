"""Margin, thickness and smoothness in an evaluation: of which images, whatever the batch, after a stop, in a result."""

import json
import types

import jax
import numpy as np
import pytest

from configs.eval import aa_fast_20
from configs.eval import properties as config_file
from nofrost_jax import keys, selection
from nofrost_jax.analysis import bn_statistics
from nofrost_jax.analysis.properties import NAMES, VALUES
from nofrost_jax.config import for_evaluation
from nofrost_jax.errors import Preempted
from nofrost_jax.evaluation import results, runs, sweep
from tests.data.helpers import dataset_of
from tests.evaluation import suite

NEVER = types.SimpleNamespace(requested=lambda: False, local=True)


def tiny_config(**evaluation):
    """Random images: those of digits have flat areas, where a normalizer-free net lies on the kink of its ReLU and the
    gradient is a matter of rounding."""
    config = suite.tiny_config(attacks={}, **evaluation)
    config.data.source, config.data.fake_eval = "fake", suite.COUNT
    config.evaluation.properties.update({"measure": True, "steps": 3, "points": 9})
    return config


@pytest.fixture(scope="module")
def variables():
    return suite.tiny_variables()


@pytest.fixture(scope="module")
def outcomes(variables, tmp_path_factory):
    evaluator, _ = suite.make(tiny_config())
    return evaluator.run(variables, NEVER, tmp_path_factory.mktemp("outcomes"))


def assert_close(found, expected):
    """Of nearly every image: in float32 another batch can turn an attack's path where a ReLU has its kink."""
    for name in NAMES:
        assert np.isclose(found[name], expected[name], rtol=1e-3, atol=1e-4).mean() >= 0.9, name


def test_each_image_has_its_own_properties(variables, outcomes):
    config = tiny_config()
    (batch,) = dataset_of(config).eval_batches(suite.COUNT)
    key = keys.named(keys.named(jax.random.key(config.seed), "evaluation"), "properties")
    image_keys = keys.per_image(key, outcomes["index"])
    measure = jax.jit(runs.properties_of(config), static_argnums=0)
    images = batch["image"] / np.float32(255)
    assert_close(
        outcomes["properties"], measure(suite.classifier(config, variables), images, batch["label"], image_keys)
    )
    right = outcomes["properties"]["predicted"] == outcomes["label"]
    np.testing.assert_array_equal(right, outcomes["correct"])
    np.testing.assert_array_equal(outcomes["properties"]["margin"] > 0, outcomes["correct"])


def test_a_stop_keeps_the_chunks_that_are_done(variables, outcomes, tmp_path, monkeypatch):
    evaluator, _ = suite.make(tiny_config(batch_size=8))
    measure, calls = type(evaluator.programs).measure, []

    def counted(*args):
        calls.append(args)
        return measure(*args)

    monkeypatch.setattr(type(evaluator.programs), "measure", counted)
    stop = types.SimpleNamespace(requested=lambda: len(calls) == 6, local=True, name="SIGTERM")
    with pytest.raises(Preempted):
        evaluator.run(variables, stop, tmp_path)
    found = evaluator.run(variables, NEVER, tmp_path)
    assert len(calls) == 6 + 3, "chunks of 30 and 20 images; the first is not measured again"
    assert_close(found["properties"], outcomes["properties"])


def test_neither_training_nor_selection_nor_another_suite_measures(variables, tmp_path, monkeypatch):
    config = tiny_config()
    evaluator, _ = suite.make(config)
    monkeypatch.setattr(type(evaluator.programs), "measure", lambda *_: pytest.fail("measures"))
    assert evaluator.run(variables, NEVER, tmp_path, names=())["properties"] == {}
    config.checkpoint.select, config.evaluation.classes = "best_sa_val", 2
    own = selection.evaluation_config(config)
    assert runs.properties_of(own) is None and own.evaluation.classes == 0
    other, _ = for_evaluation(config, aa_fast_20.get_config())
    assert runs.properties_of(other) is None


def test_a_sweep_shows_a_mean_of_zero_and_none_that_is_not_there():
    entry = {"mean": 0.0, "sd": 0.0}
    properties = {"margin": entry, "thickness": entry, "smoothness": entry | {"mean": None}}
    result = {"clean": {"accuracy": 1.0}, "attacks": [], "flags": [], "properties": properties}
    result["dataset"] = {"n": 3, "split": "test"}
    assert sweep.render(tiny_config(), {0.5: result}).splitlines()[-1].split() == ["0.5", "100.00%", "0", "0", "-"]


def test_the_summary_is_of_finite_values(outcomes):
    properties = runs.properties_of(tiny_config())
    measured = {name: values.copy() for name, values in outcomes["properties"].items()}
    measured["smoothness"][:2] = np.inf, np.nan
    summary = results.describe_properties(properties, measured)
    values = measured["smoothness"][2:].astype(np.float64)
    entry = summary["smoothness"]
    assert entry["n"] == 48 and entry["mean"] == pytest.approx(values.mean())
    assert entry["ci95"][1] - entry["mean"] == pytest.approx(1.96 * values.std(ddof=1) / 48**0.5, rel=1e-4)
    nothing = results.describe_properties(properties, measured | {"margin": np.full(50, np.nan)})["margin"]
    assert nothing["mean"] is None and nothing["ci95"] is None and nothing["n"] == 0
    assert summary["settings"]["thickness"]["steps"] == summary["settings"]["smoothness_attack"]["steps"] == 3


@pytest.fixture(scope="module")
def mbnat(tmp_path_factory):
    return suite.make_run(tmp_path_factory.mktemp("runs") / "mbnat", model__stage_sizes=(1, 1, 1, 2))


def test_a_mixture_net_is_measured_at_both_ends(cli, mbnat):
    fields = ["--config.evaluation.properties.points=5", "--config.evaluation.properties.steps=2"]
    fields += ["--config.evaluation.batch_size=64", "--config.evaluation.classes=2", "--config.evaluation.limit=40"]
    done = cli("--mode=evaluate", "--config=configs/eval/properties.py:mbn", f"--workdir={mbnat}", *fields)
    assert done.returncode == 0, done
    found = [json.loads((mbnat / f"evaluations/properties_gamma_{gamma}.json").read_text()) for gamma in (0, 1)]
    for result in found:
        assert result["dataset"]["n"] == 40 and result["dataset"]["choice"] == "evenly spread, the first 2 classes"
        assert [one["reading"] for one in result["bn_statistics"]] == 2 * [bn_statistics.READINGS[0]] + 2 * [
            bn_statistics.READINGS[1]
        ]
        with np.load(mbnat / f"evaluations/{result['name']}.npz") as columns:
            assert set(columns["label"]) == {0, 1}
            for name in VALUES:
                assert result["properties"][name]["mean"] == pytest.approx(
                    columns[f"properties.{name}"].mean(), abs=1e-5
                )
        assert f"{result['properties']['margin']['mean']:.4g}" in done.stdout
    assert found[0]["properties"]["margin"]["mean"] != found[1]["properties"]["margin"]["mean"]
    assert found[0]["bn_statistics"] == found[1]["bn_statistics"]
    rows = done.stdout.splitlines()[-2:]
    assert [row.split()[2] for row in rows] == [f"{result['properties']['margin']['mean']:.4g}" for result in found]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"properties.points": 1}, ["properties.points=1", "at least 2"]),
        ({"properties.step_rule": "'quick'"}, ["config.evaluation.properties", "quick"]),
        ({"properties.alpha": 0.8}, ["config.evaluation.properties", "alpha=0.8", "beta=0.75"]),
        ({"classes": -1}, ["evaluation.classes=-1"]),
        ({"classes": 11}, ["evaluation.classes=11", "10"]),
    ],
)
def test_impossible_settings_are_one_line(cli, mbnat, fields, words):
    given = [f"--config.evaluation.{name}={value}" for name, value in fields.items()]
    outcome = cli("--mode=evaluate", "--config=configs/eval/properties.py:mbn", f"--workdir={mbnat}", *given)
    assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
    assert all(word in outcome.stderr for word in words), outcome.stderr


def test_the_config_takes_mbn_or_nothing():
    with pytest.raises(ValueError, match="'mnb'"):
        config_file.get_config("mnb")
