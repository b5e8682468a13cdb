"""What a data set of tfds gets that is not prepared, damaged, or asked for by a wrong name."""

import shutil
import sys

import pytest

from nofrost_jax import data
from nofrost_jax.errors import UserError
from nofrost_jax.tools import prepare
from tests.data.helpers import complaint, config, dataset_of, take

pytest.importorskip("tensorflow_datasets")


def problem(settings) -> str:
    return complaint(data.open, settings)


def test_not_prepared(settings, tmp_path):
    settings.data.data_dir = str(tmp_path)
    message = problem(settings)
    for word in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", str(tmp_path), "not prepared"):
        assert word in message
    assert f"python -m nofrost_jax.tools.prepare imagenet2012 --manual_dir=TARS --data_dir={tmp_path}" in message
    assert data.examine(settings)[0] == [message]
    assert "prepare cifar10" in problem(config("tfds:cifar10", data_dir=str(tmp_path)))


def test_wrong_names(settings):
    assert "no_such_set" in problem(config("tfds:no_such_set"))
    settings.data.train_split = "training"
    assert "no split training (only train, validation)" in problem(settings)
    settings.data.train_split = "train"
    settings.model.num_classes = 10
    assert "1000 classes, the model 10" in problem(settings)
    with pytest.raises(UserError, match="label 700 is outside the 10 classes"):
        take(settings, 0, 4)


def test_damaged_records(settings, imagenet, tmp_path):
    shutil.copytree(settings.data.data_dir, tmp_path, dirs_exist_ok=True)
    (records,) = tmp_path.rglob("*validation.*record*")
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 1
    records.write_bytes(content)
    settings.data.data_dir = str(tmp_path)
    with pytest.raises(UserError, match="unreadable record") as info:
        list(dataset_of(settings).eval_batches(4))
    assert "\n" not in str(info.value) and str(tmp_path) in str(info.value)


def test_a_record_file_that_is_gone_is_named(settings, tmp_path):
    shutil.copytree(settings.data.data_dir, tmp_path, dirs_exist_ok=True)
    (gone,) = tmp_path.rglob("*train.*record*")
    gone.unlink()
    settings.data.data_dir = str(tmp_path)
    assert str(gone) in problem(settings) and "record file missing" in problem(settings)


def test_prepare_names_missing_tars(tmp_path):
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar") as info:
        prepare.prepare("imagenet2012", str(tmp_path), str(tmp_path / "nothing"))
    assert "\n" not in str(info.value)


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "pip install" in problem(config("tfds:cifar10"))
