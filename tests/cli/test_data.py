"""Missing or damaged data gets one clear line, exit code 2 and nothing on the disk; or is replaced, on request."""

import json

from tests.cli.helpers import DIGITS, assert_refused, tree
from tests.conftest import overrides, tiny_args


def refuse_folder(cli, tmp_path, root, *words, classes=2):
    fields = {
        "data.source": f"folder:{root}",
        "model.num_classes": classes,
        "batch_size": 8,
        "evaluation.only": "pgd_20",
    }
    assert_refused(cli(DIGITS, f"--workdir={tmp_path}/run", *overrides(fields)), *words)
    assert not (tmp_path / "run").exists()


def test_folder_missing(cli, tmp_path):
    refuse_folder(cli, tmp_path, tmp_path / "none", f"{tmp_path}/none", "No such file", "PATH/train/CLASS")


def test_folder_empty(cli, tmp_path):
    (tmp_path / "data").mkdir()
    refuse_folder(cli, tmp_path, tmp_path / "data", f"{tmp_path}/data", "train", "PATH/train/CLASS")


def test_folder_without_train(cli, tmp_path):
    refuse_folder(cli, tmp_path, tree(tmp_path / "data", splits=["val"]), f"{tmp_path}/data", "train/")


def test_folder_with_an_empty_class(cli, tmp_path):
    root = tree(tmp_path / "data")
    (root / "train/emu").mkdir()
    refuse_folder(cli, tmp_path, root, "train/emu", "without images", classes=3)


def test_folder_with_a_broken_image_names_it(cli, tmp_path):
    root = tree(tmp_path / "data")
    (root / "train/dog/3.png").write_bytes((root / "train/dog/3.png").read_bytes()[:60])
    refuse_folder(cli, tmp_path, root, "train/dog/3.png")
    (root / "train/dog/3.png").write_bytes(b"")
    refuse_folder(cli, tmp_path, root, "train/dog/3.png", "empty")


def test_broken_images_are_replaced_on_request_and_counted(cli, tmp_path):
    """One of the 32 images of every epoch; stderr names the file, the metrics have the share."""
    root = tree(tmp_path / "data", count=16)
    (root / "train/dog/3.png").write_bytes((root / "train/dog/3.png").read_bytes()[:60])
    more = {"model.num_classes": 2, "batch_size": 8, "data.on_error": "skip", "data.image_size": 8, "epochs": 2}
    more |= {"data.augmentation": "none", "evaluation.every_epochs": 0, "log.every_steps": 4}
    outcome = cli(*tiny_args(tmp_path / "run", "st", data__source=f"folder:{root}"), *overrides(more))
    assert outcome.returncode == 0, outcome.stderr
    assert "train/dog/3.png; the next one takes its place" in outcome.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["train/replaced_images"] for line in lines if "train/loss" in line] == [1 / 32] * 2


def test_label_outside_the_classes(cli, tmp_path):
    refuse_folder(cli, tmp_path, tree(tmp_path / "data", classes=("0", "7")), "8 classes", "model 2", "num_classes = 8")


def test_tfds_not_prepared(cli, tmp_path):
    fields = {"data.data_dir": tmp_path}
    outcome = cli("--config=configs/nofrost_r50.py", f"--workdir={tmp_path}/run", *overrides(fields))
    assert_refused(outcome, "imagenet2012 is not prepared", "nofrost_jax.tools.prepare imagenet2012", str(tmp_path))
    outcome = cli(DIGITS, f"--workdir={tmp_path}/run", "--config.data.source=tfds:imagenett", *overrides(fields))
    assert_refused(outcome, "imagenett")
    assert not any(tmp_path.iterdir())
