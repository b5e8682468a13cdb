"""Files of corruptions made by `nofrost_jax.tools.corrupt`, in the place of ImageNet-C's."""

import json

import pytest

from nofrost_jax.tools.corrupt import __main__ as command
from tests.shift import trees

pytestmark = pytest.mark.usefixtures("compile_once")


def test_files_made_here_are_not_called_imagenet_c(cli, copy):
    root, run = copy
    settings = {"seed": 0, "side": 8, "resize": 0, "images": 4, "source": "folder:images val", "textures": "procedural"}
    (root / "ImageNet-C/corruptions.json").write_text(json.dumps(settings))
    asked = [*trees.SUITE, f"--workdir={run}", "--config.sets=imagenet_c", "--config.corruption_names=fog"]
    for crop, name in (("standard", "imagenet_c_otf"), ("nofrost", "imagenet_c_otf_nofrost_crop")):
        done = cli(*asked, f"--config.imagenet_c_crop={crop}", f"--config.evaluation.name={crop}")
        assert done.returncode == 0, done.stderr
        assert "note: ImageNet-C has files made by nofrost_jax, not the published ones" in done.stdout
        corrupted = trees.read(run, crop)["corruptions"]
        assert corrupted["name"] == name and f"{name}, accuracy in %" in done.stdout
        assert corrupted["made"] == {"how": "files made by nofrost_jax", "settings": settings}
    for text in ("{", '{"side": 8}'):
        (root / "ImageNet-C/corruptions.json").write_text(text)
        refused = cli(*asked)
        assert refused.returncode == 2 and "cannot read how the corruptions were made" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def cells(run, name):
    found = trees.read(run, name)["corruptions"]["cells"]
    return {(one["corruption"], one["severity"]): one["accuracy"] for one in found}


@pytest.mark.parametrize("quality", [0, 60])
def test_files_of_digits_give_the_accuracy_of_corruptions_on_the_fly(cli, digits, tmp_path, quality):
    """Also as JPEG, which is read as it was written. There are other folders than of the run's own classes' names."""
    chosen = ["--names=contrast,impulse_noise,gaussian_noise", "--severities=2,5", f"--jpeg_quality={quality}"]
    command.main([f"--output={tmp_path}/files", "--source=digits", *chosen])
    asked = [*trees.SUITE, f"--workdir={digits}", "--config.severities=(2, 5)", f"--config.jpeg_quality={quality}"]
    asked.append("--config.corruption_names=contrast,impulse_noise,gaussian_noise")
    made, filed = f"otf_{quality}", f"files_{quality}"
    assert cli(*asked, f"--config.evaluation.name={made}").returncode == 0
    on_the_fly, flags = cells(digits, made), trees.read(digits, made)["corruptions"]["flags"]
    asked.append(f"--config.evaluation.name={filed}")
    done = cli(*asked, "--config.sets=imagenet_c", f"--config.shift.imagenet_c.folder={tmp_path}/files")
    assert done.returncode == 0, done.stderr
    corrupted = trees.read(digits, filed)["corruptions"]
    assert cells(digits, filed) == on_the_fly and len(set(on_the_fly.values())) == 6
    assert corrupted["name"] == "digits_c_otf" and corrupted["mce"] is None and corrupted["expected"] == 360
    assert corrupted["flags"] == flags == ["partial"]  # six cells of 75
    assert corrupted["made"]["settings"]["jpeg_quality"] == quality
    (tmp_path / "files/contrast/5").rename(tmp_path / "away")
    lacking = cli(*asked, "--config.sets=imagenet_c", f"--config.shift.imagenet_c.folder={tmp_path}/files")
    assert lacking.returncode == 2 and "1 of 6 cells (contrast/5) of corruptions of digits validation" in lacking.stderr


def test_files_that_were_not_made_here_are_imagenets(cli, digits, tmp_path):
    command.main([f"--output={tmp_path}/files", "--names=fog", "--severities=1"])
    (tmp_path / "files/corruptions.json").unlink()
    asked = [*trees.SUITE, f"--workdir={digits}", "--config.sets=imagenet_c", "--config.corruption_names=fog"]
    asked += ["--config.severities=(1,)", "--config.evaluation.name=none"]
    refused = cli(*asked, f"--config.shift.imagenet_c.folder={tmp_path}/files")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and "the net has 10" in refused.stderr
