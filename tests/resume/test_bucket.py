"""A run in a bucket, on a stand-in for Google Cloud Storage, is bit for bit the run in a folder, also after kills."""

import functools
import itertools
import json
import re
import signal
import types

import numpy as np
import pytest

import nofrost_jax
from nofrost_jax import bucket_lock, checkpoint, evaluate, lock, saving, selection
from nofrost_jax.config import prepare
from nofrost_jax.convert import sources
from nofrost_jax.convert.__main__ import export
from nofrost_jax.errors import MachineError, UserError
from tests.conftest import finish, sharing_compiled, start, tiny_args, tiny_config
from tests.resume.helpers import contents, train_here

RUN = "gs://bucket/run"
MAIN = """
import runpy, sys
from nofrost_jax import lock
lock.BEAT_SECONDS, sys.argv = 0.1, ["main.py", *sys.argv[1:]]
runpy.run_path("main.py", run_name="__main__")
"""


def saved_steps(bucket):
    found = (re.match(r"checkpoints/(\d+)/", name) for name in bucket.below("run"))
    return sorted({int(one[1]) for one in found if one})


@pytest.fixture(scope="module")
def finished(_stand_in, compilation_cache):
    """{name: (generation, bytes)} of a run in the bucket that nothing disturbed, in this process."""
    with sharing_compiled(compilation_cache):
        train_here(RUN)
    objects = _stand_in.objects
    _stand_in.reset()
    return objects


@pytest.fixture
def run(finished, bucket):
    """The stand-in with that run."""
    bucket.objects = dict(finished)
    return bucket


def test_a_run_in_a_bucket_equals_the_one_in_a_folder(run, whole, tmp_path):
    assert contents(run.download("run", tmp_path / "run")) == contents(whole[0])
    assert saved_steps(run) == [12, 15] and not [name for name in run.objects if "lock" in name or "tmp" in name]


@pytest.mark.usefixtures("compile_once")
def test_it_is_evaluated_and_loaded_from_there(run, whole, tmp_path):
    evaluate.evaluate(None, RUN, output="gs://bucket/other")
    found, local = (
        json.loads(text)
        for text in (run.below("other")["evaluations/final.json"], (whole[0] / "evaluations/final.json").read_text())
    )
    assert found["checkpoint"]["path"] == RUN
    assert found["checkpoint"]["params_sha256"] == local["checkpoint"]["params_sha256"]
    assert found["worst_case"] == local["worst_case"]
    images, own = np.zeros((2, 8, 8, 3), np.uint8), nofrost_jax.load(whole[0])
    for place, step in ((RUN, 15), (f"{RUN}/", 15), (f"{RUN}/checkpoints/12", 12)):
        classifier = nofrost_jax.load(place)
        assert classifier.provenance["step"] == step and classifier.provenance["run"] == "run"
    assert np.array_equal(nofrost_jax.load(RUN)(images), own(images))
    export(sources.read(RUN), str(tmp_path / "export"))
    assert "| `pgd_20`, 2 steps |" in (tmp_path / "export/README.md").read_text()
    with pytest.raises(UserError, match="there is no gs://bucket/none"):
        nofrost_jax.load("gs://bucket/none")


@pytest.mark.usefixtures("compile_once")
def test_a_damaged_checkpoint_is_passed_over(run, whole, tmp_path, capsys):
    name = max((name for name in run.objects if "/15/variables/d/" in name), key=lambda one: len(run.objects[one][1]))
    run.put(name, run.objects[name][1][:-1] + b"?")
    assert nofrost_jax.load(RUN).provenance["step"] == 12
    capsys.readouterr()
    train_here(RUN)
    shown = capsys.readouterr().out
    assert "checkpoint 15 is damaged (variables/d/" in shown and "resuming from the checkpoint of step 12" in shown
    assert name.replace("/checkpoints/", "/checkpoints_damaged/") in run.objects
    assert contents(run.download("run", tmp_path / "run")) == contents(whole[0])


def test_a_bucket_that_fails_is_no_damaged_result(run, tmp_path, capsys):
    train_here(RUN)
    assert "written by an earlier run" in capsys.readouterr().out
    run.before = lambda method, path: 403 * (method == "GET" and "final.npz" in path)
    with pytest.raises(MachineError, match=r"may not write or read there \(gs://bucket/run/evaluations/final.npz"):
        train_here(RUN)
    assert "evaluating again" not in capsys.readouterr().out


@pytest.mark.usefixtures("compile_once")
def test_a_result_without_its_arrays_is_evaluated_again(run, whole, tmp_path, capsys):
    run.put("run/evaluations/final.npz", run.objects["run/evaluations/final.npz"][1][:-100])
    train_here(RUN)
    assert f"{RUN}/evaluations/final.npz is missing or damaged; evaluating again" in capsys.readouterr().out
    assert contents(run.download("run", tmp_path / "run")) == contents(whole[0])


