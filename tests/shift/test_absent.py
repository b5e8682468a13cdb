"""Evaluation sets that are absent, in part, damaged, of other classes, or asked for wrongly."""

import shutil

import numpy as np
import pytest

from nofrost_jax.shift.scores import ALEXNET
from tests.shift import trees

pytestmark = pytest.mark.usefixtures("compile_once")


def test_what_is_absent_is_skipped_and_listed_but_not_what_was_asked_for(cli, copy):
    root, run = copy
    for gone in ("sketch", "ImageNet-C", "imagenetv2-matched-frequency-format-val"):
        shutil.rmtree(root / gone)
    for named in ("imagenet_r,imagenet_sketch", "imagenet_v2_top", "imagenet_c", f"folder:{root}/nowhere"):
        refused = cli(*trees.SUITE, f"--workdir={run}", f"--config.sets={named}")
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused
        assert "is not there" in refused.stderr and str(root) in refused.stderr
        assert not (run / "evaluations").exists()
    told = cli("--mode=dry_run", *trees.SUITE[1:], f"--workdir={run}")
    assert told.returncode == 3 and told.stdout.count("missing: ") == 3
    assert f"there: imagenet_r: 30 of 30,000 images, {root}/imagenet-r" in told.stdout.splitlines()
    done = cli(*trees.SUITE, f"--workdir={run}")
    result = trees.read(run)
    assert done.returncode == 0 and result["corruptions"] is None
    assert list(trees.by_name(result)) == ["clean", "imagenet_r", "imagenet_a"]
    assert [one["name"] for one in result["missing"]] == ["imagenet_sketch", "imagenet_v2", "imagenet_c"]
    for one in result["missing"]:
        assert one["where"].count(str(root)) >= 1 and "http" in one["get"] and one["what"]
        line = f"{one['name']} is not there: {one['what']}; expected {one['where']}; {one['get']}"
        assert f"skipped: {line}" in done.stdout.splitlines()
        assert f"missing: {line}" in told.stdout.splitlines()
    assert "nofrost_jax.tools.prepare imagenet_sketch" in result["missing"][0]["get"]


def test_a_dry_run_without_a_run_is_for_imagenet(cli, copy, tmp_path):
    """Files of 8 pixels are no ImageNet-C for it; of what is not there at all it says where it goes and comes from."""
    root, _ = copy
    asked = ["--mode=dry_run", "--config=configs/eval/shift.py"]
    shutil.rmtree(root / "sketch")
    told = cli(*asked, f"--config.data.data_dir={root}")
    assert told.returncode == 3 and told.stderr == "", told
    lines = told.stdout.splitlines()
    assert lines[0] == f"note: without --workdir this is for a run on ImageNet at 224 pixels; looked in {root}"
    assert f"there: clean: 13 of 50,000 images, {root}/imagenet" in lines
    assert f"there: imagenet_r: 30 of 30,000 images, {root}/imagenet-r" in lines
    missing = [line for line in lines if line.startswith("missing: ")]
    assert len(missing) == 2 and f"expected folders {root}/sketch/CLASS or tfds:imagenet_sketch" in missing[0]
    assert "imagenet_c: the files have 8 pixels a side, and the net takes 224" in missing[1]
    cells = cli(*asked, f"--config.data.data_dir={root}", "--config.imagenet_c_crop=nofrost").stdout
    assert f"there: imagenet_c: 75 cells of 4 of 50,000 images, {root}/ImageNet-C" in cells.splitlines()

    told = cli(*asked, f"--config.data.data_dir={tmp_path}/none", "--config.sets=imagenet_a,imagenet_c")
    missing = [line for line in told.stdout.splitlines() if line.startswith("missing: ")]
    assert told.returncode == 3 and "\nthere: " not in told.stdout and len(missing) == 3
    assert f"prepare imagenet2012 --manual_dir=TARS --data_dir={tmp_path}/none" in missing[0]
    assert "imagenet-a.tar" in missing[1] and f"{tmp_path}/none/imagenet-a/CLASS" in missing[1]
    assert "zenodo.org" in missing[2] and f"{tmp_path}/none/ImageNet-C/CORRUPTION/SEVERITY/CLASS" in missing[2]
    assert "the current folder" in cli(*asked).stdout


