"""A run that was killed, preempted or damaged ends bit for bit as one that was left alone."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from nofrost_jax import attacks, checkpoint, data, methods, parallel, run, train, validate
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.evaluation import engine, table
from tests.conftest import finish, run_main, sharing_compiled, start, tiny_args, tiny_config

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


def saved_steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def arrays(folder, step):
    """(variables, optimizer) of a checkpoint as orbax reads them, without our own code."""
    place = ocp.ArrayRestoreArgs(sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    with ocp.PyTreeCheckpointer() as reader:
        for name in ("variables", "optimizer"):
            path = folder / "checkpoints" / str(step) / name
            tree = reader.metadata(path).item_metadata.tree
            yield reader.restore(path, ocp.args.PyTreeRestore(restore_args=jax.tree.map(lambda _: place, tree)))


def contents(folder):
    """All that must be equal: restored arrays, metrics, the result without its times and place, the outcomes."""
    hashes = {step: [checkpoint.tree_sha256(tree) for tree in arrays(folder, step)] for step in saved_steps(folder)}
    result = json.loads((folder / "evaluations/final.json").read_text())
    del result["checkpoint"]["path"]
    for entry in (result["clean"], *result["attacks"]):
        for time in ("seconds", "compile_seconds"):
            entry.pop(time, None)
    with np.load(folder / "evaluations/final.npz") as columns:
        outcomes = {name: columns[name].tolist() for name in columns.files}
    return {
        "hashes": hashes,
        "metrics": (folder / "metrics.jsonl").read_bytes(),
        "result": result,
        "outcomes": outcomes,
    }


# As processes, on one device


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compilation_cache):
    """(folder, Outcome) of a run that was left alone. It compiles for all of this file's processes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    outcome = run_main(*tiny_args(folder), f"--compilation_cache={compilation_cache}")
    assert outcome.returncode == 0, outcome
    return folder, outcome


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, compilation_cache, undisturbed):
    """{"killed" | "preempted": (folder, Outcomes)}: the same command, ended at the places, then left alone."""

    def disturb(name, places):
        folder = tmp_path_factory.mktemp(name) / "run"
        args = [*tiny_args(folder), f"--compilation_cache={compilation_cache}"]
        outcomes = []
        for place in places:
            outcomes.append((finish(start("-c", KILLER, place, *args)), saved_steps(folder)))
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 14, "tra')  # a line cut by the end of its process
        return folder, [*outcomes, (run_main(*args), saved_steps(folder))]

    stories = {"killed": ["between saves", "during a save", "during a removal"], "preempted": ["before step 5"]}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = {name: pool.submit(disturb, name, places) for name, places in stories.items()}
        return {name: job.result() for name, job in jobs.items()}


def test_undisturbed_run_is_complete(undisturbed):
    folder, _ = undisturbed
    assert saved_steps(folder) == [12, 15]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 5, 6, 9, 10, 12, 15]
    assert json.loads((folder / "evaluations/final.json").read_text())["checkpoint"]["step"] == 15


def test_killed_run_ends_bitwise_equal(undisturbed, disturbed):
    folder, outcomes = disturbed["killed"]
    assert [outcome.returncode for outcome, _ in outcomes] == [-signal.SIGKILL] * 3 + [0], outcomes
    between, during, removal, last = (steps for _, steps in outcomes)
    assert (between, during) == ([4, 5], [4, 5])
    assert {5, 8} <= set(removal) and last == [12, 15]
    texts = [outcome.stdout for outcome, _ in outcomes]
    assert "resuming" not in texts[0]
    assert all(f"resuming from the checkpoint of step {step}" in texts[i] for i, step in [(1, 5), (2, 5), (3, 8)])
    assert not any("damaged" in text for text in texts)  # a save that was cut is no checkpoint yet
    assert contents(folder) == contents(undisturbed[0])
    assert not list(folder.glob("checkpoints/*tmp*"))


