"""A run that was killed or preempted as a process, on one device, ends bit for bit as one that was left alone."""

import json
import signal

import pytest

from tests.conftest import finish, run_main, start, tiny_args
from tests.resume.helpers import contents, saved_steps

# Starts main.py, but ends it by a signal at a chosen place. TINY logs at 3, 6, .., evaluates at 5, 10, saves at 4, 8.
KILLER = """
import os, pathlib, runpy, signal, sys, time
from nofrost_jax import digests, metrics, saving
place, sys.argv = sys.argv[1], ["main.py", *sys.argv[2:]]
(run,) = (pathlib.Path(one.partition("=")[2]) for one in sys.argv if one.startswith("--workdir="))

def before(owner, name, applies, act):
    original = getattr(owner, name)
    def hooked(*args, **kwargs):
        if applies(*args):
            act()
        return original(*args, **kwargs)
    setattr(owner, name, hooked)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def kill_when_saved():  # step 5, in the background
    while not digests.are_there(run / "checkpoints/5"):
        time.sleep(0.01)
    kill()

logs = lambda step: lambda writer, logged, *_: logged == step
moved = lambda source, *_: "/8.orbax" in str(source) and "/optimizer.orbax" in str(source)
before(digests, "write", lambda *_: True, lambda: time.sleep(0.3))  # a slow disk
if place == "between saves":
    before(metrics.Writer, "write", logs(6), kill_when_saved)
elif place == "during a save":  # the optimizer's half of checkpoint 8 is being moved into place
    before(os, "rename", moved, kill)
elif place == "while it trains on":  # the same takes so long that step 9 is done
    before(os, "rename", moved, lambda: time.sleep(300))
    before(metrics.Writer, "write", logs(9), kill)
elif place == "during a removal":  # of checkpoint 4, when 8 is there
    before(os, "rmdir", lambda path, *_, **__: str(path) == "optimizer", kill)
elif place == "before step 5":  # SIGTERM, seen by the loop at the end of step 5, when an evaluation is due
    before(saving.Checkpoints, "save", lambda _, step, *__: step == 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
runpy.run_path("main.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compilation_cache):
    """(folder, Outcome) of a run that was left alone. It compiles for all of this file's processes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    outcome = run_main(*tiny_args(folder), f"--compilation_cache={compilation_cache}")
    assert outcome.returncode == 0, outcome
    return folder, outcome


PLACES = ("before step 5", "between saves", "during a save", "while it trains on", "during a removal")


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, compilation_cache, undisturbed):
    """(folder, [(Outcome, saved steps), ...]) of the same command, ended at each of PLACES, then left alone."""
    folder = tmp_path_factory.mktemp("disturbed") / "run"
    args = [*tiny_args(folder), f"--compilation_cache={compilation_cache}"]
    outcomes = [(finish(start("-c", KILLER, place, *args)), saved_steps(folder)) for place in PLACES]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "tra')  # a line cut by the end of its process
    return folder, [*outcomes, (run_main(*args), saved_steps(folder))]


@pytest.mark.slow
def test_undisturbed_run_is_complete(undisturbed):
    folder, _ = undisturbed
    assert saved_steps(folder) == [12, 15]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 5, 6, 9, 10, 12, 15]
    assert json.loads((folder / "evaluations/final.json").read_text())["checkpoint"]["step"] == 15


@pytest.mark.slow
def test_killed_run_ends_bitwise_equal(undisturbed, disturbed):
    folder, outcomes = disturbed
    assert [outcome.returncode for outcome, _ in outcomes] == [75, *[-signal.SIGKILL] * 4, 0], outcomes
    stopped, between, during, training, removal, last = (steps for _, steps in outcomes)
    assert stopped == between == during == training == [4, 5]
    assert {5, 8} <= set(removal) and last == [12, 15]
    texts = [outcome.stdout for outcome, _ in outcomes]
    assert "resuming" not in texts[0]
    assert all(f"resuming from the checkpoint of step {step}" in texts[i] for i, step in enumerate((5, 5, 5, 5, 8), 1))
    assert not any("damaged" in text for text in texts)  # an incomplete save is no checkpoint yet
    assert contents(folder) == contents(undisturbed[0])
    assert not list(folder.glob("checkpoints/*tmp*"))


@pytest.mark.slow
def test_sigterm_saves_and_exits_75(disturbed):
    _, [(stopped, _), (resumed, _), *_] = disturbed
    assert stopped.stderr.splitlines() == [
        "stopped by SIGTERM; step 5 is saved, run the same command again to continue"
    ]
    assert "evaluated step 5" not in stopped.stdout
    assert resumed.stdout.count("evaluated step 5") == 1  # it was due when the signal came
