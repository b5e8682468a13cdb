"""Two processes of two devices write what one process of four does, for every norm.

Same program, same four shards: only the order of summation between processes is the collectives' own. The runs are
short: after 15 or 20 steps an attack may take another sign at a pixel whose gradient is next to 0, and then parameters
are 1e-5 apart and more.
"""

import json
import socket

import jax
import numpy as np
import pytest

from tests.conftest import finish, start
from tests.resume.helpers import arrays, saved_steps

pytestmark = pytest.mark.slow
PROGRAM = """
import json, sys
from configs import digits
from nofrost_jax import errors, evaluate, processes, train
place, runs, folder, again = sys.argv[1:]
with errors.exit_codes(processes.leave), processes.joined(*json.loads(place)):
    for name, (row, fields) in json.loads(runs).items():
        config = digits.get_config(row)
        config.update_from_flattened_dict(fields)
        train.train(config, f"{folder}/{name}")
    if again:
        evaluate.evaluate(None, f"{again}/bn", f"{folder}/again")
"""
# Without signs: with global batch statistics one that flips at a pixel moves all images, and parameters by 3e-4.
L2 = {"attack.norm": "l2", "attack.epsilon_255": 255.0}
RUNS = {
    "nf": ("nofrost", {}),
    "bn": ("sat", {"model.bn_group_size": "global", **L2}),
    "mbn": ("mbnat", {"model.bn_group_size": "64"}),  # the images of a device
    "in": ("sat_in", {}),
}
FIELDS = {
    "model.stage_sizes": (1,),
    "model.width": 0.0625,
    "batch_size": 256,
    "epochs": 1,  # of 5 steps
    "attack.steps": 2,
    "evaluation.every_epochs": 0,
    "evaluation.only": "pgd_20",
    "evaluation.attacks.pgd_20.steps": 3,
    "evaluation.limit": 101,  # the last batch is not full
    "evaluation.batch_size": 16,
    "checkpoint.every_steps": 3,
    "log.every_steps": 1,
    "log.tensorboard": False,
}
RELATIVE, ABSOLUTE = 1e-6, 1e-6


@pytest.fixture(scope="module")
def folders(tmp_path_factory, compilation_cache):
    """The folders of all runs: by one process of four devices, and by two of two."""
    root, runs = tmp_path_factory.mktemp("processes"), {name: (row, FIELDS | own) for name, (row, own) in RUNS.items()}
    one, two = root / "one", root / "two"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"

    def program(place, devices, *args):
        arguments = (json.dumps(place), json.dumps(runs), *args)
        return start("-c", PROGRAM, *arguments, devices=devices, JAX_COMPILATION_CACHE_DIR=str(compilation_cache))

    alone = finish(program([], 4, one, ""), 600)
    assert alone.returncode == 0, alone
    for outcome in [finish(process, 600) for process in [program([address, 2, me], 2, two, one) for me in range(2)]]:
        assert outcome.returncode == 0, outcome
    return one, two


def outcomes(folder):
    with np.load(folder / "evaluations/final.npz") as columns:
        return dict(columns)


def values(folder):
    """Parameters, batch statistics and momentum; then the numbers of every line of metrics."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    leaves = jax.tree.leaves(list(arrays(folder, 5)))
    return [np.asarray(leaf) for leaf in leaves], [np.array([line[key] for key in sorted(line)]) for line in lines]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one_run(folders, name):
    one, two = (folder / name for folder in folders)
    assert saved_steps(one) == saved_steps(two) == [3, 5]
    for what, ours, theirs in zip(("leaves", "metrics"), values(two), values(one), strict=True):
        apart = [
            np.max(abs(x - y) / (ABSOLUTE + RELATIVE * abs(y)), initial=0) for x, y in zip(ours, theirs, strict=True)
        ]
        print(f"{name}: {len(apart)} {what}, at most {max(apart):.3f} of the bound apart")
        assert max(apart) <= 1
    ours, theirs = outcomes(two), outcomes(one)
    assert {key: int(np.sum(ours[key] != theirs[key])) for key in theirs} == dict.fromkeys(theirs, 0)


def test_shards_of_an_evaluation_are_merged(folders):
    """The same parameters: every image's outcome is the same, bit for bit."""
    one, two = folders
    ours, theirs = outcomes(two / "again"), outcomes(one / "bn")
    assert ours.keys() == theirs.keys() and len(ours["index"]) == 101
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
