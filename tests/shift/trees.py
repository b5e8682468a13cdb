"""Fake evaluation sets on disk whose right answers are known: trees of tiny PNGs, labelled by what the net says."""

import collections
import functools
import json

import jax
import numpy as np
from ml_collections import ConfigDict

import nofrost_jax
from nofrost_jax import checkpoint, fields, files
from nofrost_jax.data.folder import _imagenet_wnids
from nofrost_jax.shift.label_sets import IMAGENET_A, IMAGENET_R
from nofrost_jax.shift.scores import ALEXNET, SEVERITIES
from tests.data.helpers import encoded
from tests.evaluation.suite import make_run

SUITE = ("--mode=evaluate", "--config=configs/eval/shift.py")
COUNTS = {"imagenet_r": 30, "imagenet_sketch": 9, "imagenet_a": 11, "imagenet_v2": 10, "imagenet_c": 4}
OWN_COUNTS = [f"--config.shift.{name}.count={count}" for name, count in COUNTS.items()]
SIDE = 8
Set = collections.namedtuple("Set", "images labels correct")  # in the order of the index


@functools.cache
def wnids():
    return _imagenet_wnids()


def make_imagenet_run(folder, data_dir):
    """A run on ImageNet's classes, of random variables, whose data lies in `data_dir`."""
    return make_run(
        folder,
        "nofrost",
        model__num_classes=1000,
        data__source="folder:imagenet",
        data__data_dir=str(data_dir),
        data__image_size=SIDE,
        evaluation__batch_size=8,
    )


def pictures(seed, count):
    """uint8 [count, SIDE, SIDE, 3]."""
    return np.random.default_rng([seed, 4]).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


_load = functools.cache(nofrost_jax.load)


@jax.jit
def _forward(classifier, images):
    with jax.default_matmul_precision("highest"):
        return classifier(images)


def logits(run, images):
    """The net's float32 logits, NumPy [N, K], N <= 32; one shape compiles once."""
    padded = np.zeros((32, *images.shape[1:]), np.uint8)
    padded[: len(images)] = images
    return np.asarray(_forward(_load(run), padded))[: len(images)]


def labelled(run, images, allowed, wrong):
    """Labels out of the list `allowed`: the net's best answer among these, except for the first `wrong` images, which
    get its worst."""
    scores = logits(run, images)[:, allowed]
    best, worst = (np.array(allowed)[pick(scores, axis=1)] for pick in (np.argmax, np.argmin))
    return np.where(np.arange(len(images)) < wrong, worst, best)


def write(root, images, labels, wrong, names=None):
    """Writes root/CLASS/NUMBER.png, `names` of the classes being WordNet ids; the Set."""
    names = [names[label] if names else wnids()[label] for label in labels]
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.png").write_bytes(encoded(image, kind="PNG"))
    order = sorted(range(len(labels)), key=lambda i: (names[i], i))
    return Set(images[order], labels[order], np.arange(len(labels))[order] >= wrong)


def make_set(run, root, seed, count, wrong, allowed=range(1000), names=None):
    """A set of `count` images at `root`, of which the net gets the first `wrong` wrong."""
    images = pictures(seed, count)
    labels = labelled(run, images, list(allowed), wrong)
    return write(root, images, labels, wrong, names)


def wrong_in(corruption, severity):
    """How many of the four images of a cell the net is to get wrong."""
    return (list(ALEXNET).index(corruption) + severity) % 5


def make_imagenet(root):
    """(root with every set, run, {name or cell: Set})."""
    run = make_imagenet_run(root / "run", root)
    numbers = [str(label) for label in range(1000)]
    sets = {
        "clean": make_set(run, root / "imagenet/val", 1, 13, wrong=4),
        "imagenet_r": make_set(run, root / "imagenet-r", 2, 30, wrong=12, allowed=IMAGENET_R),
        "imagenet_a": make_set(run, root / "imagenet-a", 3, 11, wrong=7, allowed=IMAGENET_A),
        "imagenet_sketch": make_set(run, root / "sketch", 4, 9, wrong=3),
        "imagenet_v2": make_set(run, root / "imagenetv2-matched-frequency-format-val", 5, 10, wrong=2, names=numbers),
    }
    for position, corruption in enumerate(ALEXNET):
        for severity in SEVERITIES:
            folder = root / "ImageNet-C" / corruption / str(severity)
            wrong = wrong_in(corruption, severity)
            sets[corruption, severity] = make_set(run, folder, 100 + 5 * position + severity, 4, wrong)
    return root, run, sets


def change_config(run, **changes):
    """Changes fields of `data` in the config of a run, as if it had been trained so."""
    config = json.loads((run / "config.json").read_text())
    config["data"].update(changes)
    (run / "config.json").write_text(json.dumps(config))
    checkpoints = checkpoint.Checkpoints(str(run))
    checkpoints.amend(7, fields.identity(ConfigDict(config)))
    checkpoints.close()


def read(run, name="shift"):
    """The result."""
    return files.read_json(run / f"evaluations/{name}.json")


def by_name(result):
    """{name: entry} of its sets."""
    return {entry["name"]: entry for entry in result["shift"]}
