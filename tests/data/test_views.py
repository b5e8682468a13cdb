"""Several views of a training image: one decoding, crops of their own, and images that were distorted beforehand."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import data
from nofrost_jax.data import preprocess, rng
from nofrost_jax.data.views import maker, origins_of_trees
from nofrost_jax.errors import UserError
from tests.data.helpers import (
    assert_equal_batches,
    assert_equal_streams,
    assert_resumes,
    config,
    count_listings,
    dataset_of,
    encoded,
    joined,
    picture,
    take,
    write,
)

ALL = ("clean", "deepaugment", "tda")
NAMES = ("image", "deepaugment", "tda")
EITHER = ("clean", "augmented")
PURPOSES = dict(zip(NAMES, (rng.AUGMENTATION, rng.DEEPAUGMENT, rng.TDA), strict=True))
SOURCES = {
    "crops": ("fake", {"augmentation": "random_resized_crop"}),
    "shifts": ("fake", {"augmentation": "pad_crop_flip"}),
    "fitted": ("digits", {"image_size": 8, "batch_size": 100}),
    "resized": ("digits", {"image_size": 12, "batch_size": 100, "augmentation": "pad_crop_flip"}),
}


def settings_of(source, views=ALL, mode="noise2net", folders=(), sources=("edsr", "cae"), **fields):
    made = config(source, views=views, tda_crop_scale=(0.64, 1.0), **fields)
    made.deepaugment = {"mode": mode, "folders": folders, "sources": sources}
    return made


@pytest.fixture(params=SOURCES)
def settings(request):
    source, fields = SOURCES[request.param]
    return settings_of(source, **fields)


def test_every_view_is_its_own_crop_of_the_image(settings):
    """Made anew from the source by the rule: geometry, purpose of the random numbers, epoch and position."""
    dataset = dataset_of(settings)
    split, geometry = dataset.train, dataset.geometry
    per_epoch = data.open(settings).steps_per_epoch
    step = per_epoch + 1
    (batch,) = take(settings, step, 1)
    assert list(batch) == [*NAMES, "label", "index"]
    for row, name in itertools.product(range(0, settings.batch_size, 7), NAMES):
        scale = (0.64, 1.0) if name == "tda" else (0.08, 1.0)
        own = dataclasses.replace(geometry, crop_scale=scale)
        position = settings.batch_size + row
        draws = preprocess.augmentation_draws(settings.seed, 1, position, own.draws, PURPOSES[name])
        expected = preprocess.train_image(split.load(int(batch["index"][row])), own, draws)
        np.testing.assert_array_equal(batch[name][row], expected)
    if geometry.augmentation == "none":
        return
    assert all((batch[one] != batch[other]).any() for one, other in itertools.combinations(NAMES, 2))


def test_either_view_is_one_of_both_by_a_coin(settings):
    """The same crop as without the coin, each about half of the time; in another epoch others."""
    per_epoch = data.open(settings).steps_per_epoch
    whole = take(settings, 0, per_epoch + 1)
    settings.data.views = EITHER
    coins = []
    for step, batch in enumerate(take(settings, 0, per_epoch + 1)):
        assert list(batch) == ["image", "augmented", "is_deepaugment", "label", "index"]
        coins.append(batch["is_deepaugment"])
        assert coins[-1].dtype == bool and coins[-1].shape == (settings.batch_size,)
        both = whole[step]
        expected = np.where(coins[-1][:, None, None, None], both["deepaugment"], both["tda"])
        np.testing.assert_array_equal(batch["augmented"], expected)
        np.testing.assert_array_equal(batch["image"], both["image"])
    assert (coins[0] != coins[-1]).any()
    coins = np.concatenate(coins)
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / len(coins) ** 0.5


def test_clean_images_do_not_know_of_other_views(settings):
    alone = settings.copy_and_resolve_references()
    alone.data.views = ("clean",)
    for batch, one in zip(*(take(made, 1, 2) for made in (settings, alone)), strict=True):
        assert_equal_batches(one, {name: batch[name] for name in ("image", "label", "index")})


@pytest.mark.parametrize("views", [("tda",), ("clean", "deepaugment")])
def test_a_batch_holds_the_views_that_are_asked_for(settings, views):
    (whole,) = take(settings, 0, 1)
    settings.data.views = views
    (some,) = take(settings, 0, 1)
    names = ["image" if view == "clean" else view for view in views]
    assert list(some) == [*names, "label", "index"]
    assert_equal_batches(some, {name: whole[name] for name in some})


@pytest.mark.parametrize("views", [ALL, EITHER])
def test_resume_threads_and_processes_change_no_byte(settings, views):
    settings.data.views = views
    n = data.open(settings).steps_per_epoch + 2
    whole = take(settings, 0, n)
    assert_resumes(settings, whole, (1, n - 2))
    settings.data.workers = 5
    parts = [take(settings, 0, 3, process_index=k, process_count=2) for k in range(2)]
    assert_equal_streams(whole[:3], joined(parts))


def test_evaluation_has_the_image_alone(settings):
    batch = next(dataset_of(settings).eval_batches(4))
    assert list(batch) == ["image", "label", "index", "mask"]


# Images that were distorted beforehand


@pytest.fixture
def trees(tmp_path):
    """(training data, EDSR's images, CAE's): two classes of six; a distorted image is one grey, that of its source."""
    for number, name in enumerate(("ant", "bee")):
        for i in range(6):
            for split in ("train", "val"):
                write(tmp_path / "data" / split / name / f"{i}.JPEG", encoded(picture(10 * number + i)))
            for source, (place, kind) in {"edsr": (0, "JPEG"), "cae": (1, "png")}.items():
                grey = np.full((30, 40, 3), 100 * place + 10 * (6 * number + i) // 2, np.uint8)
                write(tmp_path / source / name / f"{i}.{kind}", encoded(grey, "PNG"))
    return tmp_path


def from_files(trees, **fields):
    folders = (str(trees / "edsr"), str(trees / "cae"))
    options = {"mode": "files", "folders": folders, "num_classes": 2, "batch_size": 12}
    return settings_of(f"folder:{trees / 'data'}", **(options | {"augmentation": "random_resized_crop"} | fields))


def expected_grey(index, source):
    return 100 * source + 10 * index // 2


def test_distorted_images_are_those_of_the_same_name(trees):
    """Of either source by the seed, in every epoch anew; with another extension, too."""
    settings = from_files(trees)
    assert data.examine(settings)[0] == []
    chosen = []
    for batch in take(settings, 0, 30):
        greys = batch["deepaugment"].max((1, 2, 3))
        assert (batch["deepaugment"] == greys[:, None, None, None]).all()
        by_source = np.stack([expected_grey(batch["index"], source) for source in (0, 1)])
        assert (by_source == greys).any(0).all()
        chosen.append(by_source[1] == greys)
        assert (batch["image"].std((1, 2, 3)) > 5).all()
    assert 0.4 < np.mean(chosen) < 0.6
    settings.seed = 1
    assert any(
        (a["deepaugment"] != b["deepaugment"]).any()
        for a, b in zip(take(settings, 0, 1), take(from_files(trees), 0, 1), strict=True)
    )


def test_the_folders_may_have_the_split_and_be_relative(trees):
    """As the generator and the published sets have it, `SET/train/CLASS`; below data_dir, as `folder:` is."""
    (whole,) = take(from_files(trees), 0, 1)
    shutil.move(trees / "edsr", trees / "train")
    (trees / "edsr").mkdir()
    shutil.move(trees / "train", trees / "edsr" / "train")
    assert_equal_batches(take(from_files(trees, data_dir=str(trees), folders=("edsr", "cae")), 0, 1)[0], whole)


def test_what_made_the_trees_is_told(trees):
    """The generator leaves a note, the published images have none."""
    (trees / "edsr/settings.json").write_text('{"weights": "random:0", "seed": 3, "side": 64, "network": "edsr"}')
    found = origins_of_trees(from_files(trees))
    assert found["edsr"] == "this project's generator, weights random:0, seed 3, short side 64"
    assert "no settings.json" in found["cae"] and list(found) == ["edsr", "cae"]


def test_every_tree_that_is_missing_is_named(trees):
    settings = from_files(trees, folders=(f"{trees}/one", f"{trees}/other"))
    edsr, cae = data.examine(settings)[0]
    assert f"EDSR in {trees}/one" in edsr and f"CAE in {trees}/other" in cae
    command = f"--source=folder:{trees / 'data'} --split=train --network=cae --output=DIR --weights=FILE"
    assert f"python -m nofrost_jax.tools.deepaugment {command}" in cae and "README of hendrycks/imagenet-r" in cae


def test_every_folder_is_listed_once(trees, monkeypatch):
    """Of images and of their distorted versions: for the check, the fingerprints, the batches."""
    listed = count_listings(monkeypatch)
    dataset = data.open(from_files(trees))
    assert set(dataset.training_fingerprint) == {"images", "contents", "deepaugment"} and dataset.fingerprint
    for batches in (dataset.train_batches(0), dataset.train_batches(3), dataset.eval_batches(4)):
        next(batches)
        batches.close()
    inside = [path for path in listed if path.startswith(str(trees))]
    assert len(inside) >= 9 and [path for path in inside if listed[path] > 1] == []


def test_edsr_alone_needs_no_other_folder(trees):
    settings = from_files(trees, sources=("edsr",), folders=(str(trees / "edsr"),))
    for batch in take(settings, 0, 3):
        greys = batch["deepaugment"].max((1, 2, 3))
        np.testing.assert_array_equal(greys, expected_grey(batch["index"], 0))


def test_held_out_images_shift_no_name(trees):
    settings = from_files(trees, sources=("cae",), holdout=4, eval_split="holdout", batch_size=8)
    kept = dataset_of(settings).train.places
    for batch in take(settings, 0, 2):
        np.testing.assert_array_equal(batch["deepaugment"].max((1, 2, 3)), expected_grey(kept[batch["index"]], 1))


def test_resume_with_files(trees):
    settings = from_files(trees)
    whole = take(settings, 0, 4)
    settings.data.workers = 1
    assert_resumes(settings, whole, [2])


def test_an_image_is_decoded_once_for_all_of_its_views(trees, monkeypatch):
    opened, original = [], Image.open
    monkeypatch.setattr(preprocess.Image, "open", lambda file: opened.append(1) or original(file))
    source = from_files(trees, mode="noise2net")
    views = dataset_of(source).view_maker
    image = encoded(picture(0))
    made = views.make(image, 0, 0, 0, 0)
    assert list(made) == list(NAMES) and len(opened) == 1
    source.data.views = ("clean",)
    views = dataset_of(source).view_maker
    np.testing.assert_array_equal(views.make(image, 0, 0, 0, 0)["image"], made["image"])


def test_only_the_view_of_the_coin_is_made(trees, monkeypatch):
    """One decoding an image, of the clean file or, for a distorted one, of two; and the coin's share of both."""
    opened, original = [], Image.open
    settings = from_files(trees, views=EITHER, sources=("edsr",))
    dataset = dataset_of(settings)
    split, views = dataset.train, dataset.view_maker
    monkeypatch.setattr(preprocess.Image, "open", lambda file: opened.append(1) or original(file))
    for position in range(20):
        opened.clear()
        made = views.make(split.load(0), 0, 0, 0, position)
        grey = (made["augmented"] == expected_grey(0, 0)).all()
        assert grey == made["is_deepaugment"] and len(opened) == 1 + grey


