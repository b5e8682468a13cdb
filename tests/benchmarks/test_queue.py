"""The accelerator queue itself, on tasks that crash, hang, and run out of time."""

import argparse
import json
import os
import time

import pytest

from benchmarks import accelerator
from benchmarks.accelerator import Queue, Task
from benchmarks.tasks import study
from nofrost_jax import parallel, train


def stand_in(name, act, seconds=60, least=1, **fields):
    return Task(name, seconds, least, "tests.benchmarks.stand_in", (f"--act={act}",), **fields)


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A function that runs a queue over some tasks as a new command would: (exit code, {task: (state, headline)})."""
    monkeypatch.setattr(Queue, "device_kind", lambda self: "cpu")
    monkeypatch.setattr(accelerator, "RESULTS", tmp_path / "committed")
    monkeypatch.setattr(accelerator, "GRACE", 3)

    def run(*tasks, minutes=1.0, output=tmp_path / "output"):
        options = argparse.Namespace(minutes=minutes, output=str(output), data="", rehearse=False)
        made = Queue(options)
        code = made.run(tasks)
        return code, {name: (state, headline) for name, state, _, headline in made.rows}

    return run


def read(tmp_path, name):
    return json.loads((tmp_path / "output" / "cpu" / name).read_text())


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_task_that_crashes_or_hangs_stops_neither_the_queue_nor_the_table(queue, tmp_path, capfd):
    tasks = [stand_in("a", "crash"), stand_in("b", "die"), stand_in("c", "hang", seconds=3), stand_in("d", "ok")]
    code, rows = queue(*tasks)
    assert code == 1
    assert [state for state, _ in rows.values()] == ["failed", "failed", "partial", "done"]
    assert (
        "fell off the bus" in rows["a"][1] and "fell off the bus" in read(tmp_path, "a.json")["failure"]["output"][-1]
    )
    assert read(tmp_path, "b.json")["failure"]["reason"] == "exit code -9"
    assert "limit of 3 s" in rows["c"][1] and not read(tmp_path, "c.json")["complete"]
    child = read(tmp_path, "c.json")["figures"]["child"]
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
    table = capfd.readouterr().out.splitlines()[-5:]
    assert table[0].split() == ["task", "state", "seconds"] and table[4].startswith("d ")


def test_what_is_complete_is_kept_and_what_is_partial_goes_on(queue, tmp_path):
    _, first = queue(stand_in("ok", "ok"), stand_in("grow", "grow"), stand_in("crash", "crash"))
    assert (first["ok"][0], first["grow"][0], first["crash"][0]) == ("done", "partial", "failed")
    _, second = queue(stand_in("ok", "ok"), stand_in("grow", "grow", seconds=35), stand_in("crash", "ok"), minutes=3)
    assert second["ok"] == ("kept", first["ok"][1])
    assert second["grow"][0] == "done" and second["grow"][1] == "grow after 2, 105 s given"  # three times its limit
    assert second["crash"][0] == "done" and "failure" not in read(tmp_path, "crash.json")


def test_the_imports_of_a_task_count(queue):
    _, rows = queue(stand_in("clock", "clock"))
    started, alive = map(float, rows["clock"][1].split())
    assert 0 < alive <= started + 0.1  # seconds since its clock began, and since its first line


def test_committed_results_are_kept_or_gone_on_with(queue, tmp_path):
    committed = tmp_path / "committed"
    _, first = queue(stand_in("ok", "ok"), stand_in("grow", "grow"), output=committed)
    _, second = queue(stand_in("ok", "ok"), stand_in("grow", "grow"))
    assert second["ok"] == ("kept", first["ok"][1])
    assert second["grow"][1].startswith("grow after 2")
    assert os.listdir(tmp_path / "output" / "cpu") == ["grow.json"]


def test_the_minutes_hold(queue):
    """A task gets what is left where it can use it, and is left where it cannot."""
    _, rows = queue(stand_in("long", "ok", 100, 90), stand_in("short", "ok", 100, 2), minutes=0.5)
    assert rows["long"][0] == "left" and "needs 90 s" in rows["long"][1]
    given = float(rows["short"][1].split(", ")[1].split()[0])
    assert rows["short"][0] == "done" and 20 <= given <= 27


def test_what_is_wanted_most_fits_one_loan():
    first = accelerator.TASKS[: [task.name for task in accelerator.TASKS].index("attacks")]
    assert {"train_step", "torch_step", "options", "correct", "profile"} <= {task.name for task in first}
    assert sum(task.seconds for task in first) + accelerator.GRACE <= 9 * 60 - 10  # to say what the device is


def test_what_a_task_needs_is_named(queue):
    _, rows = queue(stand_in("a", "ok", needs=("jax", "no_such_package")))
    assert rows["a"] == ("left", "needs no_such_package")


def test_other_versions_start_anew(queue, tmp_path):
    queue(stand_in("grow", "grow"))
    path = tmp_path / "output" / "cpu" / "grow.json"
    path.write_text(path.read_text().replace('"numpy": "', '"numpy": "0.'))
    assert queue(stand_in("grow", "grow"))[1]["grow"][0] == "partial"


def test_a_folder_is_named_in_letters_that_travel():
    assert accelerator.folder_name("NVIDIA H100 80GB HBM3") == "NVIDIA_H100_80GB_HBM3"
    assert accelerator.folder_name("TPU v5 lite/é") == "TPU_v5_lite"


def test_a_new_checkpoint_is_packed_at_once_and_the_reserve_grows(tmp_path, monkeypatch):
    """What follows a training cannot be interrupted while it compiles: a row may be killed there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel.StopSignal, "requested", lambda stop: False)  # and put back what `run_row` sets
    asked = []

    def killed(config, workdir):
        asked.append(parallel.StopSignal.requested(None))
        os.makedirs(f"{workdir}/checkpoints/7")
        asked.append(parallel.StopSignal.requested(None))
        raise RuntimeError("killed")

    monkeypatch.setattr(train, "train", killed)
    options = argparse.Namespace(row="sat", seed=0)
    task = argparse.Namespace(
        figures={"epochs": 1}, rehearse=True, options=options, left=lambda: 40, record=lambda *_: 0
    )
    with pytest.raises(RuntimeError, match="killed"):
        study.run_row(task, tmp_path / "row.json")
    assert asked == [False, True] and len(study.parts(tmp_path / "row.json")) == 1
