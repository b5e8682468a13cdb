"""`tfds:NAME`: any prepared image classification set of TensorFlow Datasets. Only this module imports TensorFlow.

ArrayRecord files, which `nofrost_jax.tools.prepare` writes, are read in any order (`records`), without TensorFlow:
shuffling is exact, and a run resumes anywhere at once. TFRecord files are read by tf.data, file after file, through a
shuffle buffer. An example's index is its place in its split or slice, whatever the shuffling.
"""

import contextlib
import dataclasses
import difflib
import functools
import importlib
import json
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from nofrost_jax.data import downloads
from nofrost_jax.data.records import Records
from nofrost_jax.data.rng import SHUFFLE_SEEDS, generator
from nofrost_jax.data.sources import EVAL_ALIASES, Examples, Source, find_eval_split
from nofrost_jax.errors import UserError
from nofrost_jax.files import sha256

_NAME_FEATURES = ("file_name", "image/filename", "filename", "id")  # that hold a file's name
FORMATS = ("array_record", "tfrecord")


def import_tfds() -> Any:
    """tensorflow_datasets, which imports TensorFlow lazily. Raises UserError if it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # otherwise TensorFlow prints a notice
    return _import("tensorflow_datasets", "tensorflow-datasets importlib_resources")


def import_tensorflow() -> Any:
    """tensorflow, quiet and without accelerators. Raises UserError if it is not installed."""
    tf = _import("tensorflow", "tensorflow-cpu")
    tf.get_logger().setLevel("ERROR")
    if tf.config.get_visible_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")
    return tf


def _import(name: str, packages: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the packages' own imports
            return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"cannot import {name} ({error}); config.data.source = tfds:...; pip install {packages}"
        ) from error


def prepare_command(name: str, data_dir: str) -> str:
    """The command that prepares a data set, for messages and documentation."""
    manual = " --manual_dir=TARS" if name.startswith("imagenet2012") else ""  # tfds cannot download it
    return f"python -m nofrost_jax.tools.prepare {name}{manual}" + (f" --data_dir={data_dir}" if data_dir else "")


def find_builder(name: str, data_dir: str) -> Any:
    """The tfds builder, prepared or not. Raises UserError if there is no such data set, configuration or version."""
    tfds = import_tfds()
    try:
        return tfds.builder(name, data_dir=os.path.expanduser(data_dir) or None)
    except (ValueError, AssertionError) as error:
        what, mend = _unknown(tfds, name, error)
        raise UserError(f"{what}; tfds:{name}; {mend}") from error


def configurations(name: str) -> list[str]:
    """Names of a data set's configurations, the default first; [] if there are none."""
    return [one.name for one in import_tfds().builder_cls(re.split("[/:]", name)[0]).BUILDER_CONFIGS]


def _unknown(tfds: Any, name: str, error: Exception) -> tuple[str, str]:
    """(what tfds does not know, where to look): the data set, its configuration, or else its own message."""
    base, _, configuration = name.partition(":")[0].partition("/")
    known, see = tfds.list_builders(with_community_datasets=False), "see tensorflow.org/datasets/catalog"
    if base not in known:
        what, wanted = f"tfds has no data set {base}", base
    else:
        known, see = [f"{base}/{one}" for one in configurations(base)], f"{see}/{base}"
        what, wanted = f"{base} has no configuration {configuration}", f"{base}/{configuration}"
        if not configuration or wanted in known:
            return str(error).splitlines()[0].rstrip("."), see
    close = difflib.get_close_matches(wanted, known, n=1)
    return what, (f"did you mean {close[0]}? or " if close else "") + see


def is_prepared(name: str, data_dir: str) -> bool:
    """Whether the data set is prepared in `data_dir` ("" = tfds's default). tfds is only imported if there is a folder
    of that name; raises UserError if it is then missing or does not know the data set."""
    root = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    return os.path.isdir(os.path.join(root, re.split("[/:]", name)[0])) and bool(
        find_builder(name, data_dir).info.splits
    )


