"""nofrost_jax: adversarially robust image classifiers without batch norm, in JAX.

    classifier = nofrost_jax.load("runs/digits")       # a function of images in [0, 1]
    logits = classifier(images)
    result = nofrost_jax.attacks.PGD(epsilon=8 / 255)(classifier, images, labels, keys)
    result = nofrost_jax.autoattack(classifier, images, labels)  # or any JAX function of images in [0, 1]

Importing this package loads neither TensorFlow nor clu; rooms are imported on first use.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["__version__", "attacks", "autoattack", "load", "models"]

_ROOMS = ("attacks", "classifier", "data", "evaluation", "methods", "models")


def load(path, gamma=None, interpolation=None, p=None, seed=None):
    """The `Classifier` of a run's newest checkpoint, or of a folder with params.npz and config.json.

    path: a training run's --workdir, or an export. gamma: weight of the adversarial branch of a mixture-BN net;
    interpolation, p and seed: where the branches are mixed (`Classifier`); None takes the config's evaluation.mbn_*.
    Returns a function: uint8 or [0, 1] float images [N, H, W, 3] -> logits, float32 [N, K].
    Raises UserError where there is no run or it does not fit.
    """
    from ml_collections import ConfigDict

    from nofrost_jax import models
    from nofrost_jax.checkpoint import load_variables, read_config
    from nofrost_jax.classifier import Classifier, create_model
    from nofrost_jax.errors import UserError

    config = ConfigDict(read_config(path))
    model = create_model(config.model)
    size = config.data.image_size
    abstract = models.abstract_variables(model, size)
    _, variables, _ = load_variables(path, abstract)
    mixture = {"gamma": gamma, "interpolation": interpolation, "p": p, "seed": seed}
    given = [name for name, value in mixture.items() if value is not None]
    if given and not model.has_branches:
        raise UserError(f"{given[0]} weighs the two branches of a mixture-BN net, and {path} holds none; leave it out")
    mixture = {name: config.evaluation[f"mbn_{name}"] if value is None else value for name, value in mixture.items()}
    return Classifier(variables, model, tuple(config.data.mean), tuple(config.data.std), **mixture)


def __getattr__(name):
    if name == "autoattack":
        return importlib.import_module("nofrost_jax.evaluation.autoattack").autoattack
    if name in _ROOMS:
        return importlib.import_module(f"nofrost_jax.{name}")
    raise AttributeError(f"module 'nofrost_jax' has no attribute {name!r}")
