"""TFRecord files read without TensorFlow, and the index of them, against TensorFlow's own writer and parser."""

import os
import pathlib
import struct

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nofrost_jax.data import records, tfrecord
from nofrost_jax.errors import UserError

RNG = np.random.default_rng(0)


def field(number, content):
    """A protocol buffer field: of bytes, or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content % 2**64)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def example(features):
    """A tf.train.Example of {name: bytes or int}, in the given order."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = field(1, field(1, value))
        else:
            feature = field(3, field(1, varint(value % 2**64)))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def masked(content):
    crc = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def write(path, examples):
    with open(path, "wb") as file:
        for content in examples:
            length = struct.pack("<Q", len(content))
            file.write(length + masked(length) + content + masked(content))
    return str(path)


NUMBERS = st.integers(-(2**63), 2**63 - 1)
OTHERS = st.dictionaries(st.sampled_from(["file_name", "a", "zz", "labels", "imag"]), st.one_of(st.binary(), NUMBERS))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(OTHERS, st.binary(max_size=3000), NUMBERS, st.permutations(["image", "label"])), max_size=4))
def test_any_example_is_found(tmp_path_factory, items):
    """Whatever other features there are, in whatever order, longer or shorter than what is read at once."""
    path = tmp_path_factory.mktemp("records") / "x"
    all_features = []
    for others, image, label, order in items:
        values = {"image": image, "label": label}
        all_features.append({order[0]: values[order[0]], **others, order[1]: values[order[1]]})
    write(path, map(example, all_features))
    offsets, lengths, labels = tfrecord.scan(str(path))
    assert labels.tolist() == [item[2] for item in items]
    for offset, length, item in zip(offsets, lengths, items, strict=True):
        assert tfrecord.load(str(path), int(offset), int(length)) == item[1]


def test_files_of_tensorflow_are_read(tmp_path):
    """The checksums, the framing and the encoding are TensorFlow's own."""
    tfds_source = pytest.importorskip("nofrost_jax.data.tfds_source")
    pytest.importorskip("tensorflow_datasets")
    tf, _ = tfds_source.import_tfds()
    images = [RNG.bytes(n) for n in (0, 10, 600, 70_000)]
    with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
        for label, image in enumerate(images):
            feature = {
                "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a.JPEG"])),
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label - 1])),
                "size": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    offsets, lengths, labels = tfrecord.scan(str(tmp_path / "x"))
    assert labels.tolist() == [-1, 0, 1, 2]
    assert [tfrecord.load(str(tmp_path / "x"), *map(int, at)) for at in zip(offsets, lengths, strict=True)] == images


def test_only_the_ends_of_an_example_are_read(tmp_path, monkeypatch):
    """144 GB are indexed by reading a thousandth of them."""
    path = write(tmp_path / "x", [example({"file_name": b"a", "image": RNG.bytes(10**6), "label": 3})] * 5)
    read, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: read.append(arguments[1]) or pread(*arguments))
    assert tfrecord.scan(path)[2].tolist() == [3] * 5
    assert sum(read) < 5 * 2000


@pytest.mark.parametrize("at", [3, 9, 40, -3])
def test_a_changed_byte_is_noticed(tmp_path, at):
    """In a record's length and its checksum when the file is scanned, in its content and its checksum on reading."""
    path = tmp_path / "x"
    write(path, [example({"image": b"i" * 100, "label": 3})])
    content = bytearray(path.read_bytes())
    (offset,), (length,), _ = tfrecord.scan(str(path))
    content[at] ^= 1
    path.write_bytes(content)
    if 0 <= at < 12:
        with pytest.raises(tfrecord.RecordError, match="length does not match its checksum at byte 0"):
            tfrecord.scan(str(path))
    else:
        with pytest.raises(tfrecord.RecordError, match="checksum says, byte 0"):
            tfrecord.load(str(path), int(offset), int(length))


@pytest.mark.parametrize("cut", [1, 5, 90, 118])
def test_an_incomplete_file_is_noticed(tmp_path, cut):
    path = tmp_path / "x"
    write(path, [example({"image": b"i" * 80, "label": 3})])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(tfrecord.RecordError, match="incomplete record at byte 0"):
        tfrecord.scan(str(path))


@pytest.mark.parametrize("features", [{"image": b"i"}, {"image": b"i", "label": b"text", "other": 3}])
def test_examples_without_a_label(tmp_path, features):
    with pytest.raises(tfrecord.RecordError, match="without one int called label"):
        tfrecord.scan(write(tmp_path / "x", [example(features)]))


