"""Exports, and the variables of a run, a checkpoint or an export. What was saved is valid only with its hashes."""

import json
import os
import tempfile
from typing import Any

import flax
import jax
import numpy as np

from nofrost_jax import fields, files
from nofrost_jax.digests import flatten, require_fit, shapes, tree_sha256
from nofrost_jax.errors import UserError, refused
from nofrost_jax.saving import Checkpoints
from nofrost_jax.weights import tensors

BEST, SELECTION = "best", "selection.json"  # the variables that `config.checkpoint.select` chose, and how


def export(
    path: str, variables: dict[str, Any], config_json: str, about: dict[str, Any] | None = None, card: str = ""
) -> None:
    """Writes `PATH/model.safetensors` and `PATH/config.json`, all that `nofrost_jax.load` needs, and `PATH/README.md`
    if there is a card.

    about: a plain dict on where the variables come from, kept with them and with their hash. A new folder appears
    complete or not at all; in an existing folder all files are written before they are replaced. In a bucket the files
    appear one after the other, without the card.
    """
    about = {**(about or {}), "params_sha256": tree_sha256(variables)}
    if files.is_url(path):
        tensors.write(os.path.join(path, tensors.NAME), flatten(variables), about)
        files.write(os.path.join(path, "config.json"), config_json)
        return
    exists, path = os.path.isdir(path), os.path.abspath(path)
    parent = path if exists else os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=parent, ignore_cleanup_errors=True) as temporary:
        whole = os.path.join(temporary, "whole")
        os.mkdir(whole)
        tensors.write(os.path.join(whole, tensors.NAME), flatten(variables), about)
        files.write(os.path.join(whole, "config.json"), config_json)
        if card:
            files.write(os.path.join(whole, "README.md"), card)
        config_first = sorted(os.listdir(whole), key=lambda name: name != "config.json")  # it tells whose folder it is
        for name in config_first if exists else ():
            os.replace(os.path.join(whole, name), os.path.join(path, name))
        if not exists:
            os.rename(whole, path)


