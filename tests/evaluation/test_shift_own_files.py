"""Files of corruptions made by `nofrost_jax.data.corruptions`, in the place of ImageNet-C's."""

import json

import pytest

from tests.evaluation import shift_trees as trees

pytestmark = pytest.mark.usefixtures("compile_once")


def test_files_made_here_are_not_called_imagenet_c(cli, copy):
    root, run = copy
    settings = {"seed": 0, "side": 8, "resize": 0, "images": 4, "source_sha256": "x", "textures": "procedural"}
    (root / "ImageNet-C/corruptions.json").write_text(json.dumps(settings))
    asked = [*trees.SUITE, f"--workdir={run}", "--config.sets=imagenet_c", "--config.corruption_names=fog"]
    for crop, name in (("standard", "imagenet_c_otf"), ("nofrost", "imagenet_c_otf_nofrost_crop")):
        done = cli(*asked, f"--config.imagenet_c_crop={crop}")
        assert done.returncode == 0, done.stderr
        assert "note: ImageNet-C has files made by nofrost_jax, not the published ones" in done.stdout
        corrupted = trees.read(run)["corruptions"]
        assert corrupted["name"] == name and f"{name}, accuracy in %" in done.stdout
        assert corrupted["made"] == {"how": "files made by nofrost_jax", "settings": settings}
    (root / "ImageNet-C/corruptions.json").write_text("{")
    refused = cli(*asked)
    assert refused.returncode == 2 and "cannot read how the corruptions were made" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
