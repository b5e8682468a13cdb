"""What the machine may do to a run: a full disk, a folder that goes or may not be written. One line, nothing lost."""

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from orbax.checkpoint._src.serialization import serialization

from nofrost_jax import digests, metrics, saving
from nofrost_jax.evaluation import store
from tests.conftest import ROOT, environment, tiny_args
from tests.resume.helpers import contents, saved_steps, train_here

TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Error writing local file "/run/checkpoints/8/d/x": Failed to write 4679 bytes to file 23: No '
    "space left on device [os_error_code='28'] [source locations='a.cc:1']"
)


def fail_before(monkeypatch, owner, name, applies, error):
    original = getattr(owner, name)

    def failing(*args, **kwargs):
        if applies(*args):
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


def slow_down(monkeypatch):
    """Arrays wait on their way to the disk, while the next steps, to which the state is donated, are computed."""
    write = serialization.async_serialize_from_host

    async def late(*args, **options):
        await asyncio.sleep(0.3)
        return await write(*args, **options)

    monkeypatch.setattr(serialization, "async_serialize_from_host", late)


def assert_one_line(outcome, *words):
    assert outcome.returncode == 1, outcome
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


@pytest.mark.usefixtures("compile_once")
def test_a_machine_that_fails_in_a_run_loses_nothing(whole, cli, tmp_path, monkeypatch):
    """In a save, in a line of metrics, in an evaluation; then the disk has room again. It is slow all the time."""
    slow_down(monkeypatch)
    run, full = tmp_path / "run", OSError(errno.ENOSPC, "No space left on device", "/disk/x")
    with monkeypatch.context() as patch:
        saves, save = [], saving.Checkpoints.save
        patch.setattr(saving.Checkpoints, "save", lambda *args: (saves.append(args[:2]), save(*args)))
        fail_before(patch, digests, "write", lambda path: path.endswith("/8"), ValueError(TENSORSTORE))
        has_not_failed = lambda: not saves[-1][0]._saving[1].exception(60)  # noqa: E731
        fail_before(patch, metrics.Writer, "write", lambda _, step, *__: step == 9 and has_not_failed(), full)
        outcome = cli(*tiny_args(run))
        assert_one_line(outcome, "the disk is full", "/run/checkpoints/8/d/x", "step 5 is saved", "again")
        assert "step 9/15" in outcome.stdout, "it trains while it saves"
        assert [step for _, step in saves] == [4, 5, 8], "it ends when a save has failed, not when the next is due"
    with monkeypatch.context() as patch:
        fail_before(patch, metrics.Writer, "write", lambda _, step, *__: step == 9, full)
        assert_one_line(cli(*tiny_args(run)), "the disk is full", "/disk/x", "step 8 is saved")
    with monkeypatch.context() as patch:
        gone = FileNotFoundError(errno.ENOENT, "No such file or directory", "/run/evaluations/x.tmp")
        fail_before(patch, store.Store, "save", lambda *_, **__: (run / "checkpoints/15").exists(), gone)
        assert_one_line(cli(*tiny_args(run)), "gone", "/run/evaluations/x.tmp", "the training is done and saved")
        assert_one_line(cli("--mode=evaluate", f"--workdir={run}"), "what was evaluated so far is kept")
    assert saved_steps(run) == [12, 15] and not (run / "evaluations/final.json").exists()
    assert cli(*tiny_args(run)).returncode == 0
    assert contents(run) == contents(whole[0])


def test_a_disk_that_is_full_fills_no_screen(tmp_path):
    """Files of the first save may not be as large as they would be; orbax's threads have hundreds of lines about it."""
    run = tmp_path / "run"
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", sys.executable, "main.py"]  # in units of 1024 bytes
    args = tiny_args(run, checkpoint__every_steps=1, model__width=0.25)
    done = subprocess.run([*limited, *args], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert_one_line(done, "a file would be larger", str(run / "checkpoints"), "no step was saved yet", "ulimit -f")
    assert saved_steps(run) == []


ON_SMALL_DISK = """
mount -t tmpfs -o size=120k none "$1" || exit 99
shift
"$@"
echo "code $?" >&2
mount -o remount,size=100m,ro "$DISK"
"$@"
echo "code $?" >&2
mount -o remount,rw "$DISK"
"$@"
echo "code $?" >&2
cp -r "$DISK/run" "$COPY"
"""


@pytest.mark.slow
def test_on_a_disk_that_is_full_then_read_only_then_neither(whole, tmp_path, compilation_cache):
    """A real one, in memory."""
    (tmp_path / "disk").mkdir()
    command = ["unshare", "-rm", "bash", "-c", ON_SMALL_DISK, "-", tmp_path / "disk", sys.executable, "main.py"]
    command += [*tiny_args(tmp_path / "disk/run"), f"--compilation_cache={compilation_cache}"]
    variables = {"DISK": str(tmp_path / "disk"), "COPY": str(tmp_path / "run")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment(8, **variables), capture_output=True, text=True, timeout=300
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no mount here: {done.stderr}")
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("code ")] == ["code 1", "code 1", "code 0"], done
    full, read_only = (line for line in lines if line.startswith("error: "))
    assert "the disk is full" in full and "read-only file system" in read_only
    assert contents(tmp_path / "run") == contents(whole[0])


@pytest.mark.usefixtures("compile_once")
def test_a_clock_that_jumps_changes_nothing(whole, tmp_path, monkeypatch):
    """By a day, back and forth, at each line of metrics; not while orbax saves, which waits by this clock."""
    ahead, clock = [0], time.time
    monkeypatch.setattr(time, "time", lambda: clock() + ahead[0])
    saves, write = [], metrics.Writer.write
    save = saving.Checkpoints.save
    monkeypatch.setattr(saving.Checkpoints, "save", lambda *args: (saves.append(args[0]), save(*args)))

    def jump(*args):
        for checkpoints in saves:
            checkpoints.wait()
        ahead[0] = 86_400 - ahead[0]
        write(*args)

    monkeypatch.setattr(metrics.Writer, "write", jump)
    train_here(tmp_path / "run")
    assert ahead == [86_400] and saves
    assert contents(tmp_path / "run") == contents(whole[0])


@pytest.mark.usefixtures("compile_once")
def test_a_run_that_may_only_be_read_is_evaluated_into_another_folder(whole, cli, copy, tmp_path, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(copy)) and access(path, mode))
    shutil.rmtree(copy / "evaluations")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert_one_line(cli("--mode=evaluate", f"--workdir={copy}"), "no permission in", "--output=FOLDER")
    monkeypatch.setenv("HOME", str(tmp_path))
    outcome = cli("--mode=evaluate", f"--workdir={copy}", "--output=~/found")
    assert outcome.returncode == 0, outcome.stderr
    found = tmp_path / "found/evaluations"
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    assert sorted(path.name for path in found.iterdir()) == ["final.json", "final.npz", "outcomes"]
    result = json.loads((found / "final.json").read_text())
    assert result["clean"]["accuracy"] == contents(whole[0])["result"]["clean"]["accuracy"]
    assert cli("--mode=evaluate", f"--workdir={copy}", f"--output={copy}").returncode == 1
    assert "--output is for --mode=evaluate" in cli(*tiny_args(copy), "--output=x").stderr
