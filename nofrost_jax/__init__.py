"""nofrost_jax: adversarially robust image classifiers without batch norm, in JAX.

    classifier = nofrost_jax.load("runs/digits")       # a function of images in [0, 1]; also of a .pth, an export, hf://
    logits = classifier(images)
    result = nofrost_jax.attacks.PGD(epsilon=8 / 255)(classifier, images, labels, keys)
    result = nofrost_jax.autoattack(classifier, images, labels)  # or any JAX function of images in [0, 1]

Importing this package loads neither TensorFlow nor clu; its folders are imported on first use.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "attacks", "autoattack", "load", "models"]

_FUNCTIONS = {"autoattack": "nofrost_jax.evaluation.autoattack", "load": "nofrost_jax.loading"}
_ROOMS = ("attacks", "classifier", "data", "evaluation", "methods", "models")


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"nofrost_jax.{name}")
    raise AttributeError(f"module 'nofrost_jax' has no attribute {name!r}")
