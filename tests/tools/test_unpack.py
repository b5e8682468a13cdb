"""From ImageNet's tar files to image folders, on home-made ones."""

import sys

import numpy as np
import pytest

from nofrost_jax import data, lock
from nofrost_jax.errors import UserError
from nofrost_jax.tools import unpack
from tests.data.helpers import archive, complaint, config, encoded, picture, validation_files, write_imagenet_tars

pytest.importorskip("tensorflow_datasets")
TRAIN = {
    wnid: {f"{wnid}_{i}.JPEG": encoded(picture(7 * k + i)) for i in range(3)}
    for k, wnid in enumerate(("n01440764", "n01443537"))
}
VAL = validation_files(encoded(picture(90 + i)) for i in range(5))


@pytest.fixture
def tars(tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    write_imagenet_tars(folder, TRAIN, dict(reversed(VAL.items())))  # Their order says nothing.
    return folder


def test_every_image_arrives_under_its_class(tars, tmp_path):
    output = tmp_path / "out"
    assert unpack.unpack(str(tars), str(output)) == {"train": 6, "val": 5}
    found = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    wnids = unpack.validation_wnids()
    assert found == {f"train/{wnid}/{name}": x for wnid, images in TRAIN.items() for name, x in images.items()} | {
        f"val/{wnid}/{name}": x for wnid, (name, x) in zip(wnids, VAL.items(), strict=False)
    }
    assert len(wnids) == 50_000 and wnids[0] == "n01751748"


def test_the_folders_train(tars, tmp_path):
    unpack.unpack(str(tars), str(tmp_path / "out"))
    settings = config(f"folder:{tmp_path / 'out'}", num_classes=1000, batch_size=6)
    batch = next(data.open(settings, ()).train_batches(0))
    assert sorted(batch["label"].tolist()) == [0, 0, 0, 1, 1, 1] and batch["image"].dtype == np.uint8


def test_it_goes_on_where_it_was(tars, tmp_path):
    output = tmp_path / "out"
    unpack.unpack(str(tars), str(output))
    whole, cut, lost = sorted((output / "train" / "n01440764").iterdir())
    before = whole.stat().st_mtime_ns
    cut.write_bytes(b"half")
    lost.unlink()
    unpack.unpack(str(tars), str(output))
    assert whole.stat().st_mtime_ns == before
    assert cut.read_bytes() == TRAIN["n01440764"][cut.name] and lost.read_bytes() == TRAIN["n01440764"][lost.name]


def problem(tars, tmp_path):
    return complaint(unpack.unpack, str(tars), str(tmp_path / "out"))


def test_what_is_wrong_is_told(tars, tmp_path):
    path = tars / "ILSVRC2012_img_train.tar"
    (tars / "ILSVRC2012_img_val.tar").unlink()
    content = path.read_bytes()
    for bad, text in (
        (content[:4000], "damaged archive"),
        (b"no tar" * 100, "damaged archive"),
        (archive({"a.txt": b""}), "a.txt is not a class archive"),
        (archive({"n01440764.tar": archive({"../../x.txt": b"x"})}), "x.txt is not an image"),
    ):
        path.write_bytes(bad)
        assert text in problem(tars, tmp_path)
    path.unlink()
    assert "neither ILSVRC2012_img_train.tar nor ILSVRC2012_img_val.tar" in problem(tars, tmp_path)
    assert not list(tmp_path.rglob("x.txt"))


def test_command(tars, tmp_path, monkeypatch, capsys):
    (tars / "ILSVRC2012_img_train.tar").unlink()
    arguments = ["unpack", f"--manual_dir={tars}", f"--output={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", arguments)
    unpack.main()
    assert capsys.readouterr().out == "unpacked: 5 images in val/\n"


def test_a_second_command_is_refused(tars, tmp_path):
    held = lock.hold(lock.place(tmp_path / "out"), "an unpacker")
    with held, pytest.raises(UserError, match="out is in use by an unpacker: process"):
        unpack.unpack(str(tars), str(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tars"]
