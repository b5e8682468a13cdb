"""Evaluation sets end to end: fake trees through the real readers, against answers that are known beforehand."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import nofrost_jax
from nofrost_jax import checkpoint, corruptions
from nofrost_jax.data import preprocess
from nofrost_jax.data.choice import Choice
from nofrost_jax.shift import run as shift
from nofrost_jax.shift.scores import ALEXNET, SEVERITIES
from tests.data.helpers import count_listings, dataset_of
from tests.evaluation.suite import make_run
from tests.shift import trees

pytestmark = pytest.mark.usefixtures("compile_once")


def test_every_set(cli, imagenet, monkeypatch):
    monkeypatch.setattr(shift, "REFERENCE_SIDE", trees.SIDE)
    root, run, sets = imagenet
    with monkeypatch.context() as patch:
        listed = count_listings(patch)
        done = cli(*trees.SUITE, f"--workdir={run}", *trees.OWN_COUNTS)
    assert done.returncode == 0, done.stderr
    classes = [
        str(path) for pattern in ("ImageNet-C/*/*/*", "imagenet*/n*", "imagenet/val/*") for path in root.glob(pattern)
    ]
    assert len(classes) > 100 and {listed[path] for path in classes} == {1}
    assert done.stdout.count("compiling") == 1 and "skipped" not in done.stdout
    result, found = trees.read(run), trees.by_name(trees.read(run))
    assert list(found) == ["clean", *list(trees.COUNTS)[:4]] and result["missing"] == []
    for name, entry in found.items():
        correct = sets[name].correct
        assert (entry["accuracy"], entry["n"]) == (correct.mean(), len(correct)), name
        assert entry["ci95"][0] < entry["accuracy"] < entry["ci95"][1]
    assert found["imagenet_r"]["label_set"] == "imagenet_r, 200 of 1000 classes"
    assert found["imagenet_a"]["label_set"] == "imagenet_a, 200 of 1000 classes"
    assert found["imagenet_v2"]["label_set"] == "1000 classes"
    assert found["imagenet_sketch"]["flags"] == [] and found["imagenet_r"]["flags"] == ["classes_missing"]
    assert found["clean"]["flags"] == ["partial"] and found["clean"]["expected"] == 50_000
    assert result["clean"]["accuracy"] == 9 / 13 and result["dataset"]["n"] == 13 and result["attacks"] == []

    corrupted = result["corruptions"]
    cells = {(cell["corruption"], cell["severity"]): cell for cell in corrupted["cells"]}
    assert list(cells) == [(name, severity) for name in ALEXNET for severity in SEVERITIES]
    assert all(cells[cell]["accuracy"] == 1 - trees.wrong_in(*cell) / 4 and cells[cell]["n"] == 4 for cell in cells)
    ratios = [sum(trees.wrong_in(name, s) / 4 for s in SEVERITIES) / 5 / ALEXNET[name] for name in ALEXNET]
    assert corrupted["mce"] == pytest.approx(sum(ratios) / 15) and list(corrupted["ratios"]) == list(ALEXNET)
    assert corrupted["mean_accuracy"] == pytest.approx(1 - sum(trees.wrong_in(*cell) for cell in cells) / 300)
    assert corrupted["name"] == "imagenet_c" and corrupted["imagenet_c_crop"] == "standard"
    assert corrupted["flags"] == [] and corrupted["notes"] == [] and corrupted["side"] == trees.SIDE

    with np.load(run / "evaluations/shift.npz") as columns:
        np.testing.assert_array_equal(columns["clean_correct"], sets["clean"].correct)
        np.testing.assert_array_equal(columns["imagenet_r.correct"], sets["imagenet_r"].correct)
        np.testing.assert_array_equal(columns["imagenet_r.label"], sets["imagenet_r"].labels)
        np.testing.assert_array_equal(columns["fog.3.correct"], sets["fog", 3].correct)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["imagenet_r", f"{18 / 30:.2%}"] in [line[:2] for line in lines]
    assert ["imagenet_c,", "mCE", f"{corrupted['mce']:.2%}"] in [line[:3] for line in lines]
    fog = [f"{100 * (1 - trees.wrong_in('fog', severity) / 4):.1f}" for severity in SEVERITIES]
    assert ["fog", *fog] in [line[:6] for line in lines]


def test_the_mask_changes_answers_and_1000way_leaves_it_out(cli, imagenet):
    _, run, sets = imagenet
    asked = "--config.sets=imagenet_r,imagenet_r_1000way,imagenet_a_1000way"
    assert cli(*trees.SUITE, f"--workdir={run}", asked, "--config.evaluation.name=way").returncode == 0
    found = trees.by_name(trees.read(run, "way"))
    for name in ("imagenet_r", "imagenet_a"):
        images, labels, correct = sets[name]
        free = (trees.logits(run, images).argmax(1) == labels).mean()
        assert found[f"{name}_1000way"]["accuracy"] == free < correct.mean()
        assert found[f"{name}_1000way"]["label_set"] == "1000 classes"
    assert found["imagenet_r"]["accuracy"] == sets["imagenet_r"].correct.mean()


def test_crop_switch(cli, copy, imagenet):
    """The authors enlarge the images before they cut the middle out; the set's own evaluation leaves them alone."""
    _, run = copy
    geometry = preprocess.Geometry(8, 12)
    asked = [*trees.SUITE, f"--workdir={run}", "--config.sets=imagenet_c", "--config.corruption_names=fog"]
    trees.change_config(run, eval_resize=12)
    found = {}
    for crop in ("standard", "nofrost"):
        assert cli(*asked, f"--config.imagenet_c_crop={crop}", f"--config.evaluation.name={crop}").returncode == 0
        with np.load(run / f"evaluations/{crop}.npz") as columns:
            found[crop] = np.concatenate([columns[f"fog.{severity}.correct"] for severity in SEVERITIES])
        assert (
            trees.read(run, crop)["corruptions"]["crop"]
            == {"standard": "centre 8", "nofrost": "resize 12, centre 8"}[crop]
        )
    sets = [imagenet[2]["fog", severity] for severity in SEVERITIES]
    images = np.concatenate([one.images for one in sets])
    labels = np.concatenate([one.labels for one in sets])
    enlarged = np.stack([preprocess.eval_image(image, geometry) for image in images])
    for crop, seen in (("standard", images), ("nofrost", enlarged)):
        np.testing.assert_array_equal(found[crop], trees.logits(run, seen).argmax(1) == labels)
    assert (found["standard"] != found["nofrost"]).any()


