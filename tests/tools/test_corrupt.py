"""`python -m nofrost_jax.tools.corrupt`: the preview, and corrupted copies of a folder."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import corruptions, lock
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.tools.corrupt import __main__ as command
from nofrost_jax.tools.corrupt import originals, preview, tree
from tests.data.helpers import encoded, picture

SETTINGS = ("--side=20", "--resize=24", "--names=contrast,pixelate", "--severities=1,4", "--jpeg_quality=85")


@pytest.fixture
def folder(tmp_path):
    """Three images in two classes, one of them a PNG."""
    for i, (name, kind) in enumerate((("b/1.JPEG", "JPEG"), ("a/2.png", "PNG"), ("b/0.jpg", "JPEG"))):
        path = tmp_path / "source" / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(i), kind))
    return tmp_path / "source"


def copy(folder, output, *more):
    command.main([f"--source=folder:{folder}", f"--output={output}", *SETTINGS, *more])


def test_copies_are_what_corrupt_gives(folder, tmp_path, capsys):
    copy(folder, tmp_path / "out")
    assert "written: 12 files" in capsys.readouterr().out
    files = ["a/2.png.JPEG", "b/0.jpg", "b/1.JPEG"]
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*/*/*"))
    assert found == sorted(
        f"{name}/{severity}/{file}" for name in ("contrast", "pixelate") for severity in "14" for file in files
    )
    with Image.open(folder / "val" / "b" / "0.jpg") as image:
        clean = np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR).crop((6, 2, 26, 22)))
    want = corruptions.corrupt(clean[None], "pixelate", 4, np.array([1]), 0)[0]  # place 1 in the split's order
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "pixelate/4/b/0.jpg")), want)
    settings = json.loads((tmp_path / "out" / "corruptions.json").read_text())
    assert len(settings.pop("source_sha256")) == 64 and settings == {
        "seed": 0,
        "side": 20,
        "resize": 24,
        "images": 3,
        "jpeg_quality": 85,
        "textures": "procedural",
        "source": f"folder:{folder} val",
    }


def test_small_images_are_png_files_unless_one_says_otherwise(folder, tmp_path):
    command.main([f"--source=folder:{folder}", f"--output={tmp_path / 'out'}", *SETTINGS[:2], "--names=contrast"])
    found = sorted(str(path.relative_to(tmp_path / "out/contrast/3")) for path in tmp_path.glob("out/contrast/3/*/*"))
    assert found == ["a/2.png", "b/0.jpg.PNG", "b/1.JPEG.PNG"]
    original = originals.open_originals(f"folder:{folder}", side=20, resize=24).load(2)
    want = corruptions.corrupt(original[None], "contrast", 3, np.array([2]), 0, jpeg_quality=0)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/contrast/3/b/1.JPEG.PNG")), want)


def test_what_is_no_record_of_settings_is_refused(folder, tmp_path):
    copy(folder, tmp_path / "out", "--names=contrast")
    with pytest.raises(UserError, match=r"with other settings \(jpeg_quality = 85, now 0\)"):
        copy(folder, tmp_path / "out", "--names=contrast", "--jpeg_quality=0")
    for text in ("{", "[1]", "5"):
        (tmp_path / "out/corruptions.json").write_text(text)
        with pytest.raises(UserError, match=r"cannot read the settings .*corruptions\.json; choose a new --output"):
            copy(folder, tmp_path / "out", "--names=contrast")


def test_copies_go_on_where_they_stopped(folder, tmp_path, capsys):
    copy(folder, tmp_path / "out", "--names=gaussian_noise")
    kept = tmp_path / "out" / "gaussian_noise/1/b/0.jpg"
    lost = tmp_path / "out" / "gaussian_noise/4/b/1.JPEG"
    before, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    copy(folder, tmp_path / "out", "--names=gaussian_noise")
    assert "written: 1 files" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before
    assert lost.read_bytes() == content
    with pytest.raises(UserError, match=r"with other settings \(seed = 0, now 1\)"):
        copy(folder, tmp_path / "out", "--seed=1")


def test_copies_of_other_images_are_refused(folder, tmp_path):
    copy(folder, tmp_path / "out", "--names=contrast")
    (folder / "val" / "b" / "0.jpg").write_bytes(encoded(picture(9)))
    with pytest.raises(UserError, match=r"with other settings \(source_sha256 = "):
        copy(folder, tmp_path / "out", "--names=contrast")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == ["corruptions.json"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_between_two_cells(folder, tmp_path, monkeypatch, number):
    make = tree.corrupt

    def stopped(*arguments, **options):
        os.kill(os.getpid(), number)
        return make(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tree, "corrupt", stopped)
        with pytest.raises(Preempted, match=f"stopped by {number.name} after 3 files; run the same command again"):
            copy(folder, tmp_path / "out", "--names=contrast")
    assert len(list((tmp_path / "out").glob("*/*/*/*"))) == 3
    copy(folder, tmp_path / "out", "--names=contrast")
    assert len(list((tmp_path / "out").glob("*/*/*/*"))) == 6


@pytest.mark.parametrize(
    ("side", "resize", "want"), [(None, None, (224, 256)), (64, None, (64, 73)), (64, 0, (64, 0)), (None, 9, (224, 9))]
)
def test_resize_goes_with_the_side(folder, side, resize, want):
    geometry = originals.open_originals(f"folder:{folder}", side=side, resize=resize).geometry
    assert (geometry.image_size, geometry.eval_resize) == want


def squares(root, sides, kind="PNG"):
    """A source of such images, in two classes."""
    for i, side in enumerate(sides):
        path = root / f"val/{'ab'[i % 2]}/{i}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(i, side, side), kind))
    return f"folder:{root}"


@pytest.mark.parametrize(
    "sides, options, want",
    [
        ([32] * 70, {}, (32, 0)),
        ([32] * 69 + [33], {}, (224, 256)),
        ([65] * 2, {}, (65, 0)),
        ([32] * 2, {"side": 32}, (32, 0)),
        ([32] * 2, {"side": 16}, (16, 18)),
        ([32] * 2, {"resize": 36}, (32, 36)),
        ([32] * 2, {"side": 32, "resize": 36}, (32, 36)),
    ],
)
def test_squares_of_one_size_stay_as_they_are(tmp_path, sides, options, want):
    geometry = originals.open_originals(squares(tmp_path, sides), **options).geometry
    assert (geometry.image_size, geometry.eval_resize) == want


def test_the_size_is_told_before_the_work_and_goes_with_the_kind_of_file(tmp_path, capsys):
    source = squares(tmp_path / "small", [32] * 3)
    command.main([f"--source={source}", f"--output={tmp_path}/out", "--names=contrast", "--severities=1"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"corrupting 3 images of {source} val: 32 x 32 pixels (not resized), PNG files"
    want = corruptions.corrupt(picture(1, 32, 32)[None], "contrast", 1, np.array([2]), 0, jpeg_quality=0)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/contrast/1/b/1.PNG")), want)
    squares(tmp_path / "small", [33])
    command.main([f"--source={source}", f"--output={tmp_path}/two", "--names=contrast", "--severities=1"])
    how = "224 x 224 pixels (the centre, after a resize of the short side to 256), JPEG files of quality 85"
    assert capsys.readouterr().out.startswith(f"corrupting 3 images of {source} val: {how}\n")


def test_the_first_size_that_differs_says_enough(tmp_path, monkeypatch):
    source, read = squares(tmp_path, [32, 33] + [32] * 200), []
    look = originals.preprocess.size_in_header
    monkeypatch.setattr(originals.preprocess, "size_in_header", lambda path: read.append(path) or look(path))
    assert originals.open_originals(source).geometry.image_size == 224
    assert len(read) <= 128


def test_sizes_where_some_headers_are_damaged_or_all_images_tiny(tmp_path):
    source = squares(tmp_path, [32] * 3)
    (tmp_path / "val/a/0.PNG").write_bytes(b"no image")
    assert originals.open_originals(source).geometry.image_size == 32
    with pytest.raises(UserError, match=r"a/0\.PNG; replace or remove it, or choose another --index"):
        command.main([f"--source={source}", f"--preview={tmp_path}/grid.png"])
    with pytest.raises(UserError, match="at least 8 pixels; the images have 7 a side; give a --side"):
        originals.open_originals(squares(tmp_path / "tiny", [7] * 2))


def test_preview_shows_all_of_them(tmp_path, capsys):
    command.main([f"--preview={tmp_path / 'grid.png'}", "--severity=5", "--index=3", "--side=20"])
    assert "written" in capsys.readouterr().out
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    cells = [sheet[y : y + 160, x : x + 160] for y in range(8, 756, 189) for x in range(8, 680, 168)]
    assert len({cell.tobytes() for cell in cells}) == len(cells) == 16
    assert preview.grid(picture(0, 20, 20), 1).size == (sheet.shape[1], sheet.shape[0])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give either --preview or --output"),
        (["--preview=x.png", "--output=x"], "give either --preview or --output"),
        (["--preview=x.png", "--severity=6"], "--severity='6' is unknown; choose one of 1, 2, 3, 4, 5$"),
        (["--preview=x.png", "--index=400"], "the split has 360 images"),
        (["--preview=x.png", "--names=snow,fogg"], "^--names='fogg' is unknown; .*; did you mean fog[?]$"),
        (
            ["--output=x", "--names=spatter"],
            "^--names='spatter' is unknown; choose one of gaussian_noise, shot_noise, ",
        ),
        (["--preview=x.png", "--severities=a"], "^--severities='a' is unknown; choose one of 1, 2, 3, 4, 5$"),
        (["--output=x", "--severities=1,6"], "^--severities='6' is unknown"),
        (["--output=x", "--severities="], "^--severities='' has an empty word; choose some of 1, 2"),
        (["--output=x", "--names=fog,,snow"], "^--names='fog,,snow' has an empty word; choose some of gauss"),
        *((["--output=x", f"--seed={seed}"], f"^--seed={seed} is out of range") for seed in (-1, 2**32, 10**30)),
        (["--output=x", "--source=folder:/nowhere"], "cannot list the image folder"),
        (["--previw=x.png"], "unrecognized arguments"),
    ],
)
def test_wrong_command_lines(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        command.main(arguments)
    assert not list(tmp_path.iterdir())


def test_spaces_after_commas_and_words_said_twice_do_not_count():
    options = command._options(["--output=x", "--names=fog, snow ,fog", "--severities=3, 1"])
    assert (options.names, options.severities) == (["fog", "snow"], [3, 1])


def test_a_folder_of_other_files_is_left_alone(folder, tmp_path):
    foreign = tmp_path / "ImageNet-C/fog/1/a/0.JPEG"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"published")
    with pytest.raises(UserError, match=r"has files that this command did not write \(fog\); choose a new --output$"):
        copy(folder, tmp_path / "ImageNet-C")
    assert [path for path in (tmp_path / "ImageNet-C").rglob("*") if path.is_file()] == [foreign]


def test_an_empty_folder_is_taken_as_is_one_where_a_claim_was_killed(folder, tmp_path):
    (tmp_path / "out").mkdir()
    left = f".{'0123' * 8}.tmp"
    (tmp_path / "out" / left).write_text("{")
    copy(folder, tmp_path / "out", "--names=contrast")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {left, "contrast", "corruptions.json"}


@pytest.mark.parametrize("content", [b"no image", encoded(picture(0))[:200], encoded(picture(0, 10, 10))])
def test_images_that_cannot_be_used_are_found_before_the_first_file(folder, tmp_path, content):
    paths = [folder / "val/b/1.JPEG", folder / "val/b/0.jpg"]
    paths[0].write_bytes(content)
    with pytest.raises(UserError, match=r"/val/b/1\.JPEG; 1 of 3 images cannot be used; replace or remove it$"):
        copy(folder, tmp_path / "out", "--resize=0")
    paths[1].write_bytes(content)
    with pytest.raises(UserError, match=r"/val/b/0\.jpg; 2 of 3 images cannot be used; replace or remove them \("):
        copy(folder, tmp_path / "out", "--resize=0")
    assert not (tmp_path / "out").exists()
    paths[0].write_bytes(encoded(picture(0)))  # both pieces of advice are followed
    paths[1].unlink()
    copy(folder, tmp_path / "out", "--resize=0")
    assert len(list((tmp_path / "out").glob("*/*/*/*"))) == 8


def test_images_are_checked_once(folder, tmp_path, monkeypatch):
    checked, check = [], tree._check_images
    monkeypatch.setattr(tree, "_check_images", lambda *arguments: checked.append(1) or check(*arguments))
    copy(folder, tmp_path / "out", "--names=contrast")
    copy(folder, tmp_path / "out")
    assert checked == [1]


def test_an_image_that_became_unreadable_is_named(folder, tmp_path):
    source = originals.open_originals(f"folder:{folder}", side=20, resize=24)
    path, write = folder / "val/b/0.jpg", lambda name: tree.write(source, str(tmp_path / "out"), [name], [1])
    write("contrast")
    content = path.read_bytes()
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"b/0\.jpg; restore it to continue; if you replace .* choose a new --output"):
        write("pixelate")
    path.write_bytes(content)
    assert write("pixelate") == 3


def test_a_signal_stops_the_check(folder, tmp_path, monkeypatch):
    def stopped(originals, index):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(originals.Originals, "problem", stopped)
    with pytest.raises(Preempted, match="stopped by SIGTERM before the first file; run the same command again"):
        copy(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_second_command_is_refused(folder, tmp_path):
    held = lock.hold(lock.place(tmp_path / "out"), "a writer of corruptions")
    with held, pytest.raises(UserError, match="out is in use by a writer of corruptions: process"):
        copy(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
