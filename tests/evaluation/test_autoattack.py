"""`nofrost_jax.autoattack`: the engine on any function and arrays, as on a run; it resumes, and refuses in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nofrost_jax
from nofrost_jax import data, parallel
from nofrost_jax.evaluation import engine, programs
from nofrost_jax.evaluation.outcomes import COLUMNS
from tests.evaluation import suite

K, EPSILON, N = 4, 3 / 255, 40
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(48, K)).astype(np.float32)
IMAGES = RANDOM.uniform(0.1, 0.9, size=(N, 4, 4, 3)).astype(np.float32)


def linear(x):
    return x.reshape(len(x), -1) @ W


LABELS = np.where(np.arange(N) % 8 == 7, 0, np.asarray(linear(IMAGES)).argmax(-1))  # some are wrong
pytestmark = pytest.mark.usefixtures("compile_once")


def attack(fn=linear, labels=LABELS, **options):
    return nofrost_jax.autoattack(fn, IMAGES, labels, EPSILON, "apgd_t", batch_size=16, **options)


@pytest.fixture(scope="module")
def whole():
    return attack(quiet=True)


def assert_same_rows(found, expected):
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        for column, values in rows.items():
            np.testing.assert_array_equal(found[name][column], values, err_msg=f"{name} {column}")


def test_a_linear_function_stands_where_its_margin_is_wide_enough(whole):
    """In closed form: an image falls where epsilon times the l1 norm of two classes' difference exceeds the margin."""
    logits, others = linear(IMAGES), np.eye(K, dtype=bool)[LABELS]
    margins = logits[np.arange(N), LABELS][:, None] - logits
    least = (margins - EPSILON * np.abs(W.T[LABELS][:, None] - W.T).sum(-1))[~others].reshape(N, K - 1).min(1)
    assert np.abs(least).min() > 1e-4 and 0.2 < (least > 0).mean() < 0.8, "the next lines say little"
    rows = whole["rows"]
    np.testing.assert_array_equal(rows["apgd_t"]["robust"], least > 0)
    np.testing.assert_array_equal(rows["clean"]["correct"], margins.min(1) >= 0)
    assert whole["attacks"][0]["robust_accuracy"] == (least > 0).mean() == whole["worst_case"]["robust_accuracy"]
    assert whole["clean"]["accuracy"] == rows["clean"]["correct"].mean() < 1
    assert whole["attacks"][0]["ci95"][0] < (least > 0).mean() < whole["attacks"][0]["ci95"][1]
    assert whole["flags"] == ["few_classes"] and whole["name"] == whole["attacks"][0]["protocol"] == "apgd_t"
    assert rows["apgd_t"]["linf_255"].max() == pytest.approx(3, abs=1e-3)


def test_the_outcomes_are_those_of_a_runs_own_evaluation(variables, tmp_path, capsys):
    """Every column to the bit, for a Classifier and the same images as floats."""
    (tmp_path / "ids").write_text("\n".join(map(str, range(N))))
    entry = {"name": "aa_fast_20", "epsilon_255": 1.5}
    config = suite.tiny_config(attacks={"aa_fast_20": entry}, limit=0, ids=str(tmp_path / "ids"))
    evaluator, _ = suite.make(config, jax.local_device_count())
    expected = evaluator.run(variables, parallel.StopSignal(), tmp_path / "outcomes")
    (batch,) = data.open(config, check=()).eval_batches(N)
    np.testing.assert_array_equal(batch["index"], np.arange(N))
    found = nofrost_jax.autoattack(
        suite.classifier(config, variables),
        batch["image"] / 255.0,
        batch["label"],
        1.5 / 255,
        "aa_fast_20",
        batch_size=16,
    )
    assert 0 < found["attacks"][0]["robust_accuracy"] < found["clean"]["accuracy"]
    for member, rows in zip(("apgd_ce", "apgd_dlr"), expected["protocols"]["aa_fast_20"]["members"], strict=True):
        wanted = {name: rows[name] for name in COLUMNS} | {"robust": rows["survivors"]}
        assert_same_rows({member: found["rows"][member]}, {member: wanted})
    np.testing.assert_array_equal(found["rows"]["aa_fast_20"]["robust"], expected["protocols"]["aa_fast_20"]["robust"])
    printed = capsys.readouterr().out
    assert "compiling apgd_ce 20" in printed and f"{found['clean']['accuracy']:.2%}" in printed


class Killed(BaseException):
    pass


def test_goes_on_after_a_kill_between_stages(whole, tmp_path, monkeypatch, capsys):
    """The same rows, and no stage twice; another function or other labels find nothing in the folder."""
    monkeypatch.setattr(engine, "SAVE_SECONDS", -1)
    monkeypatch.setattr(engine, "SAVE_COST", 0)
    stage, stages = programs.Programs.stage, []

    def counted(self, *arguments):
        if len(stages) == kill_at:
            raise Killed
        stages.append(1)
        return stage(self, *arguments)

    monkeypatch.setattr(programs.Programs, "stage", counted)
    kill_at = None
    attack(quiet=True, folder=tmp_path / "other")
    needed, kill_at = len(stages), len(stages) - 1
    stages.clear()
    with pytest.raises(Killed):
        attack(quiet=True, folder=tmp_path)
    kill_at = None
    assert_same_rows(attack(quiet=True, folder=tmp_path)["rows"], whole["rows"])
    assert len(stages) - (needed - 1) < needed, "fewer than from the beginning"
    stages.clear()
    assert_same_rows(attack(quiet=True, folder=str(tmp_path))["rows"], whole["rows"])
    nofrost_jax.autoattack(linear, IMAGES, LABELS, EPSILON, "apgd_t", batch_size=24, folder=tmp_path, quiet=True)
    assert not stages and capsys.readouterr().out == ""
    attack(lambda x: x.reshape(len(x), -1) @ (W + 0.001), quiet=True, folder=tmp_path)
    assert len(stages) >= 3
    stages.clear()
    masked = jax.custom_vjp(linear)
    masked.defvjp(lambda x: (linear(x), None), lambda _, given: (jnp.zeros((len(given), 4, 4, 3)),))
    assert "zero_gradient" in attack(masked, quiet=True, folder=tmp_path)["flags"]
    assert len(stages) >= 3
    stages.clear()
    attack(labels=(LABELS + 1) % K, quiet=True, folder=tmp_path)
    assert stages


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": IMAGES * 255}, r"images must be in \[0, 1\].*divide pixel values by 255"),
        ({"images": IMAGES.transpose(0, 3, 1, 2).astype(np.float16)}, "images must be float32 or float64"),
        ({"images": IMAGES[0]}, r"images\[None\]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "there are no images"),
        ({"labels": np.eye(K)[LABELS]}, "one-hot"),
        ({"labels": LABELS + 1}, "labels must be 0 to"),
        ({"epsilon": 8}, r"epsilon must be on the \[0, 1\] scale.*2040 pixel"),
        ({"protocol": "autoattack"}, "unknown attack 'autoattack'.*aa_standard"),
        ({"logits_fn": lambda x: linear(x)[:, :3]}, "needs 4 classes.*aa_few_classes"),
        ({"logits_fn": lambda x: (linear(x), 0)}, "one float array"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"batch_size": 16.0}, r"batch_size must be a whole number from 1.*got 16\.0"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    given = {"logits_fn": linear, "images": IMAGES, "labels": LABELS % 3, "protocol": "apgd_t", "quiet": True}
    with pytest.raises(ValueError, match=words):
        nofrost_jax.autoattack(**given | changes)
