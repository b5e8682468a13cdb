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


def contents(folder):
    """All that must be equal: restored arrays, metrics, and `results_of`."""
    hashes = {step: [checkpoint.tree_sha256(tree) for tree in arrays(folder, step)] for step in saved_steps(folder)}
    return {"hashes": hashes, "metrics": (folder / "metrics.jsonl").read_bytes(), **results_of(folder)}


def results_of(folder):
    """The final result without its times, place and seal, and its outcomes."""
    result = json.loads((folder / "evaluations/final.json").read_text())
    del result["checkpoint"]["path"], result[files.SEAL]
    for entry in (result["clean"], *result["attacks"]):
        for time in ("seconds", "compile_seconds"):
            entry.pop(time, None)
    with np.load(folder / "evaluations/final.npz") as columns:
        outcomes = {name: columns[name].tolist() for name in columns.files}
    return {"result": result, "outcomes": outcomes}