def test_sigterm_saves_and_exits_75(undisturbed, disturbed):
    folder, [(stopped, steps), (resumed, _)] = disturbed["preempted"]
    assert stopped.returncode == 75 and stopped.stderr.splitlines() == [
        "stopped by SIGTERM; step 5 is saved, run the same command again to go on"
    ]
    assert steps == [4, 5] and "evaluated step 5" not in stopped.stdout
    assert resumed.returncode == 0 and "resuming from the checkpoint of step 5" in resumed.stdout
    assert resumed.stdout.count("evaluated step 5") == 1  # it was due when the signal came
    assert contents(folder) == contents(undisturbed[0])


# In this process, on eight devices


def train_here(folder, force=False, **fields):
    run.train(tiny_config(**fields), str(folder), force=force)


class Traces:
    """Counts how often a training step and a PGD attack are traced."""

    def __init__(self, monkeypatch):
        self.steps = self.attacks = 0
        method, attack = methods.TABLE["at"], attacks.PGD.ascend

        def counting_make_step(*args):
            step = method.make_step(*args)

            def counted(*inputs):
                self.steps += 1
                return step(*inputs)

            return counted

        def counting_attack(*args):
            self.attacks += 1
            return attack(*args)

        monkeypatch.setitem(methods.TABLE, "at", dataclasses.replace(method, make_step=counting_make_step))
        monkeypatch.setattr(attacks.PGD, "ascend", counting_attack)


def map_after_compiling(devices, step, *arguments):
    """What several processes do. A compiled program takes any arguments; pmap traces again if they are placed anew."""
    mapped = devices.map_step(step)
    mapped.lower(*arguments).compile()
    return mapped


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compilation_cache):
    """(folder, Traces) of an undisturbed run in this process, which compiles for those below."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch, sharing_compiled(compilation_cache):
        monkeypatch.setattr(parallel.Devices, "compile_step", map_after_compiling)
        traces = Traces(monkeypatch)
        train_here(folder)
    return folder, traces


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the undisturbed run's folder, to be damaged."""
    return pathlib.Path(shutil.copytree(whole[0], tmp_path / "run"))


def test_everything_is_traced_once(whole):
    _, traces = whole
    assert traces.steps == 1
    assert traces.attacks == 2  # in the step; in the evaluator, for two evaluations on the way and the last


def data_file(folder):
    return max((folder / "variables").rglob("d/*"), key=lambda path: path.stat().st_size)


def truncate(folder):
    path = data_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(folder):
    path = data_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def lose_a_file(folder):
    data_file(folder).unlink()


def lose_the_optimizer(folder):
    shutil.rmtree(folder / "optimizer")


def empty_the_meta(folder):
    (folder / "meta/metadata").write_text("")


@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("damage", [truncate, alter, lose_a_file, lose_the_optimizer, empty_the_meta])
def test_damaged_newest_checkpoint_falls_back(whole, copy, capsys, damage):
    damage(copy / "checkpoints/15")
    train_here(copy)
    text = capsys.readouterr().out
    assert text.count("checkpoint 15 is damaged") == 1 and "resuming from the checkpoint of step 12" in text
    assert contents(copy) == contents(whole[0])
    assert [path.name for path in (copy / "checkpoints_damaged").iterdir()] == ["15"]


def test_hash_is_what_finds_changed_numbers(copy, capsys):
    """A checkpoint whose files are in order, but whose numbers are not those that were saved."""
    variables, _ = arrays(copy, 15)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), variables)
    variables["params"]["head"]["bias"] += 1e-6
    with ocp.StandardCheckpointer() as writer:
        writer.save(copy / "checkpoints/15/variables", variables, force=True)
    (copy / "checkpoints/15" / checkpoint.DIGESTS).unlink()  # as after a kill between the save and its files' hashes
    checkpoints = checkpoint.Checkpoints(copy, writable=False)
    assert checkpoints.restore({"variables": abstract})[0] == 12
    checkpoints.close()
    assert "variables is not what was saved: its hash differs" in capsys.readouterr().out


