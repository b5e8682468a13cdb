"""`tfds:NAME`: any prepared TensorFlow Datasets image classification set. The only module that imports TensorFlow.

`config.data.access` says how the records are read. "random": through an index of their places (`records`), in any
order, so that shuffling is exact and a run resumes anywhere at once; TensorFlow only tells which files there are.
"sequential": by tf.data, file after file, through a shuffle buffer; for storage where seeking is slow, and for gs://
paths. An example's index is its place in its split or slice, whatever the shuffling.
"""

import contextlib
import dataclasses
import difflib
import functools
import json
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from nofrost_jax.data import downloads, records
from nofrost_jax.data.rng import SHUFFLE_SEEDS, generator
from nofrost_jax.data.sources import EVAL_ALIASES, Chunk, Source, find_eval_split
from nofrost_jax.errors import UserError
from nofrost_jax.files import sha256

_NAME_FEATURES = ("file_name", "image/filename", "filename", "id")  # what data sets call their files' names
_MOST_NAMES = 20  # Some data sets have hundreds of configurations.


def import_tfds() -> tuple[Any, Any]:
    """(tensorflow, tensorflow_datasets), with all accelerators hidden from TensorFlow and its start-up chatter off.

    Raises:
      UserError: one of them is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # No arithmetic here; otherwise TensorFlow announces it.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About the packages' own imports; nothing that a user could mend.
            import tensorflow as tf
            import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"cannot import TensorFlow Datasets ({error}); config.data.source = tfds:...; "
            "pip install tensorflow-cpu tensorflow-datasets importlib_resources"
        ) from error
    tf.get_logger().setLevel("ERROR")
    if tf.config.get_visible_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")
    return tf, tfds


def prepare_command(name: str, data_dir: str) -> str:
    """The command that prepares a data set, for messages and documentation."""
    manual = " --manual_dir=TARS" if name.startswith("imagenet2012") else ""  # What tfds cannot download.
    return f"python -m nofrost_jax.tools.prepare {name}{manual}" + (f" --data_dir={data_dir}" if data_dir else "")


def find_builder(name: str, data_dir: str):
    """The tfds builder, prepared or not. Raises UserError if there is no such data set, configuration or version."""
    _, tfds = import_tfds()
    try:
        return tfds.builder(name, data_dir=os.path.expanduser(data_dir) or None)
    except (ValueError, AssertionError) as error:
        what, mend = _unknown(tfds, name, error)
        raise UserError(f"{what}; tfds:{name}; {mend}") from error


def configurations(name: str) -> list[str]:
    """Names of the configurations of a data set that tfds knows; the first is the default, [] where there are none."""
    _, tfds = import_tfds()
    return [one.name for one in tfds.builder_cls(_parts(name)[0]).BUILDER_CONFIGS]


def _parts(name: str) -> tuple[str, str]:
    """(data set, configuration or "") of NAME/CONFIGURATION:VERSION."""
    base, _, configuration = name.partition(":")[0].partition("/")
    return base, configuration


def _unknown(tfds, name: str, error: Exception) -> tuple[str, str]:
    """(What tfds does not know, how to mend it): the data set, its configuration, or else what it says itself."""
    base, configuration = _parts(name)
    known = tfds.list_builders(with_community_datasets=False)
    if base not in known:
        return f"tfds has no data set {base}", _meant(base, known) + "see tensorflow.org/datasets/catalog"
    names = configurations(base)
    if configuration and configuration not in names:
        shown = ", ".join(names[:_MOST_NAMES]) + ", ..." * (len(names) > _MOST_NAMES)
        told = _meant(f"{base}/{configuration}", [f"{base}/{one}" for one in names])
        return f"{base} has no configuration {configuration}", told + (
            f"choose one of {shown}" if names else "leave it out"
        )
    return str(error).splitlines()[0].rstrip("."), "see tensorflow.org/datasets/catalog"


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? or " if close else ""


def is_prepared(name: str, data_dir: str) -> bool:
    """Whether the data set was prepared in `data_dir` ("" = tfds's default place); where there is no trace of it,
    TensorFlow is not even imported. Raises UserError where there is one, but tfds is missing or does not know it."""
    root = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    return os.path.isdir(os.path.join(root, re.split("[/:]", name)[0])) and bool(
        find_builder(name, data_dir).info.splits
    )


def open_source(
    name: str, data_dir: str, train_split: str, eval_split: str, random_access: bool = True, shuffle_buffer: int = 1
) -> Source:
    """A prepared tfds data set. random_access: whether the records are read in any order, or in sequence through a
    buffer of `shuffle_buffer` images.

    Raises:
      UserError: not installed, unknown, not prepared, prepared in another format than TFRecord, without a single
        `label`, or not to be had by random access; on opening a split also: no such split, damaged record files.
    """
    builder = find_builder(name, data_dir)
    if not builder.info.splits:
        where = os.path.dirname(str(builder.data_path))
        files = downloads.describe(downloads.of(builder))
        raise UserError(f"{name} is not prepared; nothing in {where}; run: {prepare_command(name, data_dir)} ({files})")
    if builder.info.file_format.value != "tfrecord":
        raise UserError(
            f"{name} is prepared as {builder.info.file_format.value}, but tfrecord is needed; {builder.data_path}; "
            f"run: {prepare_command(name, 'ANOTHER_DIR')} and set config.data.data_dir"
        )
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "num_classes"):
        raise UserError(f"{name} has no `image` with one class `label`; config.data.source; choose another data set")

    text = import_tfds()[1].features.Text
    name_feature = next((one for one in _NAME_FEATURES if one in features and isinstance(features[one], text)), "")
    if random_access and "://" in str(builder.data_path):
        raise UserError(
            f"{builder.data_path} can be read in sequence only; config.data.access = random; set it to sequential, or "
            "copy the data to a file system"
        )

    def split(expression: str, wanted: str) -> TfdsSplit | records.Records:
        available = builder.info.splits
        try:
            info = available[expression]
        except (KeyError, ValueError, AssertionError) as error:
            raise UserError(
                f"{name} has no split {wanted} (only {', '.join(available)}); {builder.data_path}; set the split in "
                f"config.data, or run: {prepare_command(name, data_dir)}"
            ) from error
        if random_access:
            title, shards = f"{name} {expression}", _shards(builder, expression)
            return records.open_split(title, info.file_instructions, shards, name_feature)
        return TfdsSplit(builder, expression, info.num_examples, shuffle_buffer, name_feature)

    evaluation = find_eval_split(eval_split, builder.info.splits) or eval_split
    return Source(
        features["label"].num_classes,
        functools.partial(split, train_split, train_split),
        functools.partial(split, evaluation, " or ".join(dict.fromkeys((eval_split, *EVAL_ALIASES)))),
        eval_name=evaluation,
        class_names=tuple(features["label"].names),
        version=_version(builder),
        side=_side(features["image"].shape),
    )


def _side(shape) -> int:
    """The side of square images of a declared shape, else 0."""
    return shape[0] if shape[0] is not None and shape[0] == shape[1] else 0


def _version(builder) -> str:
    """Name, configuration and version, and a SHA-256 of the splits' sizes."""
    sizes = sorted((name, info.num_bytes, list(info.shard_lengths)) for name, info in builder.info.splits.items())
    return f"{builder.info.full_name} {sha256(json.dumps(sizes))}"


def _shards(builder, expression: str) -> dict[str, list[tuple[str, int]]]:
    """Record files, and examples in each, of the splits that occur in an expression like "train[:90%]+test"."""
    splits = {part.partition("[")[0].strip(): None for part in expression.split("+")}
    infos = {name: builder.info.splits[name] for name in splits}
    return {name: list(zip(map(str, info.filepaths), info.shard_lengths, strict=True)) for name, info in infos.items()}


@dataclasses.dataclass(frozen=True)
class TfdsSplit:
    """A split or slice ("train[:90%]") of `size` examples, readable in the order of its files."""

    builder: Any
    expression: str
    size: int
    shuffle_buffer: int
    name_feature: str = ""

    def train(self, seed: int, epoch: int, skip: int, local: int, process: tuple[int, int]) -> Iterator[Chunk]:
        """Shuffled chunks of `local` examples from the process's own share of the split, without the first `skip`.

        Files and a buffer of records are shuffled with seeds of (seed, epoch). Skipping reads records without
        decoding them.
        """
        _, tfds = import_tfds()
        index, count = process
        files_seed, buffer_seed = generator(seed, SHUFFLE_SEEDS, epoch).integers(1, 2**31, 2).tolist()
        share = tfds.even_splits(self.expression, count)[index]
        read = tfds.ReadConfig(shuffle_seed=files_seed, shuffle_reshuffle_each_iteration=False)
        dataset = self._encoded(share, read, shuffle=True)
        dataset = dataset.shuffle(max(1, self.shuffle_buffer), seed=buffer_seed, reshuffle_each_iteration=False)
        return self._chunks(dataset.skip(skip * local).batch(local, drop_remainder=True))

    def evaluation(self, local: int, process: tuple[int, int], places: np.ndarray) -> Iterator[Chunk]:
        """Chunks number j * count + index of `local` of the examples at `places`, ascending: the process's slices of
        global batches j = 0, 1, ..."""
        index, count = process
        dataset = self._in_order()
        if len(places) < self.size:
            chosen = np.zeros(self.size, bool)
            chosen[places] = True
            table = import_tfds()[0].constant(chosen)
            dataset = dataset.enumerate().filter(lambda place, _: table[place]).map(lambda _, example: example)
        return self._chunks(dataset.batch(local).shard(count, index))

    def listing(self) -> tuple[np.ndarray, list[str] | None]:
        """Labels and file names; the first call reads all records."""
        return self._listed

    @functools.cached_property
    def _listed(self) -> tuple[np.ndarray, list[str] | None]:
        labels, names = [], []
        with self._telling_damage():
            for label, name in self._in_order(self.name_feature).prefetch(2).as_numpy_iterator():
                labels.append(label)
                names.append(name.decode())
        return np.array(labels, np.int32), names if self.name_feature else None

    def where(self, index: int) -> str:
        """Data set, split and place."""
        return f"{self.builder.name} {self.expression} example {index} in {self.builder.data_path}"

    def _in_order(self, name_feature: str | None = None):
        """All examples in the order of the files: encoded, or (label, file name) of each."""
        _, tfds = import_tfds()
        read = tfds.ReadConfig(interleave_cycle_length=1)  # One file after the other.
        return self._encoded(self.expression, read, False, name_feature)

    def _encoded(self, split, read, shuffle: bool, name_feature: str | None = None):
        tf, tfds = import_tfds()
        read.add_tfds_id = True
        read.try_autocache = False  # A cache would be filled by the first epoch and keep its order.
        read.options = tf.data.Options()
        read.options.deterministic = True
        keep = {"image": tfds.decode.SkipDecoding()}
        dataset = self.builder.as_dataset(split=split, shuffle_files=shuffle, read_config=read, decoders=keep)
        if name_feature is not None:
            return dataset.map(lambda example: (example["label"], example[name_feature or "tfds_id"]))
        return dataset.map(lambda example: (example["image"], example["label"], example["tfds_id"]))

    def _chunks(self, dataset) -> Iterator[Chunk]:
        ranges = self._ranges()
        with self._telling_damage():
            for images, labels, ids in dataset.prefetch(2).as_numpy_iterator():
                yield Chunk(list(images), labels.astype(np.int32), np.array([_place(i, ranges) for i in ids], np.int32))

    @contextlib.contextmanager
    def _telling_damage(self) -> Iterator[None]:
        damaged = import_tfds()[0].errors.OpError  # Looked up now: an iterator may outlive the modules at exit.
        try:
            yield
        except damaged as error:
            what = error.message.splitlines()[0]
            raise UserError(f"unreadable records ({what}); {self.builder.data_path}; prepare the data anew") from error

    def _ranges(self) -> dict[str, list[tuple[int, int, int]]]:
        """Of each record file: (first example, end, place of the first in the split or slice) of what is read of it."""
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
