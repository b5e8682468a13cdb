"""The embedded digits."""

import numpy as np
from sklearn.datasets import load_digits

from nofrost_jax import data
from tests.data.helpers import config, dataset_of

SETTINGS = config("digits", image_size=8, batch_size=1437)


def test_split():
    dataset = data.open(SETTINGS)
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes) == (1437, 360, 10)
    assert (dataset.eval_split, dataset.eval_crop) == (SETTINGS.data.eval_split, "none, 8")
    train = next(data.open(SETTINGS, ()).train_batches(0))
    (held_out,) = dataset_of(SETTINGS).eval_batches(360)
    assert np.bincount(held_out["label"]).tolist() == [36] * 10
    both = np.concatenate([train["image"], held_out["image"]]), np.concatenate([train["label"], held_out["label"]])
    assert sorted(zip(both[0].reshape(1797, -1).tolist(), both[1].tolist(), strict=True)) == sorted(
        zip(expected().reshape(1797, -1).tolist(), load_digits().target.tolist(), strict=True)
    )


def expected():
    return np.stack([np.round(load_digits().images * 255 / 16).astype(np.uint8)] * 3, axis=-1)


def test_split_rule():
    """The evenly spaced 36 of each class, in the data set's order."""
    target = load_digits().target
    (held_out,) = dataset_of(SETTINGS).eval_batches(360)
    zeros = [i for i in range(1797) if target[i] == 0]
    want = [zeros[(2 * i + 1) * len(zeros) // 72] for i in range(36)]
    np.testing.assert_array_equal(held_out["image"][held_out["label"] == 0], expected()[want])


def test_range_and_channels():
    image = next(data.open(SETTINGS, ()).train_batches(0))["image"]
    assert image.min() == 0 and image.max() == 255
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_other_size():
    settings = config("digits", image_size=32, eval_resize=256, batch_size=32)
    assert data.open(settings).eval_crop == "none, 32"
    assert next(dataset_of(settings).train_batches(0))["image"].shape == (32, 32, 32, 3)
