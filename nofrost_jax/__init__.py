"""nofrost_jax: adversarially robust image classifiers without batch norm, in JAX.

    classifier = nofrost_jax.load("runs/digits")       # a function of images in [0, 1]
    logits = classifier(images)
    result = nofrost_jax.attacks.PGD(epsilon=8 / 255)(classifier, images, labels, keys)
    result = nofrost_jax.autoattack(classifier, images, labels)  # or any JAX function of images in [0, 1]

Importing this package loads neither TensorFlow nor clu; its folders are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nofrost_jax.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["__version__", "attacks", "autoattack", "load", "models"]

_ROOMS = ("attacks", "classifier", "data", "evaluation", "methods", "models")


def load(
    path: str,
    gamma: float | None = None,
    interpolation: str | None = None,
    p: float | None = None,
    seed: int | None = None,
) -> "Classifier":
    """The `Classifier` of a run's newest checkpoint, or of an export: uint8 or [0, 1] float images [N, H, W, 3] ->
    logits, float32 [N, K].

    path: a training's --workdir, or a folder with params.npz and config.json. gamma: weight of the adversarial branch
    of a mixture-BN net; interpolation, p, seed: where the branches are mixed (`Classifier`). None: the config's
    evaluation.mbn_*. Raises UserError if there is no run, or it does not fit its config.
    """
    from ml_collections import ConfigDict

    from nofrost_jax import models
    from nofrost_jax.checkpoint import load_variables, read_config
    from nofrost_jax.classifier import Classifier, create_model
    from nofrost_jax.errors import UserError

    config = ConfigDict(read_config(path))
    model = create_model(config.model)
    _, variables, _ = load_variables(path, models.abstract_variables(model, config.data.image_size))
    mixture = {"gamma": gamma, "interpolation": interpolation, "p": p, "seed": seed}
    given = [name for name, value in mixture.items() if value is not None]
    if given and not model.has_branches:
        raise UserError(f"{given[0]} is for mixture-BN nets, and {path} holds none; leave it out")
    mixture = {name: config.evaluation[f"mbn_{name}"] if value is None else value for name, value in mixture.items()}
    return Classifier(variables, model, tuple(config.data.mean), tuple(config.data.std), **mixture)


def __getattr__(name: str) -> Any:
    if name == "autoattack":
        return importlib.import_module("nofrost_jax.evaluation.autoattack").autoattack
    if name in _ROOMS:
        return importlib.import_module(f"nofrost_jax.{name}")
    raise AttributeError(f"module 'nofrost_jax' has no attribute {name!r}")