def test_all_damaged_is_an_error(cli, copy):
    for step in (12, 15):
        alter(copy / "checkpoints" / str(step))
    before = sorted(copy.rglob("*"))
    for outcome in (cli(*tiny_args(copy)), cli("--mode=evaluate", f"--workdir={copy}")):
        assert outcome.returncode == 2 and outcome.stdout.count("is damaged") == 2
        assert len(outcome.stderr.splitlines()) == 1
        assert "no checkpoint in" in outcome.stderr and "15, 12 are damaged" in outcome.stderr
    assert sorted(copy.rglob("*")) == before


@pytest.mark.usefixtures("compile_once")
def test_changed_config_is_refused_and_force_goes_on(cli, copy):
    shutil.rmtree(copy / "checkpoints/15")
    metrics, config = ((copy / name).read_bytes() for name in ("metrics.jsonl", "config.json"))
    changed = tiny_args(copy, log__every_steps=2, evaluation__limit=100)
    refused = cli(*changed)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    for word in ("log.every_steps: 3 -> 2", "evaluation.limit: 0 -> 100", "--force"):
        assert word in refused.stderr
    assert ((copy / "metrics.jsonl").read_bytes(), (copy / "config.json").read_bytes()) == (metrics, config)

    forced = cli(*changed, "--force")
    assert forced.returncode == 0, forced.stderr
    assert "resuming from the checkpoint of step 12" in forced.stdout and "step 14/15" in forced.stdout
    assert json.loads((copy / "config.json").read_text())["log"]["every_steps"] == 2
    assert json.loads((copy / "evaluations/final.json").read_text())["dataset"]["n"] == 100
    steps = [json.loads(line)["step"] for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 5, 6, 9, 10, 12, 14, 15]
    assert saved_steps(copy) == [12, 15]


def test_a_run_from_before_a_field_was_added_goes_on(tmp_path):
    """What it did then is known: the folder is its own. tfds was read in sequence, which is told apart."""
    config = run.prepare(tiny_config(evaluation__while_training=()))
    plain = validate.to_plain(config)
    for field in validate.SINCE_ADDED:
        room, name = field.split(".")
        plain[room].pop(name, None)
    del plain["deepaugment"]
    (tmp_path / "config.json").write_text(json.dumps(plain))
    train.prepare_workdir(config, str(tmp_path))
    plain["data"]["source"] = config.data.source = "tfds:cifar10"
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(UserError, match=r"\(data.access: 'sequential' -> 'random'\)"):
        train.prepare_workdir(config, str(tmp_path))


def test_force_neither_calls_another_net_damaged_nor_takes_its_config(cli, copy):
    config = (copy / "config.json").read_bytes()
    outcome = cli(*tiny_args(copy, model__width=0.125), "--force")
    assert outcome.returncode == 2 and "damaged" not in outcome.stdout + outcome.stderr
    assert "does not fit" in outcome.stderr and len(outcome.stderr.splitlines()) == 1
    assert (copy / "config.json").read_bytes() == config


