"""The training images are the same when a run goes on, or it is said."""

import json
import shutil

import pytest

from nofrost_jax import metrics
from nofrost_jax.config import resolve
from nofrost_jax.errors import UserError
from nofrost_jax.workdir import check_checkpoint
from tests.conftest import tiny_args, tiny_config
from tests.data.helpers import count_listings, dataset_of, encoded, picture, write
from tests.resume.helpers import contents

FIELDS = {
    "data__image_size": 8,
    "data__eval_resize": 0,
    "data__holdout": 0,
    "model__num_classes": 2,
    "batch_size": 16,
    "epochs": 1,
    "evaluation__every_epochs": 0,
    "evaluation__batch_size": 8,
}


@pytest.fixture
def tree(tmp_path):
    for split, count in (("train", 33), ("val", 4)):
        for i in range(count):
            write(tmp_path / f"own/{split}/{'ab'[i % 2]}/{i:02d}.png", encoded(picture(i, 8, 8), "PNG"))
    return tmp_path / "own"


def of(tree, **fields):
    return dataset_of(resolve(tiny_config(**FIELDS | {"data__source": f"folder:{tree}"} | fields))).training_fingerprint


def test_a_run_does_not_go_on_with_other_images(cli, tree, tmp_path, compile_once, monkeypatch):
    asked = tiny_args(tmp_path / "run", data__source=f"folder:{tree}", **FIELDS)
    with monkeypatch.context() as patch:
        listed = count_listings(patch)
        assert cli(*asked).returncode == 0
    folders = [f"{tree}{name}" for name in ("", "/train", "/train/a", "/train/b", "/val", "/val/a", "/val/b")]
    assert [listed[folder] for folder in folders] == [1] * 7
    write(tree / "train/a/more.png", encoded(picture(99, 8, 8), "PNG"))
    refused = cli(*asked)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    for words in ("checkpoint of step 2", "another training set (training images: 33 -> 34)", "--force"):
        assert words in refused.stderr
    forced = cli(*asked, "--force")
    assert forced.returncode == 0, forced.stderr
    assert "which is of another training set: training images: 33 -> 34" in forced.stdout
    meta = json.loads((tmp_path / "run/checkpoints/2/meta/metadata").read_text())
    assert meta["forced"] == ["from step 2: training images: 33 -> 34"] and meta["training_set"]["images"] == 34
    assert cli(*asked).returncode == 0  # these are its images now


def test_a_run_goes_on_where_its_images_were_moved(cli, tree, tmp_path, compile_once):
    """What is in the folders counts, in training and for a result's name."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    assert cli(*tiny_args(run, data__source=f"folder:{tree}", **FIELDS)).returncode == 0
    tree.rename(moved)
    asked = tiny_args(run, data__source="folder:moved", data__data_dir=str(tmp_path), **FIELDS)
    outcome = cli(*asked)
    assert outcome.returncode == 0 and "written by an earlier run" in outcome.stdout, outcome
    assert f"data.source: 'folder:{tree}' -> 'folder:moved'" in outcome.stdout
    assert json.loads((run / "config.json").read_text())["data"]["source"] == "folder:moved"
    assert cli(f"--workdir={run}", "--mode=evaluate").returncode == 0

    write(moved / "val/a/more.png", encoded(picture(98, 8, 8), "PNG"))
    refused = cli(f"--workdir={run}", "--mode=evaluate")
    assert refused.returncode == 2 and "final.json is of something else (data.contents)" in refused.stderr
    write(moved / "train/a/more.png", encoded(picture(99, 8, 8), "PNG"))
    refused = cli(*asked, "--config.log.every_steps=2")
    assert refused.returncode == 2 and "another training set (training images: 33 -> 34)" in refused.stderr
    assert "goes on" not in refused.stdout  # it does not


@pytest.mark.slow
def test_an_image_that_vanishes_in_an_epoch_is_named_and_the_run_goes_on_when_it_is_back(
    cli, tree, tmp_path, compile_once, monkeypatch
):
    fields = FIELDS | {"data__source": f"folder:{tree}", "epochs": 6, "checkpoint__every_steps": 1}
    assert cli(*tiny_args(tmp_path / "undisturbed", **fields)).returncode == 0
    path, asked, write_line = tree / "train/a/04.png", tiny_args(tmp_path / "run", **fields), metrics.Writer.write
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(metrics.Writer, "write", lambda *args: (path.unlink(missing_ok=True), write_line(*args)))
        outcome = cli(*asked)
    assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
    assert f"error: No such file or directory; {path}; replace this image" in outcome.stderr
    path.write_bytes(content)
    again = cli(*asked)
    assert again.returncode == 0 and "resuming from the checkpoint" in again.stdout
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("change", ["size", "name", "class", "one more"])
def test_a_changed_file_is_noticed_and_another_place_is_not(tree, tmp_path, change):
    before = of(tree)
    assert before == of("own", data__data_dir=str(tmp_path)) and before["images"] == 33
    path = tree / "train/a/00.png"
    if change == "size":
        path.write_bytes(path.read_bytes() + b"\0")
    elif change == "name":
        path.rename(path.with_name("0.png"))
    elif change == "class":
        path.rename(tree / "train/b/00.png")
    else:
        write(tree / "train/a/more.png", encoded(picture(99, 8, 8), "PNG"))
    after = of(tree)
    assert after["contents"] != before["contents"]
    config = resolve(tiny_config())
    with pytest.raises(UserError, match="34" if change == "one more" else "33 as before, but other names, labels or"):
        check_checkpoint({"step": 3, "config": {}, "training_set": before}, config, "run", after)


def test_deepaugments_files_are_training_images(tree, tmp_path):
    shutil.copytree(tree / "train", tmp_path / "edsr")
    fields = {
        "data__views": ("clean", "deepaugment"),
        "deepaugment__mode": "files",
        "deepaugment__folders": (f"{tmp_path}/edsr",),
        "deepaugment__sources": ("edsr",),
    }
    before = of(tree, **fields)
    (tmp_path / "edsr/a/00.png").write_bytes(b"other")
    after = of(tree, **fields)
    assert {name for name in before if before[name] != after[name]} == {"deepaugment"}


def test_what_the_config_says_all_about_has_no_fingerprint():
    for source in ("digits", "fake"):
        assert dataset_of(resolve(tiny_config(data__source=source))).training_fingerprint == {}


def test_held_out_images_are_of_the_same_files(tree):
    all_of_them, others = of(tree), of(tree, data__holdout=4)
    assert (all_of_them["images"], others["images"]) == (33, 29) and all_of_them["contents"] == others["contents"]
