"""The lock of a folder: who holds it, what becomes of a dead holder's, also one on another machine."""

import concurrent.futures
import fcntl
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from nofrost_jax import lock, workdir
from nofrost_jax.config import prepare
from nofrost_jax.errors import UserError
from tests.conftest import finish, start, tiny_config

HOLD = """
import sys, time
from nofrost_jax import lock, train, workdir
lock.BEAT_SECONDS = 0.05
if "stale" in sys.argv:  # what a file server says of a file that is gone
    def stale(_):
        raise OSError(116, "Stale file handle")
    lock.os.utime = stale
with lock.hold(sys.argv[1], "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder/lock"


@pytest.fixture
def quick(monkeypatch):
    """Beats and looks in a hundredth of the time."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)


def elsewhere(path, **changes):
    """Writes the record of a holder on another machine."""
    record = {"what": "a training", "host": "node7", "process": 12, "since": "2026-01-02 03:04:05 UTC"}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record | {"kernel": "another", "token": "theirs"} | changes))


def test_a_second_holder_is_told_of_the_first(path):
    with lock.hold(path, "a test"):
        with pytest.raises(UserError) as caught, lock.hold(path, "another"):
            pass
        words = rf"{path.parent} is in use by a test: process {os.getpid()} on \S+, since 20.* UTC \({path}\); wait .*"
        assert re.fullmatch(words, str(caught.value))
    assert list(path.parent.iterdir()) == []
    with lock.hold(path, "a test"):
        pass


def test_a_holder_that_has_not_yet_written_who_it_is_is_waited_for(path, monkeypatch):
    path.parent.mkdir()
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        timer = threading.Timer(0.3, elsewhere, (path,))
        timer.start()
        with pytest.raises(UserError, match="in use by a training: process 12 on node7"), lock.hold(path, "a test"):
            pass
        timer.join()
        path.write_text("")
        monkeypatch.setattr(lock, "NAME_SECONDS", 0.1)
        with pytest.raises(UserError, match="in use by another process"), lock.hold(path, "a test"):
            pass


def test_it_is_given_back_after_an_error(path):
    with pytest.raises(ZeroDivisionError), lock.hold(path, "a test"):
        raise ZeroDivisionError
    assert not path.exists()


def test_a_killed_holders_lock_is_taken_over_at_once(path, capsys, monkeypatch):
    monkeypatch.setattr(lock, "is_alive", None)  # the kernel lock decides
    holder = start("-c", HOLD, path)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {holder.pid} on"), lock.hold(path, "a test"):
        pass
    holder.send_signal(signal.SIGKILL)
    finish(holder)
    with lock.hold(path, "a test"):
        text = capsys.readouterr().out
    assert re.fullmatch(f"taken over: the lock of a test: process {holder.pid} on .*, that process is gone .*\n", text)
    assert not path.exists()


def test_a_silent_holder_elsewhere_is_taken_over_and_a_living_one_is_not(path, quick, capsys):
    elsewhere(path)
    with lock.hold(path, "a test"):
        assert json.loads(path.read_text())["process"] == os.getpid()
    said, taken = capsys.readouterr().out.splitlines()
    assert "waiting up to 0.2 s for a sign of life" in said and "process 12 on node7, since 2026" in said
    assert taken.startswith("taken over: the lock of a training: process 12 on node7") and "silent for 0.2 s" in taken

    elsewhere(path)
    timer = threading.Timer(0.06, os.utime, (path,))
    timer.start()
    with pytest.raises(UserError, match="in use by a training: process 12 on node7"), lock.hold(path, "a test"):
        pass
    timer.join()
    assert json.loads(path.read_text())["token"] == "theirs"


def test_what_killed_writers_left_in_the_folder_goes(path):
    """Their hidden files of more than an hour ago, in the folder of a `lock` alone; nobody else's."""
    left = [path.parent / name for name in (f".{'0' * 32}.tmp", f".{'1' * 32}.tmp", ".own.tmp", f"in/.{'0' * 32}.tmp")]
    left[-1].parent.mkdir(parents=True)
    for file in left:
        file.write_text("")
        os.utime(file, (time.time() - 4000,) * 2)
    os.utime(left[1])
    with lock.hold(path.with_name("final.lock"), "an evaluation"):
        assert all(file.exists() for file in left)
    with lock.hold(path, "a training"):
        assert [file.exists() for file in left] == [False, True, True, True]