def open_source(name: str, data_dir: str, train_split: str, eval_split: str, shuffle_buffer: int = 1) -> Source:
    """A prepared tfds data set. Training images of TFRecord files are shuffled through a buffer of `shuffle_buffer`.

    Raises UserError if it is unknown, not prepared, in another format, or without a single `label`; a split raises it
    if it does not exist or a record file is missing.
    """
    builder = find_builder(name, data_dir)
    if not builder.info.splits:
        where = os.path.dirname(str(builder.data_path))
        files = downloads.how_to_get(downloads.of(builder))
        raise UserError(f"{name} is not prepared; nothing in {where}; run: {prepare_command(name, data_dir)} ({files})")
    file_format = builder.info.file_format.value
    if file_format not in FORMATS:
        raise UserError(
            f"{name} is prepared as {file_format}, but one of {', '.join(FORMATS)} is needed; {builder.data_path}; "
            f"run: {prepare_command(name, 'ANOTHER_DIR')} and set config.data.data_dir"
        )
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "num_classes"):
        raise UserError(f"{name} has no `image` with one class `label`; config.data.source; choose another data set")
    text = import_tfds().features.Text
    name_feature = next((one for one in _NAME_FEATURES if one in features and isinstance(features[one], text)), "")

    def split(expression: str, wanted: str) -> TfdsSplit | Records:
        available = builder.info.splits
        try:
            info = available[expression]
        except (KeyError, ValueError, AssertionError) as error:
            raise UserError(
                f"{name} has no split {wanted} (only {', '.join(available)}); {builder.data_path}; set the split in "
                f"config.data, or run: {prepare_command(name, data_dir)}"
            ) from error
        _check_files(info)
        if file_format == "array_record":
            keep = {"image": import_tfds().decode.SkipDecoding()}
            rows = builder.as_data_source(split=expression, decoders=keep)
            return Records(f"{name} {expression}", rows, name_feature, str(builder.data_path))
        return TfdsSplit(builder, expression, info.num_examples, shuffle_buffer, name_feature)

    height, width, _ = features["image"].shape
    evaluation = find_eval_split(eval_split, builder.info.splits) or eval_split
    return Source(
        features["label"].num_classes,
        functools.partial(split, train_split, train_split),
        functools.partial(split, evaluation, " or ".join(dict.fromkeys((eval_split, *EVAL_ALIASES)))),
        eval_name=evaluation,
        class_names=tuple(features["label"].names),
        version=_version(builder),
        side=(height or 0) if height == width else 0,
    )


def _version(builder: Any) -> str:
    """Name, configuration, version, and a SHA-256 of the splits' sizes."""
    sizes = sorted((name, info.num_bytes, list(info.shard_lengths)) for name, info in builder.info.splits.items())
    return f"{builder.info.full_name} {sha256(json.dumps(sizes))}"


def _check_files(info: Any) -> None:
    """Raises UserError if a record file of a split is missing; buckets are not checked."""
    for part in info.file_instructions:
        path = str(part.filename)
        if "://" not in path and not os.path.isfile(path):
            raise UserError(f"record file missing; {path}; prepare the data again")


