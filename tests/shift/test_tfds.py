"""ImageNet-R, -A, V2 and -Sketch through tfds's real builders, prepared from fake trees by our own command."""

import json
import shutil
import zipfile
from unittest import mock

import numpy as np
import pytest

from configs.eval import shift
from nofrost_jax.config import for_sets
from nofrost_jax.data import catalog, tfds_source
from nofrost_jax.errors import UserError
from nofrost_jax.shift import sets as evaluation_sets
from nofrost_jax.shift.label_sets import IMAGENET_A, IMAGENET_R
from nofrost_jax.tools import prepare
from tests.shift import trees

pytest.importorskip("tensorflow_datasets")
SETS = {  # name: (builder, folder, allowed, images, of which wrong)
    "imagenet_r": ("imagenet_r", "imagenet-r", IMAGENET_R, 14, 5),
    "imagenet_a": ("imagenet_a", "imagenet-a", IMAGENET_A, 9, 6),
    "imagenet_v2": ("imagenet_v2/matched-frequency", "imagenetv2-matched-frequency-format-val", range(1000), 10, 3),
    "imagenet_sketch": ("imagenet_sketch", "sketch", range(1000), 12, 7),
}


def prepare_from(tree, builder, target):
    """Prepares a builder whose download is replaced by the tree: a folder, or a zip of it for those that want one."""
    tfds = tfds_source.import_tfds()
    manager = tfds.download.DownloadManager

    def zipped(*_):
        path = tree / "sketch.zip"
        with zipfile.ZipFile(path, "w") as file:
            for picture in sorted((tree / "sketch").rglob("*.JPEG")):
                file.write(picture, picture.relative_to(tree))
        return tfds.core.Path(path)

    with (
        mock.patch.object(manager, "download_and_extract", lambda *_: str(tree)),
        mock.patch.object(manager, "download", zipped),
    ):
        prepare.prepare(builder, str(target))


def check_present_classes(run, labels):
    """label_set=present reads the labels of ArrayRecord files, and refuses what can only be read in sequence."""
    config = shift.get_config()
    config.sets, config.shift.imagenet_v2.label_set = "imagenet_v2", "present"
    own, suite, _ = for_sets(str(run), config)
    ((one,), _) = evaluation_sets.find(suite, own)
    assert np.flatnonzero(one.predictions[0].allowed).tolist() == sorted(set(labels.tolist()))
    words = "^imagenet_v2: .* read in sequence, .*; config.shift.imagenet_v2.label_set=present; .* or set it to all$"
    with mock.patch.object(catalog, "Sequential", object), pytest.raises(UserError, match=words):
        evaluation_sets.find(suite, own)


@pytest.mark.usefixtures("compile_once")
def test_tfds_and_folders_give_the_same_results(cli, tmp_path):
    tree, target = tmp_path / "tree", tmp_path / "data"
    target.mkdir()
    run = trees.make_imagenet_run(tmp_path / "run", target)
    numbers, sets = [str(label) for label in range(1000)], {}
    for position, (name, (builder, folder, allowed, count, wrong)) in enumerate(SETS.items()):
        names = numbers if name == "imagenet_v2" else None
        sets[name] = trees.make_set(run, tree / folder, position, count, wrong, allowed, names)
        if name == "imagenet_sketch":
            for picture in list((tree / folder).rglob("*.png")):
                picture.rename(picture.with_suffix(".JPEG"))
        prepare_from(tree, builder, target)
    arguments = ["--mode=evaluate", "--config=configs/eval/shift.py", f"--workdir={run}"]
    done = cli(*arguments, f"--config.sets={','.join(SETS)},tfds:imagenet_a")
    assert done.returncode == 2 and "two sets called imagenet_a" in done.stderr
    check_present_classes(run, sets["imagenet_v2"].labels)

    found = {}
    for source in ("tfds", "folder"):
        assert (done := cli(*arguments)).returncode == 0, done.stderr
        result = json.loads((run / "evaluations/shift.json").read_text())
        found[source] = {entry["name"]: entry for entry in result["shift"]}
        assert list(found[source]) == ["imagenet_r", "imagenet_sketch", "imagenet_a", "imagenet_v2"]
        assert [one["name"] for one in result["missing"]] == ["clean", "imagenet_c"]
        for name, entry in found[source].items():
            builder, folder = SETS[name][:2]
            assert entry["source"] == (f"tfds:{builder}" if source == "tfds" else f"folder:{folder}")
            assert (entry["accuracy"], entry["n"]) == (sets[name].correct.mean(), SETS[name][3])
        for folder in tree.iterdir():  # they come first once they are there
            if folder.is_dir():
                shutil.move(folder, target / folder.name)
    same = ("accuracy", "n", "label_set", "classes_seen", "expected", "flags")
    assert all(found["tfds"][name][field] == found["folder"][name][field] for name in SETS for field in same)
    assert found["tfds"]["imagenet_r"]["label_set"] == "imagenet_r, 200 of 1000 classes"
