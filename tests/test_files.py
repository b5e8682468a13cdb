"""Files that are there whole or not at all, and hashes."""

import concurrent.futures
import contextlib
import errno
import hashlib
import json

import ml_dtypes
import numpy as np
import pytest

from nofrost_jax import files


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1, None]})
    files.write_json(path, {"a": 2}, indent=None)
    assert path.read_text() == '{"a": 2}\n' and files.read_json(path) == {"a": 2}
    files.write_npz(tmp_path / "b", {"a": np.arange(3)})  # under this name, without a suffix of NumPy's
    assert np.load(tmp_path / "b")["a"].tolist() == [0, 1, 2]
    files.write(tmp_path / "c", "é")
    assert (tmp_path / "c").read_bytes() == b"\xc3\xa9" and len([*tmp_path.iterdir()]) == 3
    assert path.stat().st_mode == (tmp_path / "c").stat().st_mode  # not those of `tempfile`, which are its owner's


def test_what_fails_leaves_what_was_there_and_names_the_file(tmp_path):
    path = tmp_path / "a"
    files.write(path, "before")
    with pytest.raises(OSError) as raised, files.replacing(path) as file:
        file.write(b"some of it")
        (part,) = (one.name for one in tmp_path.iterdir() if one != path)
        assert files.is_temporary(part) and not files.is_temporary(path.name)
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(path)
    assert path.read_text() == "before" and [*tmp_path.iterdir()] == [path]
    with pytest.raises(FileNotFoundError) as raised:
        files.write(tmp_path / "gone/a", "")
    assert raised.value.filename == str(tmp_path / "gone/a")
    with pytest.raises(OSError, match="encoder error"), files.replacing(path):
        raise OSError("encoder error")


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files.os, "fsync", lambda fd: synced.append((tmp_path / "a").exists()))
    files.write(tmp_path / "a", "", sync=False)
    assert synced == []
    files.write(tmp_path / "a", "")
    (tmp_path / "a").unlink()
    files.write(tmp_path / "a", "")
    (tmp_path / "a").unlink()
    assert files.create(tmp_path / "a", "") and synced == [True, False, False]


def test_a_file_is_created_by_one_alone(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    with monkeypatch.context() as patch, concurrent.futures.ThreadPoolExecutor(8) as pool:
        patch.setattr(files.os.path, "exists", lambda _: False)  # as all of them see it that begin at one moment
        made = list(pool.map(lambda number: files.create(path, str(number) * 100_000), range(8)))
    (winner,) = (number for number, one in enumerate(made) if one)
    assert path.read_text() == str(winner) * 100_000 and [*tmp_path.iterdir()] == [path]

    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    assert not files.create(path, "") and files.create(tmp_path / "other", "text")
    assert (tmp_path / "other").read_text() == "text" and len([*tmp_path.iterdir()]) == 2


def test_no_file_is_none_and_a_damaged_one_an_error(tmp_path):
    (tmp_path / "a").write_text('{"a"')
    assert files.read_json(tmp_path / "b") is None and files.read_json(tmp_path / "a/b") is None
    with pytest.raises(ValueError):
        files.read_json(tmp_path / "a")


@pytest.mark.parametrize("dtype", ["float32", "int64", ml_dtypes.bfloat16])
def test_hashes_are_of_the_parts_one_after_the_other(tmp_path, dtype):
    array = np.arange(6).astype(dtype).reshape(2, 3)
    content = b"a\xc3\xa9b" + array.T.copy().tobytes() + array[0, 0].tobytes()
    (tmp_path / "a").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert files.sha256("aé", b"b", array.T, array[0, 0]) == files.file_sha256(tmp_path / "a") == expected


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: np.savez_compressed(path, a=np.zeros(10**8, np.uint8)), "it is compressed"),
        (lambda path: np.savez(path, a=np.array([{}], object)), "allow_pickle=False"),
        (lambda path: path.write_bytes(b"<html>"), "web page"),
        (lambda path: None, "No such file"),
    ],
)
def test_arrays_are_read_only_if_nothing_runs_and_nothing_grows(tmp_path, write, words):
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(ValueError, match=words) as caught:
        files.read_npz(path)
    assert "\n" not in str(caught.value)
    files.write_npz(path, {"a": np.arange(3)})
    assert files.read_npz(path)["a"].tolist() == [0, 1, 2]


def test_no_bit_of_a_sealed_object_can_change_in_silence(tmp_path):
    path, value = tmp_path / "a.json", {"accuracy": 0.25, "of": (1, {"n": 7}), "name": "é"}
    files.write_json(path, value, seal=True)
    content, wanted = path.read_bytes(), json.loads(json.dumps(value))
    assert files.read_json(path) == wanted
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):  # or what is changed is the seal's name
            assert wanted.items() <= files.read_json(path).items(), changed
