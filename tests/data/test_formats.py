"""Image files of every kind that torchvision's ImageFolder takes: their pixels, their places, and what is left out."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import data
from nofrost_jax.data import checks, preprocess
from nofrost_jax.data.folder import EXTENSIONS
from nofrost_jax.data.preprocess import Geometry, ImageError
from nofrost_jax.tools.corrupt.originals import open_originals
from tests.data.helpers import complaint, config, dataset_of, encoded, picture, write

RAMP = np.tile(np.linspace(0, 65535, 40).round().astype(np.uint16), (30, 1))


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colour_png(values):
    """A PNG of 16 bits a channel, uint16 [h, w, 3], which Pillow does not write."""
    import zlib

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(RAMP), "PNG"),
        saved(Image.fromarray(RAMP), "TIFF"),
        saved(Image.frombytes("I;16B", (40, 30), RAMP.astype(">u2").tobytes()), "TIFF"),
        b"P5 40 30 65535\n" + RAMP.astype(">u2").tobytes(),
        colour_png(np.repeat(RAMP[..., None], 3, 2)),
    ],
    ids=["png", "tiff", "tiff_big_endian", "pgm", "colour_png"],
)
def test_16_bits_become_8(content):
    found = np.asarray(preprocess.decode(content)).astype(int)
    assert found.shape == (30, 40, 3) and np.abs(found - RAMP[..., None] / 257).max() <= 1
    assert found[0, 0].tolist() == [0, 0, 0] and found[0, -1].tolist() == [255, 255, 255]


def test_grey_levels_are_the_nearest():
    levels = np.arange(0, 65536, 7, dtype=np.uint16)[None]
    found = np.asarray(preprocess.decode(saved(Image.fromarray(levels), "PNG")))[0, :, 0]
    np.testing.assert_array_equal(found, np.rint(levels[0] / 257))


def test_a_tiff_with_white_as_zero_is_not_inverted():
    content = saved(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(content)) as image:
        assert image.tag_v2[262] == 0
    assert np.asarray(preprocess.decode(content))[0, -1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)), "floating-point numbers"),
        (Image.fromarray(np.arange(1200, dtype=np.int32).reshape(30, 40)), "signed or 32-bit integers"),
    ],
)
def test_numbers_without_a_range_are_refused_by_name(image, words, tmp_path):
    """In a split that is decoded whole, in one whose headers are read, and in the batch."""
    content = saved(image, "TIFF")
    with pytest.raises(ImageError, match=words):
        preprocess.decode(content)
    write(tmp_path / "x.tif", content)
    with pytest.raises(ImageError, match=words):
        preprocess.check_header(tmp_path / "x.tif", None)
    write(tmp_path / "val/a/x.tif", content)
    settings = config(f"folder:{tmp_path}", num_classes=1)
    assert words in complaint(data.open, settings, ("evaluation",))
    assert words in complaint(list, dataset_of(settings).eval_batches(1))


KINDS = {".ppm": "PPM", ".bmp": "BMP", ".pgm": "PPM", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
KINDS |= {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


def tree(root, nested=""):
    for c, name in enumerate(("ant", "bee")):
        for i, (extension, kind) in enumerate(KINDS.items()):
            mode = "L" if extension == ".pgm" else "RGB"
            write(root / name / nested / f"{i}{extension.upper() if c else extension}", encoded(picture(i), kind, mode))
    return root


def test_torchvisions_formats_and_order(tmp_path):
    """The same files in the same order as ImageFolder's, whose labels they have, and the pixels that Pillow reads."""
    folders = pytest.importorskip("torchvision.datasets.folder")
    assert set(EXTENSIONS) == set(folders.IMG_EXTENSIONS) == set(KINDS)
    root = tree(tmp_path / "val")
    for place in ("part1", "part0/deep", "part0", "part-0"):
        write(root / "ant" / place / "x.png", encoded(picture(50), "PNG"))
    theirs = folders.ImageFolder(str(root))
    settings = config(f"folder:{tmp_path}", num_classes=2)
    split = dataset_of(settings).evaluation
    assert [(split.where(i), int(label)) for i, label in enumerate(split.labels)] == theirs.samples
    assert len(split.files) == 22 and split.others == ()
    (batch,) = dataset_of(settings).eval_batches(22)
    expected = [preprocess.eval_image(theirs[i][0], Geometry(16)) for i in range(22)]
    np.testing.assert_array_equal(batch["image"], expected)


