"""Data: sources of images, and the batches made of them. Uses no TensorFlow except for `tfds:` sources.

One preprocessing code serves all sources: Pillow and NumPy, equal to torchvision on PIL images. Batches are NumPy
arrays on the host; a training batch is a pure function of (`config.seed`, step), so that resuming needs nothing but
the step. (Of TFRecord files, of the number of processes too.)

Fields of the config that count here:

* `seed` (int), `batch_size` (int, all processes together), `model.num_classes` (int)
* `data.source`: one of `SOURCES`. `digits`: 1,797 real 8 x 8 digits, comes with scikit-learn. `fake`: synthetic
  images. `tfds:NAME`: a prepared TensorFlow data set with `image` and `label`. `folder:PATH`:
  `PATH/train/CLASS/*.jpg` and an evaluation folder of the same layout; with `data.eval_split = "."` an evaluation set
  only, `PATH/CLASS/*.jpg`.
* `data.data_dir` (str): where tfds keeps its data sets ("" = its default); a relative folder PATH starts here.
* `data.train_split`, `data.eval_split` (str): names of the splits or folders; if there is no such evaluation split,
  the first of `val`, `validation`, `test`. tfds also understands slices, "train[:90%]".
* `data.holdout` (int): so many images of the training split, evenly spaced over its fixed order, are kept out of
  training; with `data.eval_split = "holdout"` evaluation sees these, so that choices are made without the evaluation
  split. `index` then counts within what is left, or what is held out (and within a slice of a tfds split).
* `evaluation.limit`, `evaluation.ids`: which of the evaluation images count (`choice.py`).
* `data.image_size` (int): pixels of the square images in a batch.
* `data.eval_resize` (int): the short side before the central square is cut out, 0 = no resize. Not used by `digits`
  and `fake`, which come at `image_size`. `data.eval_pad` (bool): without a resize, smaller images get black borders.
* `data.train_resize` (int): the short side before a random resized crop, bicubic; 0 = no resize.
* `data.augmentation`: `random_resized_crop` (and flip; ImageNet), `pad_crop_flip` (4 pixels; CIFAR), `none`. The last
  two start from the evaluation geometry.
* `data.crop_scale`: (least, greatest) share of the image's area in a random resized crop.
* `data.views`: which views of each training image a batch holds, of `clean`, `deepaugment`, `tda` and `augmented`, one
  of the two by a coin (`views.py`); from one decoding, each with random numbers of its own. `data.tda_crop_scale`:
  `crop_scale` of `tda`.
* `deepaugment.mode`, `deepaugment.folders`, `deepaugment.sources`: with `files` the view `deepaugment` comes from
  trees of distorted images, each laid out and named as a `folder:` source or as its training split, but for
  extensions; a relative folder is below `data.data_dir`.
* `data.workers` (int): decoding threads, 0 = one a core. Does not change a byte of any batch.
* `data.decode` ("exact" | "fast"): training images by Pillow, equal to torchvision to the last bit, or by faster
  packages, equal to a level or two of 255 (`fast.py`; `random_resized_crop` only). Evaluation is always exact.
* `data.on_error` ("raise" | "skip"): an unreadable training image is an error that names it, or is replaced by the next
  readable one of the epoch's order, with its label and index, named and counted on stderr and in the metrics.
  Evaluation never skips.
* `data.other_files` ("raise" | "skip"): `folder` only, files in the class folders of evaluation images that are no
  images by their extension: refused, or left out and counted, as in training.
* `data.shuffle_buffer` (int): encoded images in the shuffle buffer of TFRecord files, which are read in sequence.
* `data.fake_train`, `data.fake_eval` (int): number of images of the `fake` source.
"""

from nofrost_jax.data.catalog import SOURCES, is_known, is_present
from nofrost_jax.data.choice import spread
from nofrost_jax.data.dataset import Dataset, examine, open, steps_per_epoch
from nofrost_jax.data.fast import DECODE
from nofrost_jax.data.folder import OTHER_FILES
from nofrost_jax.data.preprocess import AUGMENTATIONS
from nofrost_jax.data.skips import ON_ERROR
from nofrost_jax.data.views import DEEPAUGMENT_MODES

#: Training and evaluation images of data sets that take long to prepare, for a dry run before they are there.
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
