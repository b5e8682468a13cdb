"""Corrupted images of another size than the net takes, or than ImageNet-C has."""

import json
import shutil

import numpy as np
import pytest

from nofrost_jax.data import preprocess
from nofrost_jax.shift import run as shift
from nofrost_jax.shift.scores import ALEXNET, SEVERITIES
from tests.shift import trees

pytestmark = pytest.mark.usefixtures("compile_once")
ASKED = ("--config.sets=imagenet_c", "--config.corruption_names=fog")


def write_fog(root, side):
    """ImageNet-C's fog of four images each, all severities in one: (images, labels) in the order of the results."""
    shutil.rmtree(root / "ImageNet-C")
    found = []
    for severity in SEVERITIES:
        images = np.random.default_rng(severity).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
        found.append(trees.write(root / f"ImageNet-C/fog/{severity}", images, np.arange(4) * 100 + severity, 0))
    return tuple(np.concatenate([getattr(one, name) for one in found]) for name in ("images", "labels"))


def correct(run):
    with np.load(run / "evaluations/shift.npz") as columns:
        return np.concatenate([columns[f"fog.{severity}.correct"] for severity in SEVERITIES])


@pytest.mark.parametrize("crop", ["standard", "nofrost"])
def test_larger_files_are_cut_and_flagged_or_resized(cli, copy, monkeypatch, crop):
    root, run = copy
    monkeypatch.setattr(shift, "REFERENCE_SIDE", 12)
    trees.change_config(run, eval_resize=9)
    images, labels = write_fog(root, 12)
    done = cli(*trees.SUITE, f"--workdir={run}", *ASKED, f"--config.imagenet_c_crop={crop}")
    assert done.returncode == 0, done.stderr
    geometry = preprocess.Geometry(8, {"standard": 0, "nofrost": 9}[crop])
    seen = np.stack([preprocess.eval_image(image, geometry) for image in images])
    np.testing.assert_array_equal(correct(run), trees.logits(run, seen).argmax(1) == labels)
    corrupted = trees.read(run)["corruptions"]
    assert corrupted["side"] == 12 and corrupted["mce"] is None
    if crop == "nofrost":
        assert (corrupted["flags"], corrupted["notes"], list(corrupted["ratios"])) == (["partial"], [], ["fog"])
        assert "central" not in done.stdout and corrupted["reference"]
        return
    piece = "the net sees the central 8 of 12 pixels"
    assert (corrupted["flags"], corrupted["notes"]) == (["partial", "cropped"], [f"no mCE: {piece}"])
    assert (corrupted["reference"], corrupted["ratios"]) == (None, {})
    assert f"note: {piece} of each file of ImageNet-C; --config.imagenet_c_crop=nofrost" in done.stdout
    assert "cropped: of 12" in done.stdout and "cropped" in trees.read(run)["flags"]


def test_smaller_files_are_refused_before_the_work(cli, copy):
    root, run = copy
    write_fog(root, 6)
    trees.change_config(run, eval_resize=9)
    asked = [*trees.SUITE, f"--workdir={run}", *ASKED]
    refused = cli(*asked)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "imagenet_c: the files have 6 pixels a side, and the net takes 8" in refused.stderr
    assert "imagenet_c_crop=nofrost" in refused.stderr and not (run / "evaluations").exists()
    assert cli(*asked, "--config.imagenet_c_crop=nofrost").returncode == 0


@pytest.mark.parametrize("crop", ["standard", "nofrost"])
def test_files_made_here_for_another_net_are_refused(cli, copy, crop):
    root, run = copy
    write_fog(root, 12)
    (root / "ImageNet-C/corruptions.json").write_text(
        json.dumps({"side": 12, "images": 4, "source": "folder:imagenet val"})
    )
    refused = cli(*trees.SUITE, f"--workdir={run}", *ASKED, f"--config.imagenet_c_crop={crop}")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "12 pixels a side, and the net takes 8" in refused.stderr and "--side=8" in refused.stderr
    assert f"{root}/ImageNet-C/corruptions.json" in refused.stderr and not (run / "evaluations").exists()


@pytest.mark.parametrize("side", [8, 224])
def test_no_mce_of_corruptions_at_another_size(cli, copy, monkeypatch, side):
    """Of ImageNet's classes, on the fly; as though AlexNet's errors were of 8 pixels, and as they are."""
    monkeypatch.setattr(shift, "REFERENCE_SIDE", side)
    run = copy[1]
    done = cli(
        *trees.SUITE, f"--workdir={run}", "--config.corruptions=on_the_fly", "--config.corruption_names=contrast"
    )
    assert done.returncode == 0, done.stderr
    corrupted = trees.read(run)["corruptions"]
    assert corrupted["side"] == 8 and corrupted["name"] == "imagenet_c_otf"
    if side == 8:
        assert corrupted["ratios"] == {"contrast": corrupted["errors"]["contrast"] / ALEXNET["contrast"]}
        assert corrupted["notes"] == []
    else:
        assert (corrupted["reference"], corrupted["ratios"], corrupted["mce"]) == (None, {}, None)
        (note,) = corrupted["notes"]
        assert "files of 224 pixels a side, and these images have 8" in note and note in done.stdout
