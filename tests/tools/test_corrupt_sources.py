"""Corrupted copies of images that are no files: digits, and CIFAR-10 through tfds."""

import json
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import corruptions
from nofrost_jax.data import digits, sources, tfds_source
from nofrost_jax.errors import UserError
from nofrost_jax.tools import prepare
from nofrost_jax.tools.corrupt import __main__ as command
from nofrost_jax.tools.corrupt import originals
from tests.data.helpers import config, dataset_of, picture

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CELLS = ("--names=contrast,gaussian_noise", "--severities=4")


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*/*/*"))


def pixels(path):
    with Image.open(path) as image:
        return image.format, np.asarray(image)


def test_digits_become_lossless_files_in_folders_called_by_label(tmp_path, capsys):
    command.main([f"--output={tmp_path}", *CELLS])
    assert "written: 720 files" in capsys.readouterr().out
    split = dataset_of(config("digits", image_size=8)).evaluation
    assert files(tmp_path) == sorted(
        f"{name}/4/{label}/{index:08d}.PNG"
        for name in ("contrast", "gaussian_noise")
        for index, label in enumerate(split.labels)
    )
    for name in ("contrast", "gaussian_noise"):
        want = corruptions.corrupt(split.images, name, 4, np.arange(360), 0, jpeg_quality=0)
        for index in (0, 5, 359):
            kind, found = pixels(tmp_path / name / "4" / str(split.labels[index]) / f"{index:08d}.PNG")
            assert kind == "PNG" and np.array_equal(found, want[index])
    settings = json.loads((tmp_path / "corruptions.json").read_text())
    assert (settings["side"], settings["resize"], settings["jpeg_quality"]) == (8, 0, 0)
    assert settings["source"] == "digits validation" and settings["images"] == 360
    with pytest.raises(UserError, match=r"with other settings \(jpeg_quality = 0, now 85\)"):
        command.main([f"--output={tmp_path}", *CELLS, "--jpeg_quality=85"])


def test_quality_goes_with_the_side_or_is_what_one_says(tmp_path):
    for side, given, want in ((64, [], 0), (65, [], 85), (65, ["--jpeg_quality=0"], 0), (8, ["--jpeg_quality=50"], 50)):
        assert command._quality(command._options([f"--output={tmp_path}", *given]), side) == want
    command.main([f"--output={tmp_path}", "--names=contrast", "--severities=2", "--jpeg_quality=50"])
    image = digits._load("evaluation", 8).images[:1]
    label = digits._load("evaluation", 8).labels[0]
    kind, found = pixels(tmp_path / f"contrast/2/{label}/00000000.JPEG")
    want = corruptions.corrupt(image, "contrast", 2, np.arange(1), 0, jpeg_quality=50)[0]
    assert kind == "JPEG" and np.array_equal(found, want)
    assert (want != corruptions.corrupt(image, "contrast", 2, np.arange(1), 0)[0]).any()


def source(names, num_classes, labels):
    return sources.Source(num_classes, None, None, class_names=names), np.array(labels)


@pytest.mark.parametrize(
    "names, labels, want",
    [
        (("ant", "bee"), [0, 1, 1], ("ant", "bee")),
        (("bee", "ant"), [0, 1, 1], ("0", "1")),  # would sort the other way round
        (("ant", "bee"), [0, 0], ("0", "1")),  # bee would be label 0
        (("0", "1"), [0, 1], ("0", "1")),
        (("a/b", "c"), [0, 1], ("0", "1")),
        ((".a", "c"), [0, 1], ("0", "1")),
        (("ant", "ant"), [0, 1], ("0", "1")),
        ((), [0, 10], tuple(f"{label:02d}" for label in range(11))),
    ],
)
def test_class_folders_sort_as_the_labels(names, labels, want):
    assert originals._class_folders(*source(names, len(want), labels)) == want == tuple(sorted(want))


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    """(data_dir of tfds, images, labels of the test split): CIFAR-10 from binary files, three images of each class."""
    pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("cifar10")
    folder, data_dir = root / "files/cifar-10-batches-bin", root / "data"
    folder.mkdir(parents=True)
    data_dir.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10) + "\n")
    labels = np.arange(30, dtype=np.uint8) * 7 % 10
    images = np.stack([picture(i, 32, 32) for i in range(30)])
    rows = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, images, strict=True)]
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(b"".join(rows))
    tfds = tfds_source.import_tfds()
    with mock.patch.object(tfds.download.DownloadManager, "download_and_extract", lambda *_: str(root / "files")):
        prepare.prepare("cifar10", str(data_dir))
    return data_dir, images, labels


def test_cifar10_through_tfds(cifar10, tmp_path):
    data_dir, images, labels = cifar10
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    command.main([f"--output={tmp_path}", "--source=tfds:cifar10", f"--data_dir={data_dir}", *CELLS])
    found = [file.split("/")[2:] for file in files(tmp_path) if file.startswith("gaussian_noise")]
    assert sorted(name for _, name in found) == [f"{index:08d}.PNG" for index in range(30)]
    split = dataset_of(config("tfds:cifar10", data_dir=str(data_dir), eval_split="test")).evaluation
    stored = np.stack([np.asarray(command.open_originals("tfds:cifar10", str(data_dir)).load(i)) for i in range(30)])
    assert [label_of[image.tobytes()] for image in stored] == split.listing()[0].tolist()
    want = corruptions.corrupt(stored, "gaussian_noise", 4, np.arange(30), 0, jpeg_quality=0)
    for name, file in found:
        index = int(file[:8])
        assert name == CIFAR10[split.listing()[0][index]]
        assert np.array_equal(pixels(tmp_path / "gaussian_noise/4" / name / file)[1], want[index])
    read = dataset_of(config(f"folder:{tmp_path}/gaussian_noise/4", eval_split=".")).evaluation
    assert read.labels.tolist() == [split.listing()[0][int(file[-12:-4])] for file in read.files]
    settings = json.loads((tmp_path / "corruptions.json").read_text())
    assert (settings["side"], settings["resize"], settings["source"]) == (32, 0, "tfds:cifar10 test")
    command.main(
        [f"--preview={tmp_path}/grid.png", "--source=tfds:cifar10", f"--data_dir={data_dir}", "--split=train[:3]"]
    )
    with pytest.raises(UserError, match="with other settings"):
        command.main(
            [f"--output={tmp_path}", "--source=tfds:cifar10", f"--data_dir={data_dir}", *CELLS, "--split=train"]
        )


def test_tfrecord_files_are_refused_before_they_are_read(cifar10, tmp_path, monkeypatch):
    tfds, files = tfds_source.import_tfds(), str(cifar10[0].parent / "files")
    with mock.patch.object(tfds.download.DownloadManager, "download_and_extract", lambda *_: files):
        tfds.builder("cifar10", data_dir=str(tmp_path)).download_and_prepare(file_format="tfrecord")
    monkeypatch.setattr(tfds_source.TfdsSplit, "listing", lambda _: pytest.fail("it is read"))
    words = "cifar10 is prepared as TFRecord files, .*; --source; prepare it again .* into another --data_dir$"
    with pytest.raises(UserError, match=words):
        command.main([f"--output={tmp_path}/copies", "--source=tfds:cifar10", f"--data_dir={tmp_path}", *CELLS])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--source=fake"], "no source of images to corrupt; --source=fake; use digits"),
        (["--source=ftp:x"], "no source of images"),
        (["--split=train"], "digits has no split train; --split=train; use validation"),
        (["--side=7"], "at least 8 pixels"),
        (["--resize=9"], "made at --side=8, not cut out; --resize=9; leave it out"),
        (["--jpeg_quality=101"], "--jpeg_quality=101 must be between"),
        (
            ["--source=tfds:cifar10", "--data_dir=/nowhere"],
            "cifar10 is not prepared; .*run: python -m nofrost_jax",
        ),
    ],
)
def test_refusals(arguments, message, tmp_path):
    for way in ("output", "preview"):
        with pytest.raises(UserError, match=message):
            command.main([f"--{way}={tmp_path}/x", *arguments])
    assert not list(tmp_path.iterdir())


def test_files_and_digits_need_no_tensorflow(tmp_path):
    path = tmp_path / "source/val/a/0.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(picture(0)).save(path)
    code = f"""if True:
        import sys
        from nofrost_jax.tools.corrupt.__main__ import main
        main(["--output={tmp_path}/one", "--source=folder:{tmp_path}/source", "--side=16", "--names=contrast"])
        main(["--output={tmp_path}/two", "--names=contrast", "--severities=1"])
        print(sorted({{"tensorflow", "tensorflow_datasets"}} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    refused = subprocess.run(
        [sys.executable, "-m", "nofrost_jax.tools.corrupt", f"--output={tmp_path}/three", "--source=tfds:nosuch"],
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and "nosuch" in refused.stderr
