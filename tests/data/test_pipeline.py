"""What a batch holds, for the sources with random access."""

import gc
import itertools
import threading

import numpy as np
import pytest

from nofrost_jax import data
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import UserError
from tests.data.helpers import (
    assert_equal_streams,
    assert_resumes,
    assert_silent,
    config,
    dataset_of,
    encoded,
    joined,
    picture,
    take,
    write,
)

CONFIGS = {
    "fake": config("fake", augmentation="random_resized_crop"),
    "fake_pad": config("fake", augmentation="pad_crop_flip", batch_size=12),
    "fake_plain": config("fake"),
    "digits": config("digits", image_size=8, batch_size=100),
    "digits_resized": config("digits", image_size=12, batch_size=100, augmentation="pad_crop_flip"),
}


@pytest.fixture(params=CONFIGS)
def settings(request):
    return CONFIGS[request.param].copy_and_resolve_references()


def test_shapes_and_types(settings):
    batch = take(settings, 0, 1)[0]
    b, side = settings.batch_size, settings.data.image_size
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "image": ((b, side, side, 3), "uint8"),
        "label": ((b,), "int32"),
        "index": ((b,), "int32"),
    }


def test_resume_at_any_step(settings):
    """Over the end of the first epoch, too."""
    n = data.open(settings).steps_per_epoch + 3
    whole = take(settings, 0, n)
    assert_resumes(settings, whole, sorted({1, n // 2, n - 4, n - 3, n - 1}))


def test_epochs_are_different_permutations(settings):
    spec = data.open(settings)
    n = spec.steps_per_epoch
    assert n == spec.num_train // settings.batch_size
    index = np.concatenate([batch["index"] for batch in take(settings, 0, 2 * n)]).reshape(2, -1)
    for epoch in index:
        assert len(np.unique(epoch)) == len(epoch) and epoch.min() >= 0 and epoch.max() < spec.num_train
    assert (index[0] != index[1]).mean() > 0.5
    settings.seed = 1
    assert (take(settings, 0, 1)[0]["index"] != index[0, : settings.batch_size]).any()


def test_augmentation_differs_between_epochs():
    """One image at one place, again and again."""
    settings = config("fake", augmentation="random_resized_crop", fake_train=1, batch_size=1)
    assert len({batch["image"].tobytes() for batch in take(settings, 0, 5)}) == 5


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch(settings, count):
    n = data.open(settings).steps_per_epoch + 1
    whole = take(settings, 2, n)
    parts = [take(settings, 2, n, process_index=k, process_count=count) for k in range(count)]
    assert_equal_streams(whole, joined(parts))


def test_worker_count_changes_no_byte(settings):
    batches = []
    for workers in (1, 3, 8):
        settings.data.workers = workers
        batches.append(take(settings, 1, 3))
    for other in batches[1:]:
        assert_equal_streams(batches[0], other)


@pytest.mark.parametrize("batch_size", [4, 8, 12, 100, 360])
@pytest.mark.parametrize("count", [1, 2])
def test_eval_is_exact(settings, batch_size, count):
    spec = data.open(settings)
    for limit in (0, 5, 10**6):
        total = min(limit, spec.num_eval) if limit else spec.num_eval
        choice = Choice(limit)
        parts = [list(dataset_of(settings, choice).eval_batches(batch_size, k, count)) for k in range(count)]
        assert {len(part) for part in parts} == {-(-total // batch_size)}
        batches = joined(parts)
        mask = np.concatenate([batch["mask"] for batch in batches])
        index = np.concatenate([batch["index"] for batch in batches])
        assert len(np.unique(index[mask])) == total and (np.diff(index[mask]) > 0).all()
        assert total < spec.num_eval or index[mask].tolist() == list(range(total))
        assert mask.sum() == total and (index[~mask] == -1).all()
        for batch in batches:
            assert len(batch["mask"]) == batch_size and batch["mask"].dtype == bool
            assert not batch["image"][~batch["mask"]].any() and not batch["label"][~batch["mask"]].any()
            assert batch["image"][batch["mask"]].any(axis=(1, 2, 3)).all()


def test_eval_content_does_not_depend_on_the_batch_size():
    settings = config("fake")
    small = np.concatenate([b["image"][b["mask"]] for b in dataset_of(settings).eval_batches(4)])
    large = np.concatenate([b["image"][b["mask"]] for b in dataset_of(settings).eval_batches(32)])
    np.testing.assert_array_equal(small, large)


def test_batches_are_not_shared():
    """A batch that the caller overwrites must not come back in another one."""
    for settings in CONFIGS.values():
        for batch in take(settings, 0, 1):
            batch["image"][:] = 0
            batch["label"][:] = 0
        assert take(settings, 0, 1)[0]["image"].any()


def test_fake_is_learnable():
    settings = config("fake", fake_train=200, num_classes=10, batch_size=100)
    train, other = take(settings, 0, 2)
    means = np.stack([train["image"][train["label"] == c].mean(axis=(0, 1, 2)) for c in range(10)])
    distance = ((other["image"].mean(axis=(1, 2))[:, None] - means) ** 2).sum(-1)
    assert (distance.argmin(-1) == other["label"]).mean() > 0.9
    assert len(np.unique(train["image"].reshape(100, -1), axis=0)) == 100


def test_damaged_file_is_named_from_the_thread(tmp_path):
    for split, name, i in itertools.product(("train", "val"), "ab", range(4)):
        write(tmp_path / split / name / f"{i}.jpg", encoded(picture(i)))
    broken = tmp_path / "train" / "b" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    settings = config(f"folder:{tmp_path}", batch_size=4)
    for batches in (dataset_of(settings).train_batches(0), dataset_of(settings).train_batches(7)):
        with pytest.raises(UserError, match=r"b/2\.jpg") as info:
            list(itertools.islice(batches, 2))
        assert "\n" not in str(info.value)
    (tmp_path / "val" / "a" / "0.jpg").unlink()
    batches = dataset_of(settings).eval_batches(4)
    (tmp_path / "val" / "b" / "3.jpg").unlink()
    assert sum(int(batch["mask"].sum()) for batch in dataset_of(settings).eval_batches(4)) == 6
    with pytest.raises(UserError, match=r"b/3\.jpg"):  # Vanished after it had been listed.
        list(batches)


def data_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("data")]


def test_threads_end_with_the_iterator():
    settings = CONFIGS["fake"]
    for end in ("close", "collect"):
        batches = dataset_of(settings).train_batches(0)
        next(batches)
        assert data_threads()
        batches.close() if end == "close" else None
        del batches
        gc.collect()
        assert not data_threads()


def test_exit_with_a_live_iterator_is_quick_and_silent():
    """Neither a hang nor a warning; and these sources import no TensorFlow."""
    program = (
        "import sys; from nofrost_jax import data; from tests.data.test_pipeline import CONFIGS\n"
        "live = [data.open(c, ()).train_batches(0) for c in CONFIGS.values()]; [next(b) for b in live]\n"
        "assert 'tensorflow' not in sys.modules"
    )
    assert_silent(program, timeout=60)


def test_batch_must_divide():
    with pytest.raises(UserError, match="8 cannot be shared by 3"):
        data.open(config("fake"), ()).train_batches(0, 0, 3)