def test_where_the_file_system_has_no_locks_the_beat_decides(path, quick, monkeypatch):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with lock.hold(path, "a test"), pytest.raises(UserError, match="in use by a test"), lock.hold(path, "another"):
        pass
    assert not path.exists()


@pytest.mark.parametrize("more", [(), ("stale",)])
def test_a_holder_that_lost_its_lock_ends(path, more):
    holder = start("-c", HOLD, path, *more)
    assert holder.stdout.readline() == "held\n"
    elsewhere(path)
    outcome = finish(holder)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith(f"error: {path} was taken over by a training: process 12 on node7")
    assert json.loads(path.read_text())["token"] == "theirs"


def test_a_holder_ends_when_one_that_took_it_over_has_ended(path):
    """Or is about to write its name into a new file."""
    for follow in (lambda: None, path.touch):
        holder = start("-c", HOLD, path)
        assert holder.stdout.readline() == "held\n"
        path.unlink()
        follow()
        outcome = finish(holder)
        assert outcome.returncode == 1 and re.match(rf"error: {path} was (removed|taken over)", outcome.stderr), outcome


def test_a_lock_that_was_taken_over_is_not_removed(path):
    own = lock.Lock(path, "a test")
    assert own.take() == ""
    elsewhere(path)
    own.give_back()
    assert json.loads(path.read_text())["token"] == "theirs"


def test_another_users_lock_is_told(path, monkeypatch):
    elsewhere(path)

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock.os, "open", forbidden)
    with pytest.raises(
        UserError, match=r"another user's lock, of a training: process 12 on node7.*; wait .* remove the"
    ):
        lock.Lock(path, "a test").take()


def test_no_two_are_ever_inside_though_the_file_comes_and_goes(path):
    inside, seen = [], []

    def contend(number):
        held = 0
        while held < 100:
            own = lock.Lock(path, "a test")
            if own.take():
                time.sleep(0.001)
                continue
            inside.append(number)
            time.sleep(0.0005)
            seen.append(len(inside))
            inside.remove(number)
            held += 1
            own.give_back()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(contend, range(4)))
    assert seen == [1] * 400


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), lock.hold(tmp_path / "file/lock", "a test"):
        pass


def test_config_json_is_not_written_over_anothers(tmp_path):
    """As it would be if the lock had failed: the other's came between the look at the folder and the writing."""
    ours, theirs = (prepare(tiny_config(seed=seed)) for seed in (0, 1))
    workdir.check_config(ours, str(tmp_path))
    workdir.write_config(theirs, str(tmp_path))
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"belongs to a run of another config \(seed: 1 -> 0\)"):
        workdir.write_config(ours, str(tmp_path))
    assert (tmp_path / "config.json").read_bytes() == before
    workdir.write_config(ours, str(tmp_path), force=True)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0 and len([*tmp_path.iterdir()]) == 1


TOGETHER = """
import sys
from nofrost_jax import errors, parallel, processes
port, number, path = sys.argv[1:]
with errors.exit_codes(processes.leave), processes.joined(f"localhost:{port}", 2, int(number)):
    with parallel.exclusive(path, "a test"):
        print(parallel.on_main(lambda: {"main": int(number)}), flush=True)
"""


def together(path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [start("-c", TOGETHER, port, number, path) for number in (0, 1)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(finish, started))


def test_of_several_processes_the_first_takes_it_for_all(path):
    for outcome in together(path):
        assert outcome.returncode == 0 and outcome.stdout.endswith("{'main': 0}\n"), outcome
    assert not path.exists()
    with lock.hold(path, "another"):
        for outcome in together(path):
            assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
            assert f"in use by another: process {os.getpid()} on" in outcome.stderr