def test_some_cells_and_no_images_of_its_own(cli, copy):
    """Half of ImageNet-C, and no validation images: what is there is evaluated, and nothing else is claimed."""
    root, run = copy
    shutil.rmtree(root / "imagenet")
    for corruption in list(ALEXNET)[2:]:
        shutil.rmtree(root / "ImageNet-C" / corruption)
    shutil.rmtree(root / "ImageNet-C" / "shot_noise" / "5")
    done = cli(*trees.SUITE, f"--workdir={run}", *trees.OWN_COUNTS, "--config.imagenet_c_crop=nofrost")
    assert done.returncode == 0, done.stderr
    result = trees.read(run)
    assert result["clean"] is None and result["worst_case"] is None and result["dataset"]["n"] == 0
    assert [one["name"] for one in result["missing"]] == ["clean", "imagenet_c"]
    assert "66 of 75 cells (shot_noise/5, impulse_noise/1" in result["missing"][1]["what"]
    corrupted = result["corruptions"]
    assert corrupted["name"] == "imagenet_c_nofrost_crop" and corrupted["flags"] == ["partial"]
    assert len(corrupted["cells"]) == 9 and corrupted["mce"] is None and list(corrupted["errors"]) == ["gaussian_noise"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sets=imagenet_x"], "did you mean imagenet_r"),
        (["sets=ftp:x"], "'ftp:x' is not an evaluation set"),
        (["sets=folder:imagenet-r,folder:other/imagenet-r"], "two sets called imagenet_r"),
        (["corruptions=sometimes"], "choose one of files, on_the_fly, none"),
        (["corruption_names=fogg"], "did you mean fog"),
        (
            ["corruption_names=fog,saturate"],
            "config.corruption_names='saturate' is unknown; choose one of gaussian_noise, s",
        ),
        (["severities=(0,)"], "some of 1, 2, 3, 4, 5"),
        (["imagenet_c_crop=large"], "choose one of standard, nofrost"),
        (["imagenet_c_crop=nofrost", "corruptions=on_the_fly"], "for the published files"),
        (["jpeg_quality=101"], "between 1 and 100"),
        (["corruptions=on_the_fly", "frost_textures=/nowhere"], "/nowhere"),
        (["shift.imagenet_r.label_set=imagenet_q"], "did you mean imagenet_"),
        (["shift.imagenet_r.what="], "must have the fields"),
        (["evaluation.batch_size=0"], "out of range"),
    ],
)
def test_refuses_in_one_line(cli, imagenet, arguments, words):
    refused = cli(*trees.SUITE, f"--workdir={imagenet[1]}", *(f"--config.{argument}" for argument in arguments))
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and words in refused.stderr, refused


def test_a_folder_in_which_nothing_was_unpacked_counts_as_absent(cli, copy):
    root, run = copy
    for emptied in (root / "sketch", root / "ImageNet-C/fog/3"):
        shutil.rmtree(emptied)
        emptied.mkdir()
    asked = [*trees.SUITE, f"--workdir={run}", "--config.corruption_names=fog"]
    done = cli(*asked)
    assert done.returncode == 0, done.stderr
    missing = {one["name"]: one for one in trees.read(run)["missing"]}
    assert (
        list(missing) == ["imagenet_sketch", "imagenet_c"] and "1 of 5 cells (fog/3)" in missing["imagenet_c"]["what"]
    )
    assert f"folders {root}/sketch/CLASS, which has no folders in it" in missing["imagenet_sketch"]["where"]
    assert "has no folders" not in missing["imagenet_c"]["where"] and "skipped: imagenet_sketch" in done.stdout
    refused = cli(*asked, "--config.sets=imagenet_sketch", "--config.evaluation.name=sketch")
    assert refused.returncode == 2 and "has no folders in it" in refused.stderr