def test_a_run_on_digits_gets_its_own_images_corrupted(cli, digits, monkeypatch):
    make, used = corruptions._on_devices, set()

    def noted(*arguments):
        used.add(len(arguments[-1].local))
        return make(*arguments)

    monkeypatch.setattr(corruptions, "_on_devices", noted)
    asked = [*trees.SUITE, f"--workdir={digits}", "--config.severities=(2, 5)", "--config.evaluation.limit=70"]
    done = cli(*asked, "--config.corruption_names=contrast,impulse_noise,gaussian_noise")
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stderr
    assert used == {jax.local_device_count()} != {1}
    result = trees.read(digits)
    assert result["missing"] == [] and list(trees.by_name(result)) == ["clean"]
    corrupted = result["corruptions"]
    assert corrupted["name"] == "digits_c_otf" and "digits_c_otf" in done.stdout and "mCE" not in done.stdout
    assert (corrupted["mce"], corrupted["ratios"], corrupted["reference"]) == (None, {}, None)
    assert corrupted["made"]["jpeg_quality"] is None and corrupted["source"] == "digits"
    constants = [(one["name"], one["severity"], one["side"]) for one in corrupted["made"]["constants"]]
    assert constants == [(cell["corruption"], cell["severity"], 8) for cell in corrupted["cells"]]

    config = ConfigDict(checkpoint.read_config(digits))
    (batch,) = dataset_of(config, Choice(70)).eval_batches(70)
    predict = jax.jit(nofrost_jax.load(digits).predict)
    with np.load(digits / "evaluations/shift.npz") as columns:
        np.testing.assert_array_equal(columns["clean_correct"], np.asarray(predict(batch["image"])) == batch["label"])
        shares = {}
        for name in ("gaussian_noise", "contrast", "impulse_noise"):
            for severity in (2, 5):
                images = corruptions.corrupt(
                    batch["image"], name, severity, batch["index"], config.seed, jpeg_quality=0
                )
                correct = np.asarray(predict(images)) == batch["label"]
                np.testing.assert_array_equal(columns[f"{name}.{severity}.correct"], correct)
                shares[name, severity] = correct.mean()
    assert len(set(shares.values())) > 2
    assert corrupted["mean_accuracy"] == pytest.approx(np.mean(list(shares.values())))
    assert corrupted["flags"] == ["partial"]

    # Another JPEG quality is another set of images, and the first one's outcomes are still there.
    saved = set((digits / "evaluations/outcomes").rglob("*.npz"))
    other = ["--config.jpeg_quality=20", "--config.corruption_names=contrast", "--config.evaluation.name=jpeg"]
    assert cli(*asked, *other).returncode == 0
    assert len(set((digits / "evaluations/outcomes").rglob("*.npz")) - saved) == 2 * 3  # cells, chunks
    assert trees.read(digits, "jpeg")["corruptions"]["made"]["jpeg_quality"] == 20


def test_a_folder_of_ones_own(cli, tmp_path):
    """Classes by the names of the run's own folders, although some are not there; the net answers among the others."""
    names = ["ant", "bee", "cat", "dog"]
    run = make_run(
        tmp_path / "run",
        "nofrost",
        model__num_classes=4,
        data__source=f"folder:{tmp_path}/own",
        evaluation__batch_size=8,
    )
    for split in ("train", "val"):
        trees.write(tmp_path / "own" / split, trees.pictures(1, 8), np.arange(8) % 4, 0, names)
    own = trees.make_set(run, tmp_path / "sketches", 2, 12, wrong=5, allowed=[1, 3], names=names)
    done = cli(*trees.SUITE, f"--workdir={run}", f"--config.sets=folder:{tmp_path}/sketches")
    assert done.returncode == 0, done.stderr
    found = trees.by_name(trees.read(run))
    assert found["clean"]["n"] == 8 and trees.read(run)["corruptions"] is None
    assert found["sketches"]["accuracy"] == own.correct.mean()
    assert found["sketches"]["label_set"] == "present, 2 of 4 classes" and found["sketches"]["flags"] == []
    with np.load(run / "evaluations/shift.npz") as columns:
        np.testing.assert_array_equal(columns["sketches.label"], own.labels)
    (tmp_path / "own").rename(tmp_path / "away")  # then nothing says that bee and dog are the classes 1 and 3
    refused = cli(*trees.SUITE, f"--workdir={run}", f"--config.sets=folder:{tmp_path}/sketches")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "sketches: only 2 of 4 classes exist, and the labels of their names (bee, ...)" in refused.stderr
    (tmp_path / "away").rename(tmp_path / "own")
    (tmp_path / "sketches/bee").rename(tmp_path / "sketches/wasp")
    refused = cli(*trees.SUITE, f"--workdir={run}", f"--config.sets=folder:{tmp_path}/sketches")
    assert refused.returncode == 2 and "wasp is not one of the 4 classes" in refused.stderr