def test_fast_decoding_is_for_distorted_images_too(trees, monkeypatch):
    pytest.importorskip("simplejpeg")
    pytest.importorskip("cykooz_resizer")
    settings = from_files(trees, views=("clean", "deepaugment"), sources=("edsr",))
    file = trees / "edsr/ant/0.JPEG"
    file.write_bytes(encoded(picture(3)))
    dataset = dataset_of(settings)
    split, geometry = dataset.train, dataclasses.replace(dataset.geometry, fast=True)
    decoded, decode = [], preprocess.fast.decode
    monkeypatch.setattr(preprocess.fast, "decode", lambda image: decoded.append(image) or decode(image))
    made = maker(settings, geometry, dataset.trees).make(split.load(0), 0, 0, 0, 0)
    assert decoded[-1] == file.read_bytes() and len(decoded) == 2
    draws = preprocess.augmentation_draws(0, 0, 0, geometry.draws + 1, rng.DEEPAUGMENT)
    np.testing.assert_array_equal(made["deepaugment"], preprocess.train_image(file.read_bytes(), geometry, draws[:-1]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda trees: shutil.rmtree(trees / "cae"), ["no DeepAugment images of CAE", "folders[1]"]),
        (lambda trees: shutil.rmtree(trees / "edsr" / "bee"), ["6 of 12 DeepAugment images of EDSR", "bee/0.JPEG"]),
        (lambda trees: (trees / "cae/ant/3.png").unlink(), ["1 of 12 DeepAugment images of CAE", "ant/3.JPEG"]),
    ],
)
def test_what_is_missing_is_one_line(trees, damage, words):
    damage(trees)
    settings = from_files(trees)
    (line,) = data.examine(settings)[0]
    assert all(word in line for word in [*words, str(trees)]) and "\n" not in line
    with pytest.raises(UserError, match=words[0]):
        take(settings, 0, 1)


