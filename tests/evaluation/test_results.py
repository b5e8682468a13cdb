"""The result: intervals, the schema, the table with both protocols, files whole or not at all, pictures."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import evaluate, parallel
from nofrost_jax.evaluation import pictures, programs, results, table
from tests.evaluation import suite


@pytest.fixture(scope="module")
def result(reference):
    summary = results.summarize(reference.evaluator.protocols, reference.outcomes, 10, {})
    head = {
        "name": "final",
        "dataset": {"source": "digits", "n": 50, "of": 360, "split": "validation", "choice": "evenly spread"},
        "checkpoint": {"step": 7},
    }
    head["dataset"]["label_set"] = "10 classes"
    return head | summary


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(350, 1000, 0.3211, 0.3801), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_the_published_ones(successes, n, low, high):
    assert results.wilson(successes, n) == pytest.approx([low, high], abs=1e-4)


def test_entries_follow_the_schema(reference, result):
    pgd, rays, cascade = result["attacks"]
    expected = "name protocol epsilon_255 steps step_rule restarts queries robust_accuracy ci95 n max_linf_255 nan"
    for entry in result["attacks"]:
        assert list(entry)[:16] == [*expected.split(), "mean_forwards", "mean_backwards", "seconds", "flags"]
    assert (pgd["name"], pgd["steps"], pgd["step_rule"], pgd["queries"]) == ("pgd_20", 3, "madry", None)
    assert (rays["name"], rays["queries"], rays["n"], rays["steps"]) == ("rays", 30, 10, None)
    assert (cascade["name"], cascade["attack"], cascade["n"]) == ("cascade", "cascade", 50)
    assert pgd["mean_forwards"] == pgd["mean_backwards"] == 3
    assert 0 < pgd["max_linf_255"] <= 1.5003
    outcome = reference.outcomes["protocols"]["cascade"]
    assert cascade["robust_accuracy"] == outcome["robust"].mean()
    assert cascade["members"][0]["attacked"] == reference.outcomes["correct"].sum()
    fooled = [member["fooled"] for member in cascade["members"]]
    assert cascade["members"][0]["attacked"] - sum(fooled) == cascade["members"][-1]["survivors"]
    assert result["clean"]["accuracy"] == reference.outcomes["correct"].mean() and result["clean"]["n"] == 50
    robust = [entry["robust_accuracy"] for entry in (pgd, cascade)]
    assert result["worst_case"]["robust_accuracy"] <= min(robust)
    assert result["worst_case"]["epsilon_255"] == 1.5 and result["worst_case"]["partial"] == ["rays"]
    json.dumps(result)


def test_the_table_names_both_protocols_run_or_not(result):
    text = table.render(result)
    assert "digits, 50 of 360 validation images (evenly spread), step 7" in text
    for line in ("aa_fast_20", "aa_standard"):
        assert any(row.split()[:3] == [line, "not", "run"] for row in text.splitlines())
    assert "n = 10" in text and "RayS" not in text
    entry = dict(result["attacks"][2], name="mine", attack="aa_standard")
    text = table.render(result | {"attacks": [entry]})
    assert "aa_fast_20" in text and text.count("not run") == 1
    few = result | {"attacks": [entry], "dataset": result["dataset"] | {"label_set": "2 classes"}}
    assert "not run, needs 3 classes" in table.render(few)


def test_an_interrupted_save_leaves_the_old_result(tmp_path, reference, result, monkeypatch):
    path = results.save(tmp_path, result, results.columns(reference.outcomes))
    before = pathlib.Path(path).read_text()
    monkeypatch.setattr(results.files.json, "dumps", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        results.save(tmp_path, result, results.columns(reference.outcomes))
    assert pathlib.Path(path).read_text() == before
    with np.load(f"{path.removesuffix('json')}npz") as columns:
        assert set(columns.files) == {"index", "label", "clean_correct", "pgd_20", "rays", "rays.selected", "cascade"}
        for name in ("pgd_20", "rays", "cascade"):
            assert columns[name].dtype == bool
            np.testing.assert_array_equal(columns[name], reference.outcomes["protocols"][name]["robust"])


def test_saved_images_are_those_that_were_verified(reference, tmp_path):
    """Kept for the first 35 images, over a chunk's end; outcomes that were there without images are made again."""
    config = suite.tiny_config(save_images=35)
    evaluator, _ = suite.make(config)
    evaluator = dataclasses.replace(evaluator, programs=reference.evaluator.programs)
    names = ("pgd_20", "cascade")
    outcomes = evaluator.run(reference.variables, parallel.StopSignal(), reference.folder, names=names)
    protocols = [protocol for protocol in evaluator.protocols if protocol.name in names]
    paths = pictures.save(tmp_path, "final", protocols, outcomes)
    assert [pathlib.Path(path).name for path in paths] == ["pgd_20.npz", "pgd_20.png", "cascade.npz", "cascade.png"]
    classifier = suite.classifier(config, reference.variables)
    for path in paths[::2]:
        label = pathlib.Path(path).stem
        with np.load(path) as saved:
            rows = np.flatnonzero(outcomes["correct"][:35])
            assert saved["index"].tolist() == outcomes["index"][rows].tolist()
            right = np.asarray(classifier(saved["adversarial"])).argmax(-1) == saved["label"]
            np.testing.assert_array_equal(right, saved["robust"])
            np.testing.assert_array_equal(right, reference.outcomes["protocols"][label]["robust"][rows])
            assert 0 < np.abs(saved["adversarial"] * 255 - saved["clean"]).max() <= 1.5003
            whole = programs.rounded(saved["adversarial"], saved["clean"], 1.5, np.inf).astype(np.uint8)
            right = np.asarray(classifier(whole)).argmax(-1) == saved["label"]
            kept = outcomes["protocols"][label]["robust_uint8"][rows]
            assert right[~kept].sum() == 0 and (label == "cascade" or right[kept].all())
    with Image.open(paths[1]) as picture:
        assert picture.width > 8 * pictures.SIDE and picture.height > 3 * pictures.SIDE

    fewer, _ = suite.make(suite.tiny_config(save_images=2))  # of which more are kept, of clean images and of one attack
    fewer = dataclasses.replace(fewer, programs=reference.evaluator.programs)
    outcomes = fewer.run(reference.variables, parallel.StopSignal(), reference.folder, names=("pgd_20", "rays"))
    assert len(outcomes["pixels"]) == 2
    pictures.save(
        tmp_path, "fewer", [protocol for protocol in fewer.protocols if protocol.name in ("pgd_20", "rays")], outcomes
    )


def test_what_killed_writers_left_is_removed(tmp_path):
    left = [tmp_path / f"evaluations/{place}/.{'0' * 32}.tmp" for place in ("", "outcomes/abc", "final_images")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))
    (now := left[1].with_name(f".{'1' * 32}.tmp")).touch()
    with evaluate._exclusive(suite.tiny_config(), str(tmp_path)):
        assert list(tmp_path.rglob(".*.tmp")) == [now]


def test_a_picture_shows_where_the_change_is():
    clean = np.full((2, 5, 7, 3), 100, np.uint8)
    adversarial = clean / 255.0
    adversarial[0, 2, 3] += 4 / 255
    picture = np.asarray(pictures.grid("x", clean, adversarial, 8, [1, 2], [True, False]))
    colours = {tuple(colour) for colour in picture[-100:-30].reshape(-1, 3)}  # a row of images is 80 pixels high
    assert (128, 128, 128) in colours and (191, 191, 191) in colours  # no change, and half of the radius
