"""Images that are odd, and images that cannot be read: named, or replaced by a rule, through the real readers."""

import itertools
import sys

import pytest

from nofrost_jax import data
from nofrost_jax.data import folder, preprocess
from nofrost_jax.data.pipeline import permutation
from nofrost_jax.errors import UserError
from nofrost_jax.tools import verify
from tests.data.helpers import (
    assert_equal_streams,
    assert_resumes,
    config,
    dataset_of,
    encoded,
    joined,
    picture,
    take,
    validation_files,
    write,
    write_imagenet_tars,
)

WHOLE = encoded(picture(7))
BROKEN = {"truncated.JPEG": WHOLE[: len(WHOLE) // 2], "text.JPEG": b"<html>not found</html>"}
ODD = {
    "cmyk.JPEG": encoded(picture(100), mode="CMYK"),
    "grey.JPEG": encoded(picture(101), mode="L"),
    "really_png.JPEG": encoded(picture(102), kind="PNG"),
    **BROKEN,
}
PER_CLASS = 6


def files(name):
    """{file name: content} of a class; the second of the two classes has the odd and the broken ones as well."""
    plain = {f"plain_{i}.JPEG": encoded(picture(10 * ord(name[-1]) + i)) for i in range(PER_CLASS)}
    return plain if name == "n01443537" else plain | ODD


CLASSES = ("n01443537", "n01484850")  # labels 1 and 2
CONTENT = {name: files(name) for name in CLASSES}
NUM_TRAIN = sum(map(len, CONTENT.values()))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An image folder, and an evaluation folder without broken files."""
    root = tmp_path_factory.mktemp("tree")
    for name, split in itertools.product(CLASSES, ("train", "val")):
        for file, content in CONTENT[name].items():
            if split == "train" or file not in BROKEN:
                write(root / split / name / file, content)
    return config(f"folder:{root}", eval_split="val")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """{file format: the same through tfds's own builder of ImageNet, from tar files}."""
    tfds, found = pytest.importorskip("tensorflow_datasets"), {}
    tars = tmp_path_factory.mktemp("tars")
    train = {name: {f"{name}_{file}": content for file, content in CONTENT[name].items()} for name in CLASSES}
    write_imagenet_tars(tars, train, validation_files(encoded(picture(i)) for i in range(4)))
    download = tfds.download.DownloadConfig(manual_dir=str(tars))
    for kind in ("array_record", "tfrecord"):
        target = tmp_path_factory.mktemp(kind)
        builder = tfds.builder("imagenet2012", data_dir=str(target))
        builder.download_and_prepare(download_config=download, file_format=kind)
        found[kind] = config("tfds:imagenet2012", data_dir=str(target))
    return found


@pytest.fixture(params=["folder", "array_record", "tfrecord"])
def settings(request):
    name = "tree" if request.param == "folder" else "prepared"
    found = request.getfixturevalue(name)
    found = (found if name == "tree" else found[request.param]).copy_and_resolve_references()
    found.model.num_classes, found.batch_size = 1000, 4
    found.data.eval_resize, found.data.augmentation = 18, "random_resized_crop"
    found.data.on_error = "skip"
    return found


def is_random(settings):
    return "tfrecord" not in settings.data.data_dir


def contents(settings):
    """[(label, encoded image)] by index, from the split itself."""
    split = dataset_of(settings).train
    if is_random(settings):
        return [split.example(i)[::-1] for i in range(split.size)]
    found = {}
    for part in split.train(0, 0, 0, 1, (0, 1)):
        found[int(part.index[0])] = int(part.labels[0]), part.images[0]
    return [found[i] for i in range(len(found))]


def test_every_kind_of_file_arrives(settings):
    assert sorted(contents(settings)) == sorted(
        (label, content) for label, name in enumerate(CLASSES, 1) for content in CONTENT[name].values()
    )


def test_odd_images_are_pixels_like_any(settings):
    """CMYK, grey and a PNG that is called JPEG go through training with what Pillow makes of them."""
    settings.data.augmentation = "none"
    found, rows = contents(settings), ("index", "label", "image")
    batches = take(settings, 0, 8)  # Two epochs.
    seen = {int(i): (int(k), x) for b in batches for i, k, x in zip(*map(b.get, rows), strict=True)}
    for index, (label, image) in seen.items():
        assert (label, image.tobytes()) == (
            found[index][0],
            preprocess.eval_image(found[index][1], preprocess.Geometry(16, 18)).tobytes(),
        )
    assert set(ODD.values()) - {found[i][1] for i in seen} == set(BROKEN.values())


def test_raise_names_the_image(settings, capsys):
    settings.data.on_error = "raise"
    with pytest.raises(UserError, match="unreadable image") as info:
        take(settings, 0, 4)
    named = "truncated.JPEG", "text.JPEG", "imagenet2012 train example"
    assert "\n" not in str(info.value) and any(name in str(info.value) for name in named)
    if is_random(settings):  # Decodes every file, so that training does not start.
        with pytest.raises(UserError, match=r"and 1 more.*replace it"):
            data.open(settings)
    assert capsys.readouterr().err == ""


def test_skipped_images_are_told_of(settings, capsys):
    data.open(settings)
    assert capsys.readouterr().err == ""
    steps = data.open(settings).steps_per_epoch
    batches = take(settings, 0, 2 * steps)
    lines = capsys.readouterr().err.splitlines()
    assert {len(batch["label"]) for batch in batches} == {4} and all(batch["image"].any() for batch in batches)
    assert [line.startswith("skipped: unreadable image (") for line in lines[:-1]] == [True] * 2
    assert "(1 so far)" in lines[0] and "(2 so far)" in lines[1]
    assert lines[-1].startswith("skipped: 2 unreadable images, ") and lines[-1].endswith(" times in all")


def test_the_replacement_is_the_next_readable_of_the_order(settings):
    """With its own label and index; the random numbers stay those of the place."""
    settings.data.augmentation = "none"
    found, plain = contents(settings), settings.copy_and_resolve_references()
    bad = {i for i, (_, image) in enumerate(found) if image in BROKEN.values()}
    if is_random(settings):
        order = permutation(settings.seed, 0, NUM_TRAIN).tolist()
        own = order[: NUM_TRAIN // 4 * 4]
        expected = [next(i for i in order[p:] + order[:p] if i not in bad) for p in range(len(own))]
    else:
        parts = data.open(plain, ()).train.train(settings.seed, 0, 0, 4, (0, 1))
        places = [part.index.tolist() for part in parts]
        own = [i for part in places for i in part]
        expected = [next(i for i in part[p:] + part[:p] if i not in bad) for part in places for p in range(4)]
    batches = take(settings, 0, NUM_TRAIN // 4)
    assert [int(i) for batch in batches for i in batch["index"]] == expected
    assert [bool(r) for batch in batches for r in batch["replaced"]] == [i in bad for i in own]
    for batch in batches:
        assert [found[i][0] for i in batch["index"]] == batch["label"].tolist()


def test_skipping_knows_no_threads_and_no_resume(settings):
    settings.data.workers = 1
    whole = take(settings, 0, 9)
    starts = (0, 1, 4, 5, 8) if is_random(settings) else (1, 5)
    for settings.data.workers, start in itertools.product((3, 8), starts):
        assert_resumes(settings, whole, [start])
    if is_random(settings):
        parts = [take(settings, 1, 6, process_index=k, process_count=2) for k in (0, 1)]
        assert_equal_streams(joined(parts), whole[1:7])


def test_evaluation_never_skips(settings):
    settings.data.eval_split = "train"
    with pytest.raises(UserError, match="unreadable image"):
        list(dataset_of(settings).eval_batches(8))
    if is_random(settings):
        with pytest.raises(UserError, match="unreadable image"):
            data.open(settings)


def test_nothing_but_broken_images_is_an_error(tmp_path):
    for split, name in itertools.product(("train", "val"), CLASSES):
        for i in range(3):
            write(tmp_path / split / name / f"{i}.JPEG", BROKEN["text.JPEG"] if split == "train" else WHOLE)
    settings = config(f"folder:{tmp_path}", batch_size=4, num_classes=2, on_error="skip")
    with pytest.raises(UserError, match="and 5 more"):
        data.open(settings)
    with pytest.raises(UserError, match="100 unreadable images in a row"):
        take(settings, 0, 1)


def test_wordnet_ids_are_the_labels():
    pytest.importorskip("tensorflow_datasets")
    assert [folder._imagenet_wnids().index(name) for name in CLASSES] == [1, 2]


def verified(settings, monkeypatch, capsys, *more):
    fields = settings.data
    arguments = [fields.source, f"--data_dir={fields.data_dir}", *more]
    monkeypatch.setattr(sys, "argv", ["verify", *arguments])
    code = 0
    try:
        verify.main()
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr()


def test_verify_names_every_unreadable_image(settings, monkeypatch, capsys):
    code, text = verified(settings, monkeypatch, capsys)
    lines = text.out.splitlines()
    assert (
        code == 2 and len(lines) == 3 and all(line.startswith("unreadable: unreadable image (") for line in lines[:2])
    )
    assert lines[2].startswith(f"{settings.data.source}: ") and lines[2].endswith(" images, 2 unreadable")
    if settings.data.source.startswith("folder"):
        assert "truncated.JPEG" in text.out and "text.JPEG" in text.out
        code, text = verified(settings, monkeypatch, capsys, "--train_split=val")
        assert (code, text.out) == (0, f"{settings.data.source}: {2 * (NUM_TRAIN - 2)} images, 0 unreadable\n")


def test_verify_of_what_is_not_there(settings, monkeypatch, capsys, tmp_path):
    settings.data.data_dir, settings.data.source = str(tmp_path), settings.data.source.replace(":/", ":/no/")
    code, text = verified(settings, monkeypatch, capsys)
    assert code == 2 and text.out == "" and text.err.startswith("error: ")
