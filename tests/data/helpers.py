"""Small configs, home-made image files and archives, and training batches for the data tests."""

import collections
import io
import itertools
import os
import subprocess
import sys
import tarfile

import ml_collections
import numpy as np
import pytest
from PIL import Image

from nofrost_jax import data
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import UserError


def config(source: str, batch_size: int = 8, num_classes: int = 10, seed: int = 0, **more) -> ml_collections.ConfigDict:
    """A config with what the data room reads; `more` overrides fields of `config.data`."""
    fields = {
        "source": source,
        "data_dir": "",
        "train_split": "train",
        "eval_split": "validation",
        "image_size": 16,
        "eval_resize": 0,
        "augmentation": "none",
        "crop_scale": (0.08, 1.0),
        "eval_pad": False,
        "train_resize": 0,
        "views": ("clean",),
        "tda_crop_scale": (0.64, 1.0),
        "holdout": 0,
        "other_files": "raise",
        "workers": 2,
        "decode": "exact",
        "on_error": "raise",
        "shuffle_buffer": 16,
        "fake_train": 52,
        "fake_eval": 21,
    }
    fields.update(more)
    rest = {"seed": seed, "batch_size": batch_size, "model": {"num_classes": num_classes}}
    return ml_collections.ConfigDict(rest | {"data": fields, "evaluation": {"limit": 0, "ids": "", "classes": 0}})


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


def write(path, content: bytes) -> None:
    """The file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def archive(members: dict[str, bytes]) -> bytes:
    """A tar file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def write_imagenet_tars(folder, train: dict[str, dict[str, bytes]], evaluation: dict[str, bytes]) -> None:
    """The two archives of ImageNet, of {WordNet ID: {file: content}} and {file: content}."""
    classes = {f"{wnid}.tar": archive(images) for wnid, images in train.items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(archive(classes))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(archive(evaluation))


def validation_files(images) -> dict[str, bytes]:
    """Validation images under the names that ImageNet gives them."""
    return {f"ILSVRC2012_val_{i:08d}.JPEG": image for i, image in enumerate(images, 1)}


def dataset_of(settings, choice: Choice | None = None) -> data.Dataset:
    """The data of a config, not checked; choice: in the place of what the config chooses."""
    dataset = data.open(settings, check=())
    if choice is not None:
        vars(dataset)["choice"] = choice
    return dataset


def count_listings(monkeypatch) -> collections.Counter:
    """{folder: how often it was listed} from now on, kept up to date."""
    counts, scandir, listdir = collections.Counter(), os.scandir, os.listdir
    monkeypatch.setattr(os, "scandir", lambda path: counts.update([str(path)]) or scandir(path))
    monkeypatch.setattr(os, "listdir", lambda path: counts.update([str(path)]) or listdir(path))
    return counts


def take(settings, start: int, n: int, **process) -> list[dict]:
    """The n training batches from a step on, of one process."""
    batches = dataset_of(settings).train_batches(start, **process)
    try:
        return list(itertools.islice(batches, n))
    finally:
        batches.close()


def joined(parts) -> list[dict]:
    """The batches whose shares several processes have."""
    steps = zip(*parts, strict=True)
    return [{name: np.concatenate([share[name] for share in shares]) for name in shares[0]} for shares in steps]


def assert_equal_batches(left: dict, right: dict) -> None:
    """Same keys, dtypes and bytes."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def assert_equal_streams(left, right) -> None:
    """As many batches, each the same."""
    for one, other in zip(left, right, strict=True):
        assert_equal_batches(one, other)


def assert_resumes(settings, whole: list[dict], starts) -> None:
    """Training that starts at any of these steps has the rest of the batches that one had from step 0 on."""
    for start in starts:
        assert_equal_streams(whole[start:], take(settings, start, len(whole) - start))


def assert_silent(program: str, timeout: float) -> None:
    """A Python process of its own runs the program to its end and says nothing, where every warning is an error."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def complaint(call, *args, **options) -> str:
    """The message of the UserError that a call ends in: one line of what, where and what to do."""
    with pytest.raises(UserError) as info:
        call(*args, **options)
    message = str(info.value)
    assert "\n" not in message and message.count(";") >= 2, message
    return message