def test_other_files_are_counted_and_named_and_refused_among_evaluation_images(tmp_path):
    for split in ("train", "val"):
        tree(tmp_path / split)
        write(tmp_path / split / "bee/deep/boxes.txt", b"1 2 3 4")
        write(tmp_path / split / "ant/x.gif", b"GIF89a")
        write(tmp_path / split / "ant/.hidden/y.png", b"")
        write(tmp_path / split / "ant/.DS_Store", b"")
    settings = config(f"folder:{tmp_path}", num_classes=2)
    message = complaint(data.open, settings)
    for words in (
        "2 files are none of .jpg",
        "the first is ant/x.gif",
        f"{tmp_path}/val;",
        "config.data.other_files=skip",
    ):
        assert words in message
    settings.data.other_files = "skip"
    spec = data.open(settings)
    assert (spec.num_train, spec.num_eval, len(spec.notes)) == (18, 18, 2)
    for note, split in zip(spec.notes, ("train", "evaluation"), strict=True):
        assert f"of the {split} split 2 files are none of" in note and note.endswith("left out")


def test_images_one_folder_deeper(tmp_path):
    tree(tmp_path / "val", nested="part0")
    write(tmp_path / "val/ant/part1/0.png", encoded(picture(3), "PNG"))
    settings = config(f"folder:{tmp_path}", num_classes=2)
    assert data.open(settings, ("evaluation",)).num_eval == 19
    assert dataset_of(settings).evaluation.files[9] == "ant/part1/0.png"
    settings.model.num_classes = 3
    (tmp_path / "val/empty/deep").mkdir(parents=True)
    assert "class folder without images" in complaint(data.open, settings, ("evaluation",))


@pytest.mark.parametrize("resize, refused", [(0, True), (18, False)])
def test_small_images_are_found_by_their_headers(tmp_path, monkeypatch, resize, refused):
    """Of a large split all headers are read, of which a sample is decoded; what was not checked is said."""
    monkeypatch.setattr(checks, "DECODE_ALL", 5)
    monkeypatch.setattr(checks, "SAMPLE", 2)
    for split in ("train", "val"):
        for i in range(7):
            write(tmp_path / split / f"a/{i}.png", encoded(picture(i), "PNG"))
        write(tmp_path / split / "a/3.png", encoded(picture(3, 15, 40), "PNG"))
    random = {"augmentation": "random_resized_crop", "batch_size": 4, "num_classes": 1}
    settings = config(f"folder:{tmp_path}", eval_resize=resize, **random)
    if refused:
        message = complaint(data.open, settings)
        assert "image of 40 x 15 is smaller than image_size = 16" in message and "val/a/3.png" in message
        settings.data.eval_pad = True
    notes = data.open(settings).notes
    assert "of 7 train images 2 were decoded, and no others were checked" in notes[0]
    assert "of 7 evaluation images 2 were decoded, and the headers of all others were read" in notes[1]
    write(tmp_path / "val/a/3.png", b"<html>")
    assert "of no known format" in complaint(data.open, settings)


@pytest.mark.parametrize("augmentation", ["none", "pad_crop_flip"])
def test_small_training_images_are_found_too_where_they_are_cropped_alike(tmp_path, augmentation):
    for split, side in (("train", 15), ("val", 16)):
        write(tmp_path / split / "a/0.png", encoded(picture(3, side, side), "PNG"))
    settings = config(f"folder:{tmp_path}", augmentation=augmentation, batch_size=1, num_classes=1)
    assert "train/a/0.png" in complaint(data.open, settings)
    settings.data.augmentation = "random_resized_crop"
    assert data.open(settings).num_train == 1


def test_commands_leave_other_files_out_and_say_so(tmp_path, capsys):
    root = tree(tmp_path / "own/val")
    write(root / "ant/boxes.txt", b"1 2 3 4")
    originals = open_originals(f"folder:{tmp_path}/own", side=16)
    assert originals.count == 18 and "1 file is none of .jpg" in capsys.readouterr().err
    command = [sys.executable, "-m", "nofrost_jax.tools.verify", f"folder:{tmp_path}/own"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "18 images, 0 unreadable" in done.stdout, done
    assert "the first is ant/boxes.txt" in done.stderr
