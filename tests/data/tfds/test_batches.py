"""What the real ImageNet builder's batches hold, of ArrayRecord and of TFRecord files."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from nofrost_jax import data
from nofrost_jax.data import folder, preprocess, records, rng
from nofrost_jax.data.choice import Choice
from tests.data.helpers import (
    assert_equal_batches,
    assert_equal_streams,
    assert_resumes,
    assert_silent,
    complaint,
    config,
    dataset_of,
    joined,
    take,
    validation_files,
    write,
)
from tests.data.tfds.conftest import NUM_EVAL, NUM_TRAIN, in_sequence, prepare_with_tfds

pytest.importorskip("tensorflow_datasets")


def examples(split, epoch=0, process=(0, 1)):
    """(index, label, encoded image) of all training examples, or of one process's share of an epoch."""
    if isinstance(split, records.Records):
        return [(i, *split.example(i)[::-1]) for i in range(split.size)]
    parts = split.train(3, epoch, 0, 4, process)
    return [
        (int(i), int(label), image)
        for part in parts
        for i, label, image in zip(part.index, part.labels, part.images, strict=True)
    ]


def official_labels():
    path = Path(sys.modules["tensorflow_datasets"].__file__).parent / "datasets/imagenet2012/validation_labels.txt"
    wnids = folder._imagenet_wnids()
    return [wnids.index(wnid) for wnid in path.read_text().split()[:NUM_EVAL]]