@pytest.mark.parametrize("content", [b"\x0b\x01", b"\x0a\x7f", b"\x0a\x02\x0a\x7f", b"\x80" * 11])
def test_other_content_is_refused(tmp_path, content):
    with pytest.raises(tfrecord.RecordError):
        tfrecord.scan(write(tmp_path / "x", [content]))


# The index.


class Instruction:
    def __init__(self, filename, skip, take):
        self.filename, self.skip, self.take = filename, skip, take


@pytest.fixture
def split(tmp_path, monkeypatch):
    """(instructions, shards) of a split of two files with 3 and 2 examples; a home of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    files = []
    for name, labels in (("a", (0, 1, 2)), ("b", (3, 4))):
        path = write(folder / name, [example({"image": b"image %d" % label, "label": label}) for label in labels])
        files.append((path, len(labels)))
    return [Instruction(path, 0, count) for path, count in files], {"train": files}


def opened(split):
    found = records.open_split("set train", *split)
    return [(int(label), found.load(i)) for i, label in enumerate(found.labels)]


ALL = [(i, b"image %d" % i) for i in range(5)]


def scans(monkeypatch):
    """Paths of the files that are scanned from now on."""
    seen, scan = [], tfrecord.scan
    monkeypatch.setattr(tfrecord, "scan", lambda path: seen.append(path) or scan(path))
    return seen


def test_the_index_is_made_once(split, monkeypatch, tmp_path):
    assert opened(split) == ALL
    assert sorted(p.name for p in (tmp_path / "data" / records.FOLDER).iterdir()) == ["train.npz"]
    seen = scans(monkeypatch)
    assert opened(split) == ALL and not seen


def test_slices_in_the_order_of_the_instructions(split):
    (a, _), (b, _) = split[1]["train"]
    assert opened(([Instruction(b, 1, 1), Instruction(a, 1, 2)], split[1])) == [ALL[4], ALL[1], ALL[2]]
    assert opened(([], split[1])) == []


def test_names_are_read_once(split, monkeypatch):
    for path, count in split[1]["train"]:
        parts = [example({"image": b"x", "label": 0, "id": f"{path[-1]}{i}".encode()}) for i in range(count)]
        write(path, parts)
    seen, texts = [], tfrecord.texts
    monkeypatch.setattr(tfrecord, "texts", lambda path, *more: seen.append(path) or texts(path, *more))
    whole = records.open_split("set train", *split, "id")
    for _ in range(2):
        assert whole.file_names() == ["a0", "a1", "a2", "b0", "b1"]
    assert len(seen) == 2
    part = records.open_split("set train[:1]", [Instruction(split[1]["train"][1][0], 0, 1)], split[1], "id")
    assert part.file_names() == ["b0"]


def test_a_changed_file_is_indexed_anew(split, monkeypatch):
    opened(split)
    seen = scans(monkeypatch)
    write(split[1]["train"][1][0], [example({"image": b"other", "label": label}) for label in (8, 9)])
    assert opened(split) == [*ALL[:3], (8, b"other"), (9, b"other")] and len(seen) == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_damaged_index_is_made_anew(split, monkeypatch, tmp_path, content):
    opened(split)
    (tmp_path / "data" / records.FOLDER / "train.npz").write_bytes(content)
    assert opened(split) == ALL
    seen = scans(monkeypatch)
    assert opened(split) == ALL and not seen


@pytest.mark.parametrize("kept", [True, False])
def test_data_that_cannot_be_written(split, monkeypatch, tmp_path, kept):
    """The index goes to the user's cache, or else is made again every time. A file in the way stands for no permission,
    which root has always."""
    (tmp_path / "data" / records.FOLDER).write_text("in the way")
    if not kept:
        (tmp_path / "cache").write_text("in the way")
    assert opened(split) == ALL
    assert (tmp_path / "cache").is_dir() == kept
    seen = scans(monkeypatch)
    assert opened(split) == ALL and len(seen) == (0 if kept else 2)


def test_what_the_files_lack_is_told(split, tmp_path):
    path = split[1]["train"][1][0]
    more = {"train": [*split[1]["train"][:1], (path, 3)]}
    with pytest.raises(UserError, match=r"2 records instead of 3; .*/b; "):
        records.open_split("set train", split[0], more)
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"incomplete record .*/b; "):
        records.open_split("set train", *split)
    os.unlink(path)
    with pytest.raises(UserError, match=r"record file missing .*/b; "):
        records.open_split("set train", *split)


def test_where_names_the_file(split):
    assert records.open_split("set train", *split).where(4) == f"set train example 4 in {split[1]['train'][1][0]}"