def test_finished_run_shows_its_table_again(whole, copy, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a finished run neither trains nor evaluates again")

    monkeypatch.setattr(train.Run, "_compile", never)
    monkeypatch.setattr(engine.Evaluator, "run", never)
    capsys.readouterr()
    train_here(copy)
    text = capsys.readouterr().out
    shown = table.render(json.loads((copy / "evaluations/final.json").read_text()))
    assert shown in text and "written by an earlier run" in text
    assert contents(copy) == contents(whole[0])


@pytest.mark.usefixtures("compile_once")
def test_sigterm_in_an_evaluation_loses_nothing(whole, tmp_path, capsys, monkeypatch):
    """First in the one of step 5, then in the last one."""
    folder, eval_batches = tmp_path / "run", data.eval_batches
    handler, begun = signal.getsignal(signal.SIGTERM), []

    def stopped_batches(*args, **kwargs):
        begun.append(saved_steps(folder))
        if len(begun) in (1, 4):  # those between are of steps 5, again, and 10
            os.kill(os.getpid(), signal.SIGTERM)
        yield from eval_batches(*args, **kwargs)

    monkeypatch.setattr(data, "eval_batches", stopped_batches)
    for _ in range(2):
        with pytest.raises(Preempted, match="during an evaluation; run the same command again"):
            train_here(folder)
        assert signal.getsignal(signal.SIGTERM) is handler
    assert begun == [[4, 5], [4, 5], [8, 10], [12, 15]]
    assert not (folder / "evaluations/final.json").exists()
    capsys.readouterr()
    train_here(folder)
    assert "compiling the training step" not in capsys.readouterr().out
    assert contents(folder) == contents(whole[0])


@pytest.mark.usefixtures("compile_once")
def test_evaluating_a_run_repeats_its_own_result(whole, cli, copy):
    metrics = (copy / "metrics.jsonl").read_bytes()
    (copy / "evaluations/final.json").unlink()
    assert cli("--mode=evaluate", f"--workdir={copy}").returncode == 0
    assert contents(copy) == contents(whole[0])

    other = [*tiny_args(copy, evaluation__name="other", evaluation__limit=100), "--mode=evaluate"]
    outcome = cli(*other)
    assert outcome.returncode == 0 and "digits, 100 validation images, step 15" in outcome.stdout, outcome
    with np.load(copy / "evaluations/other.npz") as part, np.load(copy / "evaluations/final.npz") as full:
        for name in full.files:
            np.testing.assert_array_equal(part[name], full[name][:100])
    assert contents(copy)["metrics"] == metrics


@pytest.mark.usefixtures("compile_once")
def test_an_evaluation_says_what_it_leaves_out(cli, copy):
    """The net and its training are the run's; where the data is, and how to evaluate, may be another host's."""
    outcome = cli(*tiny_args(copy, seed=5, data__workers=1, evaluation__limit=50), "--mode=evaluate")
    assert outcome.returncode == 0, outcome.stderr
    (note,) = (line for line in outcome.stdout.splitlines() if line.startswith("note: "))
    assert "seed: 0 -> 5" in note and "workers:" not in note and "limit" not in note
    result = json.loads((copy / "evaluations/final.json").read_text())
    assert result["seed"] == 0 and result["dataset"]["n"] == 50


# Numbers that are no numbers


def assert_checkpoints_finite(folder):
    for step in saved_steps(folder):
        for leaf in jax.tree.leaves(list(arrays(folder, step))):
            assert np.isfinite(leaf).all()


@pytest.mark.usefixtures("compile_once")
def test_nan_stops_with_the_step_and_keeps_the_last_good_checkpoint(cli, copy):
    shutil.rmtree(copy / "checkpoints/15")
    args = [*tiny_args(copy, optimizer__learning_rate=1e30), "--force"]
    for _ in range(2):  # the same command again finds no way round it
        outcome = cli(*args)
        assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
        broken = int(re.search(r"not finite at step (\d+): ", outcome.stderr).group(1))
        assert broken in (13, 14) and "the checkpoint of step 12 is kept" in outcome.stderr
        assert saved_steps(copy) == [8, 12] or saved_steps(copy) == [12]
    assert_checkpoints_finite(copy)


@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("part", ["params", "batch_stats"])
def test_what_is_not_finite_is_never_saved(tmp_path, monkeypatch, part):
    compiled = train.Run._compile

    def overflowing(*args):
        step = compiled(*args)

        def overflow(state, batch, key):
            state, metrics = step(state, batch, key)
            scale = jax.numpy.where(state.step == 4, jax.numpy.inf, 1.0)
            return state.replace(**{part: jax.tree.map(lambda leaf: leaf * scale, getattr(state, part))}), metrics

        return overflow

    monkeypatch.setattr(train.Run, "_compile", overflowing)
    with pytest.raises(UserError, match=r"not finite at step 4: .*; the checkpoint of step 2 is kept"):
        train_here(tmp_path / "run", checkpoint__every_steps=2)
    assert saved_steps(tmp_path / "run") == [2]
    assert_checkpoints_finite(tmp_path / "run")
