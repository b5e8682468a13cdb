"""Small configs and home-made image files for the data tests."""

import io

import ml_collections
import numpy as np
from PIL import Image


def config(source: str, batch_size: int = 8, num_classes: int = 10, seed: int = 0, **data) -> ml_collections.ConfigDict:
    """A config with what the data room reads; `data` overrides fields of `config.data`."""
    fields = {
        "source": source,
        "data_dir": "",
        "train_split": "train",
        "eval_split": "validation",
        "image_size": 16,
        "eval_resize": 0,
        "augmentation": "none",
        "crop_scale": (0.08, 1.0),
        "workers": 2,
        "decode": "exact",
        "on_error": "raise",
        "access": "random",
        "shuffle_buffer": 16,
        "fake_train": 52,
        "fake_eval": 21,
    }
    fields.update(data)
    return ml_collections.ConfigDict(
        {"seed": seed, "batch_size": batch_size, "model": {"num_classes": num_classes}, "data": fields}
    )


def picture(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    """Smooth and rough parts, uint8 [height, width, 3]; different for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x[..., None] * rng.uniform(0.1, 0.5, 3) + y[..., None] * rng.uniform(0.1, 0.5, 3))
    return np.clip(127 + 90 * waves + rng.integers(-30, 31, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(array: np.ndarray, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """The array as a file of the given format and colour mode."""
    file = io.BytesIO()
    Image.fromarray(array).convert(mode).save(file, kind)
    return file.getvalue()


def assert_equal_batches(left: dict, right: dict) -> None:
    """Same keys, dtypes and bytes."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype
        np.testing.assert_array_equal(value, right[name], err_msg=name)
