"""What preparing tells when something is missing, misnamed, damaged or too large."""

import collections
import errno
import sys

import pytest

from nofrost_jax import data, lock
from nofrost_jax.data import downloads, tfds_source
from nofrost_jax.errors import UserError
from nofrost_jax.tools import prepare
from tests.data.helpers import archive, complaint, config, encoded, picture, validation_files

pytest.importorskip("tensorflow_datasets")
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


def validation_tar(folder):
    (folder / VAL).write_bytes(archive(validation_files(encoded(picture(i)) for i in range(3))))


def problem(tmp_path, name="imagenet2012", manual=None, **options):
    return complaint(prepare.prepare, name, str(tmp_path / "out"), str(manual or tmp_path), **options)


def test_missing_tars_are_named_with_their_sizes(tmp_path):
    message = problem(tmp_path)
    assert f"{TRAIN} (137.7 GiB) and {VAL} (6.3 GiB)" in message and str(tmp_path) in message
    assert "no directory" in problem(tmp_path, manual=tmp_path / "nothing")


def test_one_of_them_is_enough_and_told(tmp_path, capsys):
    validation_tar(tmp_path)
    path = prepare.prepare("imagenet2012", str(tmp_path / "out"), str(tmp_path))
    note = f"note: {TRAIN} (137.7 GiB) is not in {tmp_path}: the split train is left out"
    assert note in capsys.readouterr().err.splitlines()
    settings = config("tfds:imagenet2012", data_dir=str(tmp_path / "out"), num_classes=1000)
    assert data.open(settings, check=("evaluation",)).num_eval == 3
    assert "no split train" in data.examine(settings)[0][0]
    assert prepare.prepare("imagenet2012", str(tmp_path / "out")) == path  # There already; needs no tar any more.


@pytest.mark.parametrize(
    "name", ["ILSVRC2012_img_train.tar.gz", "ilsvrc2012_img_train.tar", "ILSVRC2012_img_train(1).tar"]
)
def test_a_misnamed_tar(tmp_path, name):
    validation_tar(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    assert f"{TRAIN} (137.7 GiB) is not in {tmp_path}, but {name} is" in problem(tmp_path)


def test_other_tars_of_imagenet_are_not_taken_for_misnamed(tmp_path):
    for name in downloads.OTHERS:
        (tmp_path / name).write_bytes(b"x")
    assert "at least one of them" in problem(tmp_path)


@pytest.mark.parametrize("cut", [1, 600, 2000])
def test_an_incomplete_tar(tmp_path, cut):
    validation_tar(tmp_path)
    content = (tmp_path / VAL).read_bytes().rstrip(b"\0") + bytes(1024)
    (tmp_path / VAL).write_bytes(content[:-cut])
    message = problem(tmp_path)
    assert f"{VAL} ends early: {len(content) - cut:,} bytes, the published file has 6,744,924,160" in message


def test_too_little_disk(tmp_path, monkeypatch):
    validation_tar(tmp_path)
    size = (tmp_path / VAL).stat().st_size
    usage = collections.namedtuple("usage", "total used free")
    for free, enough in ((2 * size - 1, False), (2 * size, True)):
        monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path, free=free: usage(free, 0, free))
        files = downloads.of(tfds_source.find_builder("imagenet2012", str(tmp_path)))
        if enough:
            downloads.check_disk(files, str(tmp_path / "a" / "b"), str(tmp_path))
        else:
            message = problem(tmp_path)
            assert "needed while preparing" in message and "--ignore_disk" in message and str(tmp_path) in message
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage(1, 0, 1))
    assert "0.1 MiB free" in problem(tmp_path, "imagenet_r")  # Its size is known before anything is downloaded.


def test_another_file_than_the_published(tmp_path):
    """tfds's own check of a download that was placed by hand."""
    (tmp_path / "imagenet-r.tar").write_bytes(archive({"imagenet-r/n01443537/a.jpg": encoded(picture(1))}))
    message = problem(tmp_path, "imagenet_r", ignore_disk=True)
    assert "wrong checksum" in message and str(tmp_path / "imagenet-r.tar") in message