def test_an_error_names_its_set_and_the_layout(cli, copy):
    root, run = copy
    (root / "sketch/n01440764").mkdir(exist_ok=True)
    for picture in (root / "sketch/n01440764").iterdir():
        picture.unlink()
    told = "imagenet_sketch: class folder without images"
    refused = cli(*trees.SUITE, f"--workdir={run}")
    assert refused.returncode == 2 and refused.stderr.startswith(f"error: {told}"), refused.stderr
    assert f"missing: {told}" in cli("--mode=dry_run", *trees.SUITE[1:], f"--workdir={run}").stdout
    shutil.rmtree(root / "imagenet/val")
    (root / "imagenet/train/n01440764").mkdir(parents=True)
    refused = cli(*trees.SUITE, f"--workdir={run}")
    assert refused.returncode == 2 and refused.stderr.startswith("error: clean: no folder "), refused.stderr
    told = cli("--mode=dry_run", *trees.SUITE[1:], f"--workdir={run}")
    assert told.returncode == 3 and "missing: clean: no folder " in told.stdout and not told.stderr, told
    assert "there: imagenet_r: " in told.stdout


def test_a_folder_with_splits_is_told_which_one_to_give(cli, copy):
    root, run = copy
    for split in ("train", "val"):
        trees.write(root / "mine" / split, trees.pictures(1, 4), np.arange(4), 0)
    refused = cli(*trees.SUITE, f"--workdir={run}", "--config.sets=folder:mine")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert refused.stderr.startswith("error: mine: val/ and train/ with class folders in them"), refused.stderr
    assert refused.stderr.strip().endswith("give one split, folder:mine/val")
    assert cli(*trees.SUITE, f"--workdir={run}", "--config.sets=folder:mine/val").returncode == 0


def test_a_set_that_tfds_does_not_know_is_not_to_be_prepared(cli, copy):
    pytest.importorskip("tensorflow_datasets")
    for name, words in (("nosuch", "no data set nosuch"), ("imagenet_v2/matched", "did you mean imagenet_v2/matched-")):
        refused = cli(*trees.SUITE, f"--workdir={copy[1]}", f"--config.sets=tfds:{name}")
        assert refused.returncode == 2 and words in refused.stderr and "prepare" not in refused.stderr, refused.stderr
    refused = cli(*trees.SUITE, f"--workdir={copy[1]}", "--config.sets=tfds:imagenet_v2/topimages")
    assert refused.returncode == 2 and "nofrost_jax.tools.prepare imagenet_v2/topimages" in refused.stderr


def test_refuses_images_of_other_classes(cli, copy):
    root, run = copy
    trees.make_set(run, root / "imagenet-r", 9, 1, wrong=0, allowed=[0])
    refused = cli(*trees.SUITE, f"--workdir={run}")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "imagenet_r has label 0, which is none of the 200 classes" in refused.stderr


def test_a_damaged_image_is_an_error_and_not_missing(cli, copy):
    root, run = copy
    picture = next((root / "imagenet-a").glob("*/*.png"))
    picture.write_bytes(picture.read_bytes()[:60])
    refused = cli(*trees.SUITE, f"--workdir={run}")
    assert refused.returncode == 2 and str(picture) in refused.stderr
    assert str(picture) in cli("--mode=dry_run", *trees.SUITE[1:], f"--workdir={run}").stdout


@pytest.mark.parametrize("named", ["imagenet_r", "imagenet_c"])
def test_imagenets_sets_are_not_for_digits(cli, digits, named):
    refused = cli(*trees.SUITE, f"--workdir={digits}", f"--config.sets={named}", "--config.evaluation.name=none")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and "the net has 10" in refused.stderr


def test_a_list_of_the_runs_own_images_chooses_none_of_another_set(cli, copy):
    root, run = copy
    (first, *_) = sorted((root / "imagenet/val").rglob("*.png"))
    (root / "list.txt").write_text(f"val/{first.parent.name}/{first.name}\n")
    ids = f"--config.evaluation.ids={root}/list.txt"
    told = cli("--mode=dry_run", *trees.SUITE[1:], f"--workdir={run}", ids, "--config.sets=imagenet_r,imagenet_sketch")
    assert told.returncode == 0, told
    assert "imagenet_r: 30 of 30,000 images" in told.stdout and "imagenet_sketch: 9 of" in told.stdout
