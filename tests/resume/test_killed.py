"""A run that was killed or preempted as a process, on one device, ends bit for bit as one that was left alone."""

import json
import signal

import pytest

from tests.conftest import finish, run_main, start, tiny_args
from tests.resume.helpers import contents, saved_steps

# Starts main.py, but ends it by a signal at a chosen place. TINY logs at 3, 6, .., evaluates at 5, 10, saves at 4, 8.
KILLER = """
import os, runpy, signal, sys
from nofrost_jax import checkpoint, metrics
place, sys.argv = sys.argv[1], ["main.py", *sys.argv[2:]]

def before(owner, name, applies, number):
    original = getattr(owner, name)
    def hooked(*args, **kwargs):
        if applies(*args):
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)
    setattr(owner, name, hooked)

if place == "between saves":
    before(metrics.Writer, "write", lambda writer, step, *_: step == 6, signal.SIGKILL)
elif place == "during a save":  # the optimizer's half of checkpoint 8 is being moved into place
    moved = lambda source, *_: "/8.orbax" in str(source) and "/optimizer.orbax" in str(source)
    before(os, "rename", moved, signal.SIGKILL)
elif place == "during a removal":  # of checkpoint 4, when 8 is there
    before(os, "rmdir", lambda path, *_, **__: str(path) == "optimizer", signal.SIGKILL)
elif place == "before step 5":  # SIGTERM, seen by the loop at the end of step 5, when an evaluation is due
    before(checkpoint.Checkpoints, "save", lambda checkpoints, step, *_: step == 4, signal.SIGTERM)
runpy.run_path("main.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compilation_cache):
    """(folder, Outcome) of a run that was left alone. It compiles for all of this file's processes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    outcome = run_main(*tiny_args(folder), f"--compilation_cache={compilation_cache}")
    assert outcome.returncode == 0, outcome
    return folder, outcome


PLACES = ("before step 5", "between saves", "during a save", "during a removal")


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, compilation_cache, undisturbed):
    """(folder, [(Outcome, saved steps), ...]) of the same command, ended at each of PLACES, then left alone."""
    folder = tmp_path_factory.mktemp("disturbed") / "run"
    args = [*tiny_args(folder), f"--compilation_cache={compilation_cache}"]
    outcomes = [(finish(start("-c", KILLER, place, *args)), saved_steps(folder)) for place in PLACES]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "tra')  # a line cut by the end of its process
    return folder, [*outcomes, (run_main(*args), saved_steps(folder))]


def test_undisturbed_run_is_complete(undisturbed):
    folder, _ = undisturbed
    assert saved_steps(folder) == [12, 15]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 5, 6, 9, 10, 12, 15]
    assert json.loads((folder / "evaluations/final.json").read_text())["checkpoint"]["step"] == 15


def test_killed_run_ends_bitwise_equal(undisturbed, disturbed):
    folder, outcomes = disturbed
    assert [outcome.returncode for outcome, _ in outcomes] == [75, *[-signal.SIGKILL] * 3, 0], outcomes
    stopped, between, during, removal, last = (steps for _, steps in outcomes)
    assert stopped == between == during == [4, 5]
    assert {5, 8} <= set(removal) and last == [12, 15]
    texts = [outcome.stdout for outcome, _ in outcomes]
    assert "resuming" not in texts[0]
    assert all(f"resuming from the checkpoint of step {step}" in texts[i] for i, step in enumerate((5, 5, 5, 8), 1))
    assert not any("damaged" in text for text in texts)  # an incomplete save is no checkpoint yet
    assert contents(folder) == contents(undisturbed[0])
    assert not list(folder.glob("checkpoints/*tmp*"))


def test_sigterm_saves_and_exits_75(disturbed):
    _, [(stopped, _), (resumed, _), *_] = disturbed
    assert stopped.stderr.splitlines() == [
        "stopped by SIGTERM; step 5 is saved, run the same command again to continue"
    ]
    assert "evaluated step 5" not in stopped.stdout
    assert resumed.stdout.count("evaluated step 5") == 1  # it was due when the signal came
