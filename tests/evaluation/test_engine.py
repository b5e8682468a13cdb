"""The evaluation engine: exact counts, an image's outcome of its own, and no attack's word taken for anything."""

import importlib
import json
import pathlib
import types
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import attacks, data, models, parallel, validate
from nofrost_jax.attacks import AttackResult
from nofrost_jax.classifier import create_model
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.evaluation import engine, results
from nofrost_jax.evaluation.engine import Evaluator


def tiny_config(batch_size=32, limit=50):
    config = importlib.import_module("configs.digits").get_config("nofrost")
    config.model.update({"width": 0.0625, "stage_sizes": (1,)})
    config.evaluation.update({"batch_size": batch_size, "limit": limit})
    config.evaluation.attacks.pgd_20.steps = 3
    return validate.resolve(config)


@pytest.fixture(scope="module")
def variables():
    """Fresh variables with a louder head, so that the untrained net has confident, different answers."""
    fresh = models.init(create_model(tiny_config().model), jax.random.key(0), 8)
    fresh["params"]["head"]["kernel"] = 300 * fresh["params"]["head"]["kernel"]
    return fresh


def one_device():
    return parallel.Devices((jax.devices()[0],))


def run(config, variables, count=1):
    devices = parallel.Devices(tuple(jax.devices()[:count]))
    evaluator = Evaluator(config, devices, data.check(config))
    return evaluator, evaluator.run(devices.replicate(variables), parallel.StopSignal())


@pytest.fixture(scope="module")
def reference(variables):
    return run(tiny_config(), variables)


def test_counts_every_image_once_and_drops_the_padding(reference):
    _, outcomes = reference
    assert outcomes["index"].tolist() == list(range(50))
    labels = np.concatenate([batch["label"] for batch in data.eval_batches(tiny_config(), 50, limit=50)])
    np.testing.assert_array_equal(outcomes["label"], labels)
    assert len(outcomes["attacks"]["pgd_20"]["robust"]) == 50
    assert not (outcomes["attacks"]["pgd_20"]["robust"] & ~outcomes["clean_correct"]).any()


@pytest.mark.parametrize(("batch_size", "count"), [(50, 1), (20, 4)])
def test_outcomes_do_not_depend_on_the_batch_or_the_devices(reference, variables, batch_size, count):
    _, expected = reference
    _, found = run(tiny_config(batch_size), variables, count)
    np.testing.assert_array_equal(found["clean_correct"], expected["clean_correct"])
    for name, column in expected["attacks"]["pgd_20"].items():
        np.testing.assert_allclose(found["attacks"]["pgd_20"][name], column, rtol=1e-4, err_msg=name)


def test_entries_follow_the_schema(reference):
    evaluator, outcomes = reference
    (entry,) = evaluator.entries(outcomes)
    expected = "name protocol epsilon_255 steps step_rule restarts queries robust_accuracy ci95 n max_linf_255 nan"
    assert list(entry) == [*expected.split(), "mean_forwards", "mean_backwards", "seconds", "flags"]
    assert entry["epsilon_255"] == 38.25 and entry["n"] == 50 and entry["flags"] == []
    assert 0 < entry["max_linf_255"] <= 38.2501
    assert entry["mean_forwards"] == entry["mean_backwards"] == 3
    clean = results.clean_entry(outcomes)
    assert clean["accuracy"] == outcomes["clean_correct"].mean() and clean["n"] == 50
    assert results.worst_case(outcomes)["robust_accuracy"] <= min(clean["accuracy"], entry["robust_accuracy"])
    json.dumps([entry, clean])


class Cheat(typing.NamedTuple):
    """An "attack" that leaves the ball and the pixel range, and returns one NaN image."""

    epsilon: float = 0.1

    def __call__(self, logits_fn, images, labels, keys):
        moved = (images + 2 * self.epsilon).at[0].set(jnp.nan)
        count = jnp.zeros(images.shape[0], jnp.int32)
        return AttackResult(moved, count, count)


def test_an_attack_that_cheats_is_flagged_and_nan_is_not_robust(variables, monkeypatch):
    monkeypatch.setitem(attacks.TABLE, "pgd", lambda **_: Cheat())
    evaluator, outcomes = run(tiny_config(50), variables)
    (entry,) = evaluator.entries(outcomes)
    assert set(entry["flags"]) == {"budget_violated", "range_violated", "nan"}
    assert entry["nan"] == 1 and not outcomes["attacks"]["pgd_20"]["robust"][0]


def test_a_model_of_nan_is_wrong_everywhere(variables):
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), variables)
    _, outcomes = run(tiny_config(50), broken)
    assert not outcomes["clean_correct"].any() and not outcomes["attacks"]["pgd_20"]["robust"].any()
    assert results.clean_entry(outcomes)["nan"] == 50


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(350, 1000, 0.3211, 0.3801), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_the_published_ones(successes, n, low, high):
    assert results.wilson(successes, n) == pytest.approx([low, high], abs=1e-4)


def test_the_table_names_both_protocols_that_were_not_run(reference):
    evaluator, outcomes = reference
    result = {
        "dataset": {"source": "digits", "n": 50, "split": "validation"},
        "checkpoint": {"step": 7},
        "clean": results.clean_entry(outcomes),
        "attacks": evaluator.entries(outcomes),
    }
    text = results.table(result)
    assert "digits, 50 validation images, step 7" in text
    assert "aa_fast_20   not run" in text and "aa_standard  not run" in text


def test_stops_between_batches_and_says_how_far_it_is(variables, capsys, monkeypatch):
    """SIGTERM is heard within an evaluation, not only after it: on ImageNet one lasts for hours."""
    config, devices = tiny_config(10), one_device()
    evaluator = Evaluator(config, devices, data.check(config))
    asked = iter([False, False, True])
    stop = types.SimpleNamespace(requested=lambda: next(asked))
    clock = iter(range(0, 10**6, 6))
    monkeypatch.setattr(engine.time, "perf_counter", lambda: next(clock))
    with pytest.raises(Preempted):
        evaluator.run(devices.replicate(variables), stop, progress=True)
    printed = capsys.readouterr().out
    assert "compiling clean ..." in printed and "compiling pgd_20 ..." in printed
    assert "evaluated 20/50" in printed and "left" in printed


def test_an_interrupted_save_leaves_the_old_result(tmp_path, reference, monkeypatch):
    evaluator, outcomes = reference
    result = {"name": "final", "attacks": evaluator.entries(outcomes)}
    path = results.save(tmp_path, result, outcomes)
    before = pathlib.Path(path).read_text()
    monkeypatch.setattr(results.json, "dump", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        results.save(tmp_path, result | {"name": "final"}, outcomes)
    assert pathlib.Path(path).read_text() == before
    with np.load(f"{path.removesuffix('json')}npz") as columns:
        assert set(columns.files) == {"index", "label", "clean_correct", "pgd_20"}
        np.testing.assert_array_equal(columns["pgd_20"], outcomes["attacks"]["pgd_20"]["robust"])


def test_load_names_what_is_wrong(tmp_path):
    import nofrost_jax

    with pytest.raises(UserError, match=r"config\.json"):
        nofrost_jax.load(tmp_path)
