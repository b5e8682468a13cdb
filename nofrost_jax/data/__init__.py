"""Data: sources of images, and the batches made of them. Only `tfds:` sources need TensorFlow.

One preprocessing serves all sources: Pillow and NumPy, equal to torchvision on PIL images. Batches are NumPy arrays on
the host. A training batch is a pure function of (`config.seed`, step), so a resume needs nothing but the step. (With
TFRecord files it also depends on the number of processes.) `configs/common.py` explains the fields of `config.data`.
"""

from nofrost_jax.data.catalog import SOURCES, is_known, is_present
from nofrost_jax.data.choice import spread
from nofrost_jax.data.dataset import Dataset, examine, open, steps_per_epoch
from nofrost_jax.data.fast import DECODE
from nofrost_jax.data.folder import OTHER_FILES
from nofrost_jax.data.preprocess import AUGMENTATIONS
from nofrost_jax.data.skips import ON_ERROR
from nofrost_jax.data.views import DEEPAUGMENT_MODES

#: Training and evaluation images of data sets that take long to prepare, for a dry run before that.
PUBLISHED_SIZES = {"tfds:imagenet2012": (1_281_167, 50_000), "tfds:cifar10": (50_000, 10_000)}

__all__ = [
    "AUGMENTATIONS",
    "DECODE",
    "DEEPAUGMENT_MODES",
    "ON_ERROR",
    "OTHER_FILES",
    "PUBLISHED_SIZES",
    "SOURCES",
    "Dataset",
    "examine",
    "is_known",
    "is_present",
    "open",
    "spread",
    "steps_per_epoch",
]