@dataclasses.dataclass(frozen=True)
class TfdsSplit:
    """A split or slice ("train[:90%]") of `size` examples, readable in the order of its files."""

    builder: Any
    expression: str
    size: int
    shuffle_buffer: int
    name_feature: str = ""

    def train(self, seed: int, epoch: int, skip: int, local: int, process: tuple[int, int]) -> Iterator[Examples]:
        """`local` shuffled examples at a time from the process's own share of the split, after `skip` times as many.

        Files and a buffer of records are shuffled with seeds of (seed, epoch). Skipped records are read, not decoded.
        """
        tfds = import_tfds()
        index, count = process
        files_seed, buffer_seed = generator(seed, SHUFFLE_SEEDS, epoch).integers(1, 2**31, 2).tolist()
        share = tfds.even_splits(self.expression, count)[index]
        read = tfds.ReadConfig(shuffle_seed=files_seed, shuffle_reshuffle_each_iteration=False)
        dataset = self._encoded(share, read, shuffle=True)
        dataset = dataset.shuffle(max(1, self.shuffle_buffer), seed=buffer_seed, reshuffle_each_iteration=False)
        return self._examples(dataset.skip(skip * local).batch(local, drop_remainder=True))

    def evaluation(self, local: int, process: tuple[int, int], places: np.ndarray) -> Iterator[Examples]:
        """The process's slices, `local` each, of global batches 0, 1, ... of the examples at `places`, ascending."""
        index, count = process
        dataset = self._in_order()
        if len(places) < self.size:
            chosen = np.zeros(self.size, bool)
            chosen[places] = True
            table = import_tensorflow().constant(chosen)
            dataset = dataset.enumerate().filter(lambda place, _: table[place]).map(lambda _, example: example)
        return self._examples(dataset.batch(local).shard(count, index))

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """Labels and file names; the first call reads all records."""
        return self._listed

    @functools.cached_property
    def _listed(self) -> tuple[np.ndarray, list[str] | None]:
        labels, names = [], []
        with self._naming_damage():
            for label, name in self._in_order(self.name_feature).prefetch(2).as_numpy_iterator():
                labels.append(label)
                names.append(name.decode())
        return np.array(labels, np.int32), names if self.name_feature else None

    def where(self, index: int) -> str:
        """Data set, split and place."""
        return f"{self.builder.name} {self.expression} example {index} in {self.builder.data_path}"

    def _in_order(self, name_feature: str | None = None) -> Any:
        """All examples in the order of the files: encoded, or their labels and file names."""
        tfds = import_tfds()
        read = tfds.ReadConfig(interleave_cycle_length=1)  # one file after the other
        return self._encoded(self.expression, read, False, name_feature)

    def _encoded(self, split: Any, read: Any, shuffle: bool, name_feature: str | None = None) -> Any:
        tf, tfds = import_tensorflow(), import_tfds()
        read.add_tfds_id = True
        read.try_autocache = False  # a cache would keep the first epoch's order
        read.options = tf.data.Options()
        read.options.deterministic = True
        keep = {"image": tfds.decode.SkipDecoding()}
        dataset = self.builder.as_dataset(split=split, shuffle_files=shuffle, read_config=read, decoders=keep)
        if name_feature is not None:
            return dataset.map(lambda example: (example["label"], example[name_feature or "tfds_id"]))
        return dataset.map(lambda example: (example["image"], example["label"], example["tfds_id"]))

    def _examples(self, dataset: Any) -> Iterator[Examples]:
        ranges = self._ranges()
        with self._naming_damage():
            for images, labels, ids in dataset.prefetch(2).as_numpy_iterator():
                index = np.array([_place(one, ranges) for one in ids], np.int32)
                yield Examples(list(images), labels.astype(np.int32), index)

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        damaged = import_tensorflow().errors.OpError  # now: an iterator may outlive the modules at exit
        try:
            yield
        except damaged as error:
            what = error.message.splitlines()[0]
            raise UserError(f"unreadable records ({what}); {self.builder.data_path}; prepare the data again") from error

    def _ranges(self) -> dict[str, list[tuple[int, int, int]]]:
        """{record file: [(first example, end, place of the first in the split or slice), ...]} of what is read."""
        ranges, place = {}, 0
        for part in self.builder.info.splits[self.expression].file_instructions:
            first, end = part.skip, part.skip + part.take
            ranges.setdefault(os.path.basename(part.filename), []).append((first, end, place))
            place += part.take
        return ranges


def _place(tfds_id: bytes, ranges: dict[str, list[tuple[int, int, int]]]) -> int:
    """Index of the example that tfds calls "FILE__NUMBER"."""
    file, _, text = tfds_id.decode().rpartition("__")
    number = int(text)
    return next(place + number - first for first, end, place in ranges[file] if first <= number < end)
