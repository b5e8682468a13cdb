"""gs://BUCKET/PATH in place of files, on a stand-in for Google Cloud Storage; the lock there; what is refused."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from nofrost_jax import bucket_lock, buckets, checkpoint, digests, errors, files, lock, workdir
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.errors import MachineError, UserError
from nofrost_jax.report import __main__ as report
from nofrost_jax.tools.reproduce import options
from tests.conftest import ROOT

RUN = "gs://bucket/run"


def put(server, **objects):
    for name, content in objects.items():
        server.put(f"run/{name}", content.encode())


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # by gcsfs
def test_objects_are_written_whole_read_and_removed(bucket):
    files.write_json(f"{RUN}/a.json", {"x": 1})
    files.write_npz(f"{RUN}/b/c.npz", {"x": np.arange(3)})
    assert files.read_json(f"{RUN}/a.json") == {"x": 1} and files.read_json(f"{RUN}/none.json") is None
    assert files.read_npz(f"{RUN}//b/./c.npz")["x"].tolist() == [0, 1, 2]
    with pytest.raises(ZeroDivisionError), files.replacing(f"{RUN}/a.json") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert files.read(f"{RUN}/a.json") == b'{\n  "x": 1\n}\n'
    assert files.create(f"{RUN}/new", "1") and not files.create(f"{RUN}/new", "2") and files.read(f"{RUN}/new") == b"1"
    files.write(f"{RUN}/new", bytes(51 << 20))  # in parts
    assert len(files.read(f"{RUN}/new")) == 51 << 20
    files.remove(f"{RUN}/new")
    with pytest.raises(FileNotFoundError) as caught:
        files.remove(f"{RUN}/new")
    assert caught.value.filename == f"{RUN}/new" and set(bucket.below("run")) == {"a.json", "b/c.npz"}


def test_folders_are_what_is_below_them(bucket):
    put(bucket, **{f"checkpoints/{step}/{name}": name for step in (1, 2) for name in "abcdefgh"}, checkpoints2="")
    folder = f"{RUN}/checkpoints"
    assert files.names(RUN) == ["checkpoints", "checkpoints2"] and files.names(f"{RUN}/none") == []
    assert files.names(folder) == ["1", "2"] and len(files.below(folder)) == 16  # of several pages
    assert [files.exists(path) for path in (folder, f"{folder}/1/a", f"{RUN}/check")] == [True, True, False]
    assert not files.exists("gs://nobody/run") and files.names("gs://nobody/run") == []
    assert [files.is_folder(path) for path in (folder, f"{folder}/1/a", RUN, f"{RUN}/check")] == [True, False] * 2
    files.rename(f"{folder}/1", f"{RUN}/damaged/1")
    files.rename(f"{RUN}/checkpoints2", f"{RUN}/other")
    files.remove_tree(f"{folder}/2")
    files.remove_tree(f"{folder}/2")
    assert set(bucket.below("run")) == {*(f"damaged/1/{name}" for name in "abcdefgh"), "other"}


def test_placeholders_of_folders_are_no_files_and_go_with_their_folder(bucket):
    for name in ("", "checkpoints/", "checkpoints/5/", "checkpoints/5/v/", "checkpoints/6/v/"):  # as of the console
        bucket.put(f"run/{name}", b"")
    put(bucket, **{"checkpoints/5/v/d": "5", "checkpoints/6/v/d": "6"})
    assert files.is_folder(RUN) and files.exists(f"{RUN}/checkpoints/5")
    assert files.names(RUN) == ["checkpoints"] and files.below(f"{RUN}/checkpoints") == ["5/v/d", "6/v/d"]
    files.remove_tree(f"{RUN}/checkpoints/5")
    files.rename(f"{RUN}/checkpoints/6", f"{RUN}/moved")
    assert set(bucket.below("run")) == {"", "checkpoints/", "moved/v/d"} and files.names(f"{RUN}/checkpoints") == []
    bucket.reset().put("run/", b"")
    assert not files.is_folder(RUN)


def test_a_removal_whose_answer_was_lost_ends_a_move(bucket):
    def lose(method, path):
        if method == "DELETE" and path.endswith("best/b"):  # the first try, which is then repeated
            bucket.remove("run/best/b")
        return 0

    put(bucket, **{"best/a": "", "best/b": ""})
    bucket.before = lose
    files.rename(f"{RUN}/best", f"{RUN}/old")
    assert set(bucket.below("run")) == {"old/a", "old/b"}


def test_of_a_moved_folder_the_last_object_is_the_last_to_come_and_the_first_to_go(bucket):
    put(bucket, **{f"best/{name}": "" for name in ("config.json", "model.safetensors", "selection.json")})
    files.rename(f"{RUN}/best", f"{RUN}/best.old")
    changes = [path for method, path in bucket.requests if method in ("POST", "DELETE")]
    assert "selection.json" in changes[2] and "rewriteTo" in changes[2] and "rewriteTo" not in changes[3]
    assert changes[3].endswith("best/selection.json") and len(changes) == 6


def test_exports_and_hashes(bucket):
    variables = {"params": {"w": np.arange(6, dtype=np.float32)}}
    checkpoint.export(f"{RUN}/best", variables, "{}")
    found, about = checkpoint.load_export(f"{RUN}/best")
    assert found["params"]["w"].tolist() == list(range(6)) and about["params_sha256"]
    digests.write(f"{RUN}/best")
    assert digests.damage(f"{RUN}/best", set()) == "" and digests.are_there(f"{RUN}/best")
    digests.replace(f"{RUN}/best", "config.json", '{"a": 1}')
    assert digests.damage(f"{RUN}/best", set()) == ""
    put(bucket, **{"best/config.json": "{}"})
    assert "config.json is not what was saved" in digests.damage(f"{RUN}/best", set())
    bucket.remove("run/best/config.json")
    assert digests.damage(f"{RUN}/best", set()) == "config.json is missing"


def test_one_holder_of_a_lock_at_a_time(bucket, monkeypatch, capsys):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    first, second = (bucket_lock.at(f"{RUN}/lock", what) for what in ("a training", "another"))
    assert first.take() == ""
    assert second.take().startswith("a training: process ")
    first.give_back()
    assert bucket.objects == {} and second.take() == ""
    second.give_back()
    assert bucket.objects == {} and "taken over" not in capsys.readouterr().out


def test_the_lock_of_a_silent_holder_is_taken_over_and_never_by_two(bucket, monkeypatch, capsys):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    record = {"what": "a training", "host": "node7", "process": 12, "since": "2026", "token": "theirs"}
    put(bucket, lock=json.dumps(record))
    own = bucket_lock.at(f"{RUN}/lock", "a test")
    assert own.take() == ""
    assert "taken over: the lock of a training: process 12 on node7" in capsys.readouterr().out
    bucket.put("run/lock", json.dumps(record).encode())  # another has taken this one over
    left = []
    monkeypatch.setattr(lock.os, "_exit", left.append)
    own._thread.join(10) if own._ended.wait(0.2) else own._ended.set()
    assert left[:1] == [1] and "was taken over by a training" in capsys.readouterr().err
    own.give_back()
    assert "theirs" in bucket.below("run")["lock"].decode()


def test_a_write_whose_answer_was_lost_is_not_anothers(bucket, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    own, write = bucket_lock.at(f"{RUN}/lock", "a test"), buckets.write_over

    def twice(*args):  # as where a request is repeated
        write(*args)
        return write(*args)

    monkeypatch.setattr(buckets, "write_over", twice)
    assert own.take() == ""
    assert own._lost_to() == ""
    own._renew()
    assert own._lost_to() == ""
    own.give_back()
    assert bucket.objects == {}


def test_a_lock_in_a_bucket_makes_no_folder_here(bucket, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    own = bucket_lock.at(f"{RUN}/evaluations/final.lock", "a test")
    assert own.take() == ""
    own.give_back()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("Session is closed"), ValueError("Bad Request")])
def test_a_lock_beats_on_whatever_gcsfs_raises(bucket, monkeypatch, error):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    own, failed = bucket_lock.at(f"{RUN}/lock", "a test"), {"write_over": 0, "read_generation": 0}
    assert own.take() == ""

    def fail(name):
        failed[name] += 1
        raise error

    with monkeypatch.context() as failing:
        own._is_own = False
        for name in failed:
            failing.setattr(buckets, name, lambda *_, name=name: fail(name))
        while min(failed.values()) < 3 and own._thread.is_alive():
            time.sleep(0.01)
    before, end = bucket.objects["run/lock"], time.monotonic() + 10
    while bucket.objects["run/lock"] == before and own._thread.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    renewed = bucket.objects["run/lock"] != before
    own.give_back()
    assert renewed


@pytest.mark.parametrize(
    ("url", "status", "kind", "words"),
    [
        ("gs://nobody/run", 0, UserError, "--workdir=gs://nobody/run is in no bucket that exists"),
        ("gs://Bad_Name/run", 400, UserError, "--workdir=gs://Bad_Name/run has a name that no bucket can have"),
        (RUN, 401, MachineError, "may not be read; log in"),
        (RUN, 403, MachineError, "may not be read; log in"),
        ("s3://bucket/run", 0, UserError, "give gs://BUCKET/PATH"),
    ],
)
def test_what_cannot_be_used_is_one_line(bucket, url, status, kind, words):
    bucket.before = lambda method, path: status
    with pytest.raises(kind, match=words):
        workdir.check_workdir(url)


def test_what_gcsfs_calls_a_bad_request_is_the_users(bucket, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("Bad Request: b/Bad_Name/o\ninvalid")

    monkeypatch.setattr(buckets._client(), "call", refuse)
    with pytest.raises(UserError, match="has a name that no bucket can have; correct it"):
        workdir.check_workdir("gs://Bad_Name/run")


def test_a_bucket_that_may_not_be_written_is_one_line(bucket):
    bucket.before = lambda method, path: 403 * (method == "POST")
    with pytest.raises(MachineError, match=r"gs://bucket/run/lock cannot be written \(Permission denied\)"):
        bucket_lock.at(f"{RUN}/lock", "a test").take()


def test_what_orbax_and_gcsfs_raise_is_the_machines():
    refused = "PERMISSION_DENIED: Error reading gs://bucket/x: no [http_response_code='403']"
    for error in (ValueError(refused), OSError("Forbidden: b/bucket/o/x\nno")):
        with (
            pytest.raises(MachineError, match=r"(?s)may not write or read there .*step 4 is saved"),
            errors.machine("step 4 is saved"),
        ):
            raise error


def test_no_network_is_one_line(bucket, monkeypatch):
    aiohttp = pytest.importorskip("aiohttp")

    def lost(*_, **__):
        raise aiohttp.ClientConnectionError("Cannot connect to host storage.googleapis.com:443")

    monkeypatch.setattr(buckets._client(), "call", lost)
    with pytest.raises(MachineError, match=f"--workdir={RUN} cannot be reached; check the network"):
        workdir.check_workdir(RUN)


def test_where_only_a_folder_of_this_machine_will_do(tmp_path):
    own, there = str(tmp_path / "out"), r"gs://bucket/run must be a folder of this machine"
    for call in (
        lambda: report.report(RUN, own),
        lambda: report.report(str(tmp_path), RUN),
        lambda: convert.export(None, RUN),
        lambda: options.parse(["digits", f"--workdir={RUN}"]),
    ):
        with pytest.raises(UserError, match=there):
            call()
    assert list(tmp_path.iterdir()) == []


def test_without_gcsfs_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['gcsfs'] = None\n"
        "from nofrost_jax import errors, files\n"
        "with errors.exit_codes(): files.read('gs://bucket/run')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "error: gs:// needs the package gcsfs; pip install gcsfs\n"


def test_folders_of_this_machine_need_no_gcsfs():
    code = (
        "import sys; import nofrost_jax.train, nofrost_jax.evaluate\n"
        "from nofrost_jax import files, lock\n"
        "files.exists('x'), files.names('x'), files.absolute('x')\n"
        "print(sorted({'gcsfs', 'fsspec', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "gcsfs" not in done.stdout and "aiohttp" not in done.stdout
