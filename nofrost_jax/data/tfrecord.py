"""TFRecord files without TensorFlow: where each example lies, what its label is, and its image.

A record is its length (uint64), the length's checksum (uint32), that many bytes, their checksum (uint32), all
little-endian; the checksums are masked CRC-32C. The bytes are a `tf.train.Example` in protocol buffer encoding, of
which this module reads the one image and the one integer that it is asked for, wherever they stand.
"""

import os
import struct
from collections.abc import Callable, Iterator

import numpy as np

HEADER, FOOTER = 12, 4
_PEEK = 512  # Bytes read at once where only a field's place is wanted.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_Read = Callable[[int, int], bytes]  # (first, count) -> at most `count` bytes of the example


class RecordError(OSError):
    """A file is not what a record file should be; the text says what and where in the file."""


def scan(path: str, label: str = "label") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the examples of a file lie, by seeking from length to length; images are passed over unread.

    Returns:
      (offset of each example's bytes, their number, value of the integer feature `label`), int64 [n] each.

    Raises:
      RecordError: a length that does not match its checksum, an incomplete record, or no such feature.
      OSError: the file cannot be read.
    """
    found = []
    handle = os.open(path, os.O_RDONLY)
    try:
        end, place = os.fstat(handle).st_size, 0
        while place < end:
            head = os.pread(handle, HEADER + _PEEK, place)
            first, length = place + HEADER, _length(head, place)
            place = first + length + FOOTER
            if place > end:
                raise RecordError(f"incomplete record at byte {first - HEADER}")
            read = _peeking(handle, first, length, head[HEADER : HEADER + length])
            found.append((first, length, _only(_feature(read, length, label), label, int)))
    finally:
        os.close(handle)
    return tuple(np.array(found, np.int64).reshape(-1, 3).T)


def load(path: str, offset: int, length: int, image: str = "image") -> bytes:
    """The bytes feature `image` of the example at `offset`, as `scan` found it, its checksum verified.

    Raises:
      RecordError: the checksum does not match, or there is no such feature.
      OSError: the file cannot be read.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        record = os.pread(handle, length + FOOTER, offset)
    finally:
        os.close(handle)
    content = record[:length]
    if record[length:] != _checksum(content):
        raise RecordError(f"unreadable record (not as its checksum says, byte {offset - HEADER})")
    return _only(_feature(lambda first, count: content[first : first + count], length, image), image, bytes)


def texts(path: str, offsets: np.ndarray, lengths: np.ndarray, name: str) -> list[str]:
    """The text feature `name` of the examples at `offsets`, as `scan` found them; images are passed over unread.

    Raises:
      RecordError: an example without such a feature.
      OSError: the file cannot be read.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        places = zip(offsets.tolist(), lengths.tolist(), strict=True)
        found = [_feature(_peeking(handle, first, length, b""), length, name) for first, length in places]
    finally:
        os.close(handle)
    return [_only(values, name, bytes).decode() for values in found]


def _length(head: bytes, place: int) -> int:
    if len(head) < HEADER:
        raise RecordError(f"incomplete record at byte {place}")
    if head[8:HEADER] != _checksum(head[:8]):
        raise RecordError(f"record length does not match its checksum at byte {place}")
    return struct.unpack("<Q", head[:8])[0]


def _checksum(content: bytes) -> bytes:
    import google_crc32c  # no other source needs it

    crc = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _peeking(handle: int, offset: int, length: int, start: bytes) -> _Read:
    """Reads an example's bytes in small pieces, keeping the last piece; `start` is the first."""
    held, piece = 0, start

    def read(first: int, count: int) -> bytes:
        nonlocal held, piece
        wanted = min(first + count, length)
        if not held <= first <= wanted <= held + len(piece):
            held, piece = first, os.pread(handle, min(max(count, _PEEK), length - first), offset + first)
        return piece[first - held : first - held + count]

    return read


def _only(values: list, name: str, kind: type):
    if len(values) != 1 or not isinstance(values[0], kind):
        raise RecordError(f"an example without one {kind.__name__} called {name}")
    return values[0]


def _feature(read: _Read, length: int, name: str) -> list:
    """The values of one feature of an Example: bytes or int."""
    wanted = name.encode()
    for _, first, end in _fields(read, 0, length, 1):  # Example.features
        for _, entry, entry_end in _fields(read, first, end, 1):  # Features.feature, a map
            key, value = b"", None
            for number, start, stop in _fields(read, entry, entry_end):
                if number == 1:
                    key = read(start, stop - start) if stop - start == len(wanted) else b""
                elif number == 2:
                    value = (start, stop)
            if key == wanted and value:
                return _values(read, *value)
    return []


def _values(read: _Read, first: int, end: int) -> list:
    """Of a Feature: bytes_list (1) or int64_list (3), whose numbers are packed or not."""
    values = []
    for kind, start, stop in _fields(read, first, end):
        if kind == 1:
            values += [read(a, b - a) for _, a, b in _fields(read, start, stop, 1)]
        elif kind == 3:
            for number, a, b in _fields(read, start, stop):
                while number == 1 and a < b:
                    value, a = _varint(read, a)
                    values.append(value - (value >> 63 << 64))  # Negative numbers are written in two's complement.
    return values


def _fields(read: _Read, first: int, end: int, only: int = 0) -> Iterator[tuple[int, int, int]]:
    """(number, first byte, end) of each field of a message, or of the fields with number `only`."""
    while first < end:
        tag, first = _varint(read, first)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            stop = _varint(read, first)[1]
        elif kind == _LENGTH:
            size, first = _varint(read, first)
            stop = first + size
        elif kind in (_FIXED64, _FIXED32):
            stop = first + (8 if kind == _FIXED64 else 4)
        else:
            raise RecordError(f"a record that is no tf.train.Example (wire type {kind})")
        if stop > end:
            raise RecordError("a record that is no tf.train.Example (a field beyond its end)")
        if only in (0, number):
            yield number, first, stop
        first = stop


def _varint(read: _Read, first: int) -> tuple[int, int]:
    """(value, place after it) of a number in base 128, lowest digits first."""
    value = 0
    for digit, byte in enumerate(read(first, 10)):
        value |= (byte & 0x7F) << (7 * digit)
        if byte < 0x80:
            return value, first + digit + 1
    raise RecordError("a record that is no tf.train.Example (a number beyond its end)")