def test_a_source_without_files_has_no_distorted_ones(trees):
    settings = settings_of("digits", image_size=8, mode="files", folders=(str(trees / "edsr"), str(trees / "cae")))
    (line,) = data.examine(settings)[0]
    assert "digits has no files" in line and "folder:PATH" in line


def test_a_damaged_or_vanished_distorted_image_is_named(trees):
    settings = from_files(trees, sources=("edsr",))
    file = trees / "edsr/bee/2.JPEG"
    whole = file.read_bytes()
    file.write_bytes(whole[:60])
    with pytest.raises(UserError, match=r"edsr/bee/2\.JPEG"):
        take(settings, 0, 1)
    file.write_bytes(whole)
    batches = dataset_of(settings).train_batches(0)
    next(batches)
    file.unlink()
    with pytest.raises(UserError, match=r"edsr/bee/2\.JPEG"):
        list(itertools.islice(batches, 4))


def test_weights_that_are_not_there_are_one_line(tmp_path):
    settings = settings_of("fake", mode="on_device", image_size=16)
    settings.deepaugment.weights = f"{tmp_path}/edsr.pt"
    (line,) = data.examine(settings)[0]
    assert "config.deepaugment.weights" in line and f"{tmp_path}/edsr.pt" in line and "EDSR_Weights" in line
    settings.deepaugment.weights = "random:3"
    assert data.examine(settings)[0] == []