def load_export(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(variables as nested dicts of NumPy arrays, what is said about them) of an export. Raises UserError if the file
    cannot be read, is not what was saved, or has numbers that are not finite."""
    file = os.path.join(path, tensors.NAME)
    views, about = tensors.read(file)
    arrays = {name: np.array(view) for name, view in views.items()}  # the file may be replaced while they are used
    variables = flax.traverse_util.unflatten_dict(arrays, sep="/")
    if "params_sha256" not in about:
        raise UserError(
            f"{file} was not written by nofrost_jax; make an export of it: python -m nofrost_jax.convert {file} OUT"
        )
    if tree_sha256(variables) != about["params_sha256"]:
        raise UserError(f"{file} is not what was saved: its hash differs; copy it again, or export the run again")
    if "config_sha256" in about and fields.deciding_sha256(read_config(path)) != about["config_sha256"]:
        raise UserError(f"{file} and config.json are not of one export, or config.json was changed; copy both again")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{name} in {file} has numbers that are not finite; export another checkpoint of the run")
    return variables, about


def split_step(path: str) -> tuple[str, int | None]:
    """(RUN, STEP) of RUN/checkpoints/STEP, the folder of one checkpoint; (path, None) of any other folder."""
    run, step = os.path.split(files.absolute(path))
    if step.isdecimal() and os.path.basename(run) == "checkpoints":
        return os.path.dirname(run), int(step)
    return os.path.expanduser(path), None


def load_variables(path: str, abstract: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """(step, variables, meta) of a run's newest valid checkpoint, or of the one at RUN/checkpoints/STEP; of an export
    step -1 and meta {"about": what is said about it}.

    If the run selects a checkpoint (`nofrost_jax.selection`), that checkpoint, with meta["selection"]. abstract: the
    variables' ShapeDtypeStructs. Raises UserError if PATH holds neither, or another net's variables.
    """
    path, only = split_step(path)
    require_variables(path)
    if files.exists(os.path.join(path, tensors.NAME)):
        variables, about = _load_fitting(path, abstract)
        return -1, variables, {"about": about}
    if only is None and (chosen := _chosen(path)):
        return _load_best(path, abstract, *chosen)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract)
    checkpoints = Checkpoints(path, writable=False)
    try:
        restored, steps = checkpoints.restore({"variables": abstract}, only), checkpoints.steps
    finally:
        checkpoints.close()
    if restored is None and only is not None:
        raise UserError(f"no checkpoint of step {only} in {path}/checkpoints; there are {', '.join(map(str, steps))}")
    if restored is None:
        raise UserError(f"no checkpoint in {path}/checkpoints yet; train first")
    step, items, meta = restored
    _require_config(f"the checkpoint of step {step} in {path}", meta["config"], path)
    return step, items["variables"], meta


def require_variables(path: str) -> None:
    """Raises UserError unless there is something for `load_variables` to read, valid or not."""
    found = [name for name in (tensors.NAME, "checkpoints", BEST) if files.exists(os.path.join(path, name))]
    if not found:
        raise UserError(f"no checkpoint in {path}; give the folder of a training run, or one with {tensors.NAME}")
    saved = files.names(os.path.join(path, "checkpoints"))
    if not (tensors.NAME in found or _chosen(path) or any(name.isdigit() for name in saved)):
        raise UserError(f"no checkpoint in {path}/checkpoints yet; train first")


def _chosen(path: str) -> tuple[str, dict[str, Any]] | None:
    """(folder, selection) of the checkpoint that a run selected, or None if the last one counts. Raises UserError."""
    if (rule := read_config(path).get("checkpoint", {}).get("select", "last")) == "last":
        return None
    best = os.path.join(path, BEST)
    for folder in (best, f"{best}.old"):  # the second while a training puts a better one in place
        if selection := read_selection(folder):
            return folder, selection
    raise UserError(
        f"config.checkpoint.select={rule} in {path}/config.json, but {best} is missing: it is lost, or nothing was "
        "selected yet; put it back, or continue the training"
    )


def _load_best(path, abstract, folder, selection):
    variables, _ = _load_fitting(folder, abstract)
    if tree_sha256(variables) != selection.get("params_sha256"):
        raise UserError(f"{folder}/{tensors.NAME} is not what was saved: its hash differs; restore it from a copy")
    _require_config(folder, fields.deciding_part(read_config(folder)), path)
    return selection["step"], variables, {"selection": selection}


def _load_fitting(folder: str, abstract: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    variables, about = load_export(folder)
    require_fit(f"{folder}/{tensors.NAME}", shapes(variables), shapes(abstract))
    return jax.device_put(variables), about


def _require_config(what: str, own: dict[str, Any], path: str) -> None:
    """Raises UserError unless `own`, the deciding part of a saved config, is that of the run at `path`."""
    changed, _ = fields.changes(own, fields.deciding_part(read_config(path)))
    if changed:
        raise UserError(
            f"{what} is of another config than {path}/config.json ({'; '.join(changed)}); restore its own config.json"
        )


def read_selection(folder: str) -> dict[str, Any] | None:
    """How the variables in a folder `best/` were selected, or None if there are none yet."""
    try:
        return files.read_json(os.path.join(folder, SELECTION))
    except ValueError as error:
        raise UserError(f"{folder}/{SELECTION} cannot be read ({error}); remove {folder} and run again") from error


def read_config(workdir: str) -> dict[str, Any]:
    """The resolved config of a run or an export as plain dicts. Raises UserError if there is none."""
    path = os.path.join(os.path.expanduser(workdir), "config.json")
    try:
        config = json.loads(files.read(path))
        if not isinstance(config, dict):
            raise ValueError("it holds no config")
        return config
    except RecursionError as error:
        raise UserError(f"cannot read {path} (it is nested too deeply); restore it from a copy") from error
    except OSError as error:
        raise refused(f"cannot read {path}", error, "give the folder of a training run or an export") from error
    except ValueError as error:
        why = files.reason(path, error)
        raise UserError(f"cannot read {path} ({why}); restore it from a copy, or give another run's folder") from error