def test_a_move_of_a_damaged_checkpoint_that_was_killed_keeps_what_it_had_copied(bucket):
    checkpoints = object.__new__(saving.Checkpoints)
    checkpoints.directory = f"{RUN}/checkpoints"
    for name in "abc":
        bucket.put(f"run/checkpoints/5/{name}", name.encode())
    bucket.before = lambda method, path: 403 * (method == "DELETE" and path.endswith(("/a", "/b")))
    with pytest.raises(PermissionError):
        checkpoints._move_away([5])
    assert set(bucket.below("run/checkpoints/5")) == {"a", "b"}
    bucket.before = lambda method, path: 0
    checkpoints._move_away([5])
    assert bucket.below("run") == {f"checkpoints_damaged/5/{name}": name.encode() for name in "abc"}


def test_a_second_run_is_refused(bucket, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    own = bucket_lock.at(f"{RUN}/lock", "a training")
    assert own.take() == ""
    with pytest.raises(UserError, match=rf"^{RUN} is in use by a training: process .* \({RUN}/lock\); wait"):
        train_here(RUN)
    own.give_back()
    assert bucket.objects == {}


@pytest.mark.parametrize(
    ("name", "place", "step"),
    [("8/optimizer/d/", "", 5), ("metrics.jsonl", "gs://bucket/run/metrics.jsonl: ", 10)],
)
def test_a_bucket_that_refuses_ends_the_run_with_what_is_saved(bucket, compilation_cache, name, place, step):
    def refuse(method, path):
        saved = "run/checkpoints/8/files_sha256.json" in bucket.objects or "checkpoints" in path
        return 403 if method == "POST" and name in path and saved else 0

    bucket.before = refuse
    outcome = finish(start("-c", MAIN, *tiny_args(RUN), f"--compilation_cache={compilation_cache}", devices=8))
    what = (
        rf"error: this process may not write or read there \({place}Permission denied\); step {step} is saved; change"
    )
    assert outcome.returncode == 1 and re.match(what, outcome.stderr.splitlines()[-1]), outcome
    assert "Traceback" not in outcome.stderr and "run/lock" not in bucket.objects


class Killer:
    """Kills the process at its first request of a kind."""

    def __init__(self, method, part):
        self.method, self.part, self.process = method, part, None

    def __call__(self, method, path):
        if self.process and method == self.method and self.part in path:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
            raise ConnectionError("of a killed process")
        return 0


@pytest.mark.slow
def test_a_killed_run_ends_bitwise_equal(bucket, whole, compilation_cache, tmp_path):
    args = ["-c", MAIN, *tiny_args(RUN), f"--compilation_cache={compilation_cache}"]
    places = [
        ("POST", "checkpoints/8/optimizer/d/"),  # in a save, of step 8
        ("POST", "checkpoints/8/files_sha256.json"),  # all of it is there, but not its hashes
        ("DELETE", "checkpoints/4/optimizer/"),  # when 8 is whole, and 4 not yet gone
        ("POST", "evaluations/final.npz"),
    ]
    outcomes = []
    for place in places:
        bucket.before = Killer(*place)
        process = bucket.before.process = start(*args, devices=8)
        outcomes.append((finish(process), saved_steps(bucket)))
    last = finish(start(*args, devices=8))
    assert [outcome.returncode for outcome, _ in outcomes] == [-signal.SIGKILL] * 4 and last.returncode == 0, outcomes
    assert [steps for _, steps in outcomes] == [[4, 5, 8], [4, 5, 8], [4, 5, 8], [12, 15]]
    resumed = [re.findall(r"resuming from the checkpoint of step (\d+)", one.stdout) for one, _ in outcomes]
    assert resumed == [[], ["5"], ["5"], ["8"]] and "resuming from the checkpoint of step 15" in last.stdout
    assert all("taken over: the lock of a training" in one.stdout for one, _ in outcomes[1:])
    assert contents(bucket.download("run", tmp_path / "run")) == contents(whole[0])
    assert saved_steps(bucket) == [12, 15] and not [name for name in bucket.objects if "lock" in name]


def test_a_choice_is_whole_whenever_its_replacement_ends(bucket):
    best = object.__new__(selection.Best)
    best.folder, best.config = f"{RUN}/best", prepare(tiny_config(checkpoint__select="best_ra_val"))
    best._evaluator = types.SimpleNamespace(images=types.SimpleNamespace(count=1))
    trees = [{"params": {"w": np.full(3, step, np.float32)}} for step in range(2)]

    def keep(step):
        best._keep(types.SimpleNamespace(variables=trees[step]), {"step": step, "accuracy": 0.5})

    def readable():
        folder = best.folder if checkpoint.read_selection(best.folder) else f"{best.folder}.old"
        chosen, (variables, _) = checkpoint.read_selection(folder), checkpoint.load_export(folder)
        assert checkpoint.tree_sha256(variables) == chosen["params_sha256"]
        return chosen["step"]

    def refuse(left, method, path):  # all changes but the first
        return 403 if method != "GET" and next(left, None) is None else 0

    bucket.put("run/config.json", json.dumps({"checkpoint": {"select": "best_ra_val"}}).encode())
    keep(0)
    before, found = dict(bucket.objects), []
    for last in itertools.count():
        bucket.objects = dict(before)
        bucket.before = functools.partial(refuse, iter(range(last)))
        try:
            keep(1)
            break
        except PermissionError:
            bucket.before = lambda method, path: 0
            now = readable()
            selection._finish_replacing(best.folder)
            assert readable() == now and not bucket.below("run/best.old")
            found.append(now)
    assert found == sorted(found) and set(found) == {0, 1} and readable() == 1
