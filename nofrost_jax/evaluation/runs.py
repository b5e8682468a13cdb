"""From a run's config to the engine: its net, its images, its attacks, what else is measured."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from nofrost_jax import classifier
from nofrost_jax.analysis.properties import Properties, Thickness
from nofrost_jax.attacks import PGD
from nofrost_jax.data import Dataset
from nofrost_jax.evaluation import protocols
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.programs import Programs
from nofrost_jax.fields import to_plain
from nofrost_jax.parallel import Devices


def programs(config: ConfigDict, devices: Devices) -> Programs:
    """The Programs of a resolved config's net, in its evaluation's batches."""
    size = config.evaluation.batch_size // jax.process_count()
    freeze = functools.partial(classifier.frozen, classifier.create_model(config.model, dtype="float32"))
    return Programs(classifier.logits_fns(config), config.model.num_classes, devices, size, freeze)


def evaluator(config: ConfigDict, devices: Devices, dataset: Dataset, compiled: Programs | None = None) -> Evaluator:
    """The Evaluator of a resolved config: every attack of `evaluation.attacks` on the evaluation images of a Dataset.
    compiled: the Programs of the same net and batch, if there are any. It runs on the variables of
    `classifier.at_gamma` for `evaluation.mbn_gamma`."""
    return Evaluator(
        compiled or programs(config, devices),
        Split(dataset),
        net_of(config),
        config.seed,
        protocols=tuple(protocols.make_all(config)),
        save_images=config.evaluation.save_images,
        properties=properties_of(config),
    )


def properties_of(config: ConfigDict) -> Properties | None:
    """What `config.evaluation.properties` says to measure. Raises ValueError for values that cannot be, also where
    nothing is measured."""
    section = config.evaluation.properties
    names = [field.name for field in dataclasses.fields(Thickness)]
    options = Thickness(**{name: section[name] for name in names})
    radius = config.attack.epsilon_255 / 255
    attack = PGD(radius, section.steps, section.step_rule, norm=config.attack.norm)
    return Properties(tuple(config.data.std), attack, options) if section.measure else None


def net_of(config: ConfigDict) -> dict[str, Any]:
    """What a config's net is apart from its parameters: plain values."""
    names = ("mbn_gamma", "mbn_interpolation", "mbn_p", "mbn_seed") if config.model.norm == "mbn" else ("mbn_gamma",)
    return {"model": to_plain(config)["model"], **{name: config.evaluation[name] for name in names}}


class Split:
    """The evaluation images of a Dataset, a set. count: how many; chunk_size: of them in memory at once."""

    def __init__(self, dataset: Dataset):
        self._dataset, self.count = dataset, dataset.count
        # Each process has its own chunks: where there are few images, smaller ones, so that none is idle.
        self.chunk_size = min(dataset.config.evaluation.chunk_size, -(-self.count // jax.process_count()))

    def batches(self, size: int, process: int, processes: int, wanted: Callable[[int], bool]) -> Iterator[dict]:
        """See `Dataset.eval_batches`."""
        return self._dataset.eval_batches(size, process, processes, wanted)

    def ranks(self) -> np.ndarray:
        """The place of each image in the order of classes and file names, which is that of any source: int [count]."""
        return self._dataset.eval_ranks

    def identity(self) -> dict[str, Any]:
        """What makes these images different from others, plain values. Of a folder and of tfds, the contents count
        (`Dataset.fingerprint`), not the place; how they are read is left out. Raises UserError."""
        section = self._dataset.config.data
        geometry = ["source", "eval_split", "image_size", "eval_resize", "eval_pad", "mean", "std"]
        if self._dataset.is_holdout:
            geometry += ["holdout", "train_split"]  # which images these are
        plain = to_plain(section)
        found = {name: plain[name] for name in geometry}
        if contents := self._dataset.fingerprint:
            found |= {"source": "folder" if section.source.startswith("folder:") else section.source}
            found |= {"contents": contents}
        return {"data": found, **self._dataset.choice.plain}