def test_missing_package(tmp_path, monkeypatch):
    validation_tar(tmp_path)
    find = prepare.importlib.util.find_spec
    absent = "importlib_resources"
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None if name == absent else find(name))
    assert "pip install importlib_resources" in problem(tmp_path)


def test_errors_of_the_network_and_the_disk_are_explained():
    import requests

    files = [downloads.Download("a.tar", 2**30, "https://example.org/a.tar", False)]
    message = str(prepare._explain(requests.exceptions.ConnectionError("no\nroute"), files))
    assert "a.tar (1.0 GiB) from https://example.org/a.tar" in message and "--manual_dir" in message
    assert "disk is full; /x" in str(prepare._explain(OSError(errno.ENOSPC, "No space", "/x"), []))
    assert prepare._explain(ZeroDivisionError(), []) is None


def test_downloads_of_a_configuration():
    def names(name):
        return [file.name for file in downloads.of(tfds_source.find_builder(name, ""))]

    assert names("imagenet_v2/threshold-0.7") == ["imagenetv2-threshold0.7.tar.gz"]
    assert names("imagenet_v2/topimages") == ["imagenetv2-top-images.tar.gz"]
    assert names("imagenet2012") == [TRAIN, VAL]


def test_data_that_is_not_there_says_how_to_get_it(tmp_path):
    message = complaint(data.open, config("tfds:imagenet_r", data_dir=str(tmp_path), num_classes=1000))
    assert "imagenet-r.tar (2.0 GiB) from https://" in message and "--manual_dir=" in message
    message = complaint(data.open, config("tfds:imagenet2012", data_dir=str(tmp_path), num_classes=1000))
    assert f"{TRAIN} (137.7 GiB) and {VAL} (6.3 GiB), from image-net.org" in message


def test_list_has_the_files_and_the_configurations(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare", "imagenet_v2", "--list"])
    prepare.main()
    told = "configurations: matched-frequency, threshold-0.7, topimages; these files are of matched-frequency"
    assert told in capsys.readouterr().out.splitlines()
    monkeypatch.setattr(sys, "argv", ["prepare", "imagenet2012", "--list"])
    prepare.main()
    told = capsys.readouterr().out
    assert f"{VAL}  6,744,924,160 bytes  http" in told and "configurations" not in told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", ["tfds has no data set nosuch", "see tensorflow.org/datasets/catalog"]),
        ("imagenet_v3", ["tfds has no data set imagenet_v3", "did you mean imagenet_v2?"]),
        (
            "imagenet_v2/matched",
            [
                "imagenet_v2 has no configuration matched;",
                "did you mean imagenet_v2/matched-frequency?",
                "see tensorflow.org/datasets/catalog/imagenet_v2",
            ],
        ),
        ("cifar10/foo", ["cifar10 has no configuration foo", "see tensorflow.org/datasets/catalog/cifar10"]),
        ("cifar10:9.9.9", ["cannot be loaded at version 9.9.9"]),
    ],
)
def test_what_tfds_does_not_know(tmp_path, capsys, monkeypatch, name, words):
    assert all(word in problem(tmp_path, name) for word in words), problem(tmp_path, name)
    monkeypatch.setattr(sys, "argv", ["prepare", name, "--list"])
    with pytest.raises(SystemExit, match="2"):
        prepare.main()
    assert words[0] in capsys.readouterr().err


def test_a_second_command_is_refused(tmp_path):
    validation_tar(tmp_path)
    held = lock.hold(tmp_path / "out/imagenet2012.lock", "a preparation")
    with held, pytest.raises(UserError, match="imagenet2012 is in use by a preparation: process"):
        prepare.prepare("imagenet2012", str(tmp_path / "out"), str(tmp_path))
    assert [*(tmp_path / "out").iterdir()] == []
