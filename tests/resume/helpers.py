"""Runs in this process, and all of a run's folder that must be equal to another's."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp

from nofrost_jax import checkpoint, files, train
from tests.conftest import tiny_config


def train_here(folder, **fields):
    train.train(tiny_config(**fields), str(folder))


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


def contents(folder, count=0):
    """All that must be equal: restored arrays of the last `count` checkpoints, 0: of all; metrics, and `results_of`."""
    steps = saved_steps(folder)[-count:]
    hashes = {step: [checkpoint.tree_sha256(tree) for tree in arrays(folder, step)] for step in steps}
    return {"hashes": hashes, "metrics": (folder / "metrics.jsonl").read_bytes(), **results_of(folder)}


def results_of(folder):
    """The final result without its times, place and seal, and its outcomes."""
    result, outcomes = result_of(folder / "evaluations/final.json")
    return {"result": result, "outcomes": outcomes}


def result_of(path):
    """(a result without its times, place and seal, its outcomes)."""
    with np.load(path.with_suffix(".npz")) as columns:
        outcomes = {name: columns[name].tolist() for name in columns.files}
    return without_times(json.loads(path.read_text())), outcomes


def without_times(value):
    """A JSON value without how long things took, where they are, and its seal."""
    if isinstance(value, dict):
        left_out = {"seconds", "compile_seconds", "cpu_seconds", "path", files.SEAL}
        return {name: without_times(inner) for name, inner in value.items() if name not in left_out}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value