def test_bytes_and_labels(settings, imagenet):
    """Every stored image is the source's, byte by byte, with its label; every index belongs to one image."""
    dataset = data.open(settings)
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes) == (NUM_TRAIN, NUM_EVAL, 1000)
    assert dataset.eval_split == "validation"
    found = examples(dataset_of(settings).train)
    assert sorted(found)[0][0] == 0 and len({i for i, _, _ in found}) == NUM_TRAIN
    assert sorted((label, image) for _, label, image in found) == sorted(
        (c, image) for c, images in imagenet[1].items() for image in images
    )
    settings.data.train_split = "validation"
    found = examples(dataset_of(settings).train)
    kept = len(found)  # Sequential access drops what fills no batch.
    assert kept == (NUM_EVAL // 4 * 4 if in_sequence(settings) else NUM_EVAL)
    assert {(image, label) for _, label, image in found} <= set(zip(imagenet[2], official_labels(), strict=True))
    settings.data.train_split = "train"


def test_index_names_the_same_image_in_every_epoch_and_share(settings):
    split = dataset_of(settings).train
    seen = {}
    for epoch, process in itertools.product(range(2), [(0, 1), (0, 2), (1, 2)]):
        for index, _, image in examples(split, epoch, process):
            assert seen.setdefault(index, image) == image
    assert len(set(seen.values())) == len(seen) == NUM_TRAIN


def test_several_record_files(settings, imagenet, tmp_path):
    """Real ImageNet has 1,024 files; index, order of evaluation and shares must not depend on their number."""
    kind = "tfrecord" if in_sequence(settings) else "array_record"
    target = tmp_path / kind
    prepare_with_tfds(target, imagenet[3], kind, num_shards=2)
    (whole,) = dataset_of(settings).eval_batches(NUM_EVAL)
    settings.data.data_dir = str(target)
    assert len(list(target.rglob(f"*train.{kind}*"))) == 2
    (sharded,) = dataset_of(settings).eval_batches(NUM_EVAL)
    assert_equal_batches(whole, sharded)
    settings.data.eval_split = "train"  # 18 and 18 examples; tfds by itself would take turns after 16.
    (everything,) = dataset_of(settings).eval_batches(NUM_TRAIN)
    assert everything["index"].tolist() == list(range(NUM_TRAIN))
    settings.data.eval_split = "validation"
    test_bytes_and_labels(settings, imagenet)
    test_index_names_the_same_image_in_every_epoch_and_share(settings)
    test_resume_at_any_step(settings)
    test_two_processes_are_disjoint(settings)


def test_pixels(settings, imagenet):
    geometry = preprocess.Geometry(16, 18)
    want = {preprocess.eval_image(image, geometry).tobytes() for image in imagenet[2]}
    (batch,) = dataset_of(settings).eval_batches(13)
    assert {image.tobytes() for image in batch["image"]} == want
    settings.data.augmentation = "none"
    want = {preprocess.eval_image(i, geometry).tobytes() for images in imagenet[1].values() for i in images}
    assert {image.tobytes() for image in take(settings, 0, 1)[0]["image"]} <= want


def test_resume_at_any_step(settings):
    whole = take(settings, 0, 10)  # Four steps an epoch.
    assert_resumes(settings, whole, (1, 3, 4, 6, 8, 9))


def test_epochs_and_seeds_differ(settings):
    index = np.concatenate([batch["index"] for batch in take(settings, 0, 8)]).reshape(2, 32)
    assert [len(set(epoch)) for epoch in index.tolist()] == [32, 32]
    assert (index[0] != index[1]).mean() > 0.5
    assert (np.sort(index[0]) != index[0]).any()
    settings.seed = 1
    assert (take(settings, 0, 1)[0]["index"] != index[0, :8]).any()


def test_worker_count_changes_no_byte(settings):
    settings.data.workers = 1
    one = take(settings, 2, 4)
    settings.data.workers = 5
    assert_equal_streams(one, take(settings, 2, 4))


def test_two_processes_are_disjoint(settings):
    parts = [take(settings, 0, 4, process_index=k, process_count=2) for k in (0, 1)]
    seen = [{int(i) for batch in part for i in batch["index"]} for part in parts]
    assert [len(part) for part in seen] == [16, 16] and not seen[0] & seen[1]
    assert {len(batch["label"]) for part in parts for batch in part} == {4}


def test_both_formats_hold_the_same_images(imagenet_config, tfrecord):
    """The same index is the same image, training and evaluation, slices and sums of them."""
    settings, formats = imagenet_config, (imagenet_config.data.data_dir, tfrecord)
    for train in ("train", "train[5:20]", "validation+train[:50%]", "train[30:]+train[:7]"):
        settings.data.train_split = train
        found = []
        for settings.data.data_dir in formats:
            split = dataset_of(settings).train
            found.append({i: (label, image) for i, label, image in examples(split)})
        random, sequential = found
        assert sorted(random) == list(range(len(random))) and len(random) - len(sequential) < 4
        assert sequential.items() <= random.items()
        settings.data.eval_split = train
        batches = []
        for settings.data.data_dir in formats:
            batches.append(list(dataset_of(settings).eval_batches(8)))
        assert_equal_streams(*batches)
        assert [label for label, _ in (random[i] for i in range(len(random)))] == [
            int(label) for batch in batches[0] for label in batch["label"][batch["mask"]]
        ]


def test_random_access_batches_do_not_depend_on_the_processes(imagenet_config):
    whole = take(imagenet_config, 2, 5)  # Over the end of the first epoch.
    parts = [take(imagenet_config, 2, 5, process_index=k, process_count=4) for k in range(4)]
    assert_equal_streams(whole, joined(parts))


def test_random_access_holds_images_out(imagenet_config, tfrecord):
    imagenet_config.data.holdout, imagenet_config.data.eval_split = 6, "holdout"
    spec = data.open(imagenet_config)
    assert (spec.num_train, spec.num_eval) == (30, 6)
    imagenet_config.data.data_dir = tfrecord
    message = complaint(data.open, imagenet_config)
    assert "read in sequence" in message and 'train_split = "train[:90%]"' in message


@pytest.mark.parametrize(("batch_size", "count"), [(4, 1), (4, 2), (12, 2), (8, 4), (64, 2)])
def test_eval_is_exact(settings, batch_size, count):
    (whole,) = dataset_of(settings).eval_batches(NUM_EVAL)
    for limit in (0, 5):
        total, choice = limit or NUM_EVAL, Choice(limit)
        parts = [list(dataset_of(settings, choice).eval_batches(batch_size, k, count)) for k in range(count)]
        assert {len(part) for part in parts} == {-(-total // batch_size)}
        batches = joined(parts)
        mask = np.concatenate([batch["mask"] for batch in batches])
        places = np.concatenate([batch["index"] for batch in batches])[mask]
        assert len(places) == total and (np.diff(places) > 0).all()
        for name in ("image", "label", "index"):
            values = np.concatenate([batch[name] for batch in batches])
            np.testing.assert_array_equal(values[mask], whole[name][places])
            assert (values[~mask] == (-1 if name == "index" else 0)).all()


def test_the_same_images_as_of_a_folder(settings, imagenet, tmp_path):
    """A limit and a list choose the same files, of record files of either format and of a folder of them."""
    wnids, labels = folder._imagenet_wnids(), official_labels()
    names = [*validation_files(imagenet[2])]
    for name, label, image in zip(names, labels, imagenet[2], strict=True):
        write(tmp_path / "val" / wnids[label] / name, image)
    (tmp_path / "ids.txt").write_text(
        f"val/{wnids[labels[7]]}/{names[7]}\n{wnids[labels[2]]}/{names[2]}\n{names[11]}\n"
    )
    tree = config(f"folder:{tmp_path}", num_classes=1000, eval_resize=18)
    for choice in (Choice(5), Choice.read(0, str(tmp_path / "ids.txt")), Choice(1, tuple(names[3:6]))):
        ours, theirs = (next(dataset_of(one, choice).eval_batches(8)) for one in (settings, tree))
        found, expected = ({image.tobytes() for image in one["image"][one["mask"]]} for one in (ours, theirs))
        assert found == expected and len(found) == choice.count(NUM_EVAL)
        ranks = [dataset_of(one, choice).eval_ranks for one in (settings, tree)]
        chosen = [one["image"][one["mask"]][np.argsort(rank)] for one, rank in zip((ours, theirs), ranks, strict=True)]
        np.testing.assert_array_equal(*chosen)
    for line in (f"{wnids[(labels[0] + 1) % 1000]}/{names[1]}", "nothing.JPEG"):
        message = complaint(dataset_of(settings, Choice(0, (line,), "ids.txt")).eval_batches, 8)
        assert "1 of 1 ids are none of the 13 images" in message


def test_views_of_an_image(settings, imagenet):
    """From the same bytes, each with its own draws; the image is what it is without them, resumed or not."""
    plain = take(settings, 0, 6)
    settings.data.views, settings.data.tda_crop_scale = ("clean", "deepaugment", "tda"), (0.64, 1.0)
    settings.deepaugment = {"mode": "noise2net", "folders": (), "sources": ("edsr", "cae")}
    whole = take(settings, 0, 6)
    for batch, alone in zip(whole, plain, strict=True):
        assert_equal_batches({name: batch[name] for name in alone}, alone)
        assert (batch["tda"] != batch["image"]).any() and (batch["tda"] != batch["deepaugment"]).any()
    assert_resumes(settings, whole, [5])
    geometry = preprocess.Geometry(16, 18, "random_resized_crop", (0.64, 1.0))
    settings.data.data_dir = imagenet[0]
    stored = dataset_of(settings).train
    for row, index in enumerate(whole[1]["index"]):
        draws = preprocess.augmentation_draws(settings.seed, 0, 8 + row, geometry.draws, rng.TDA)
        expected = preprocess.train_image(stored.load(int(index)), geometry, draws)
        np.testing.assert_array_equal(whole[1]["tda"][row], expected)


def test_slices_of_splits(settings):
    settings.data.train_split, settings.data.eval_split = "train[:24]", "train[24:]"
    assert data.open(settings).num_train == 24
    train = {int(i) for batch in take(settings, 0, 3) for i in batch["index"]}
    held_out = {int(i) for batch in dataset_of(settings).eval_batches(12) for i in batch["index"]}
    assert train == set(range(24)) and held_out == set(range(NUM_TRAIN - 24))  # Places within each slice.


def test_silent_from_import_to_exit(settings):
    """No chatter, no hang with live iterators; no TensorFlow, or no accelerator visible to it."""
    hidden = "not sys.modules['tensorflow'].config.get_visible_devices('GPU')"
    expected = hidden if in_sequence(settings) else "'tensorflow' not in sys.modules"
    program = (
        "import sys; from nofrost_jax import data; from tests.data.helpers import config\n"
        f"c = config('tfds:imagenet2012', data_dir={settings.data.data_dir!r}, num_classes=1000, eval_resize=18)\n"
        "d = data.open(c); live = [d.train_batches(2), d.eval_batches(4)]; [next(b) for b in live]\n"
        f"assert {expected}\n"
    )
    assert_silent(program, timeout=120)
