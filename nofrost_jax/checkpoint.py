"""Checkpoints (orbax) and params-only exports. A checkpoint counts only if it still has the hash it was saved with."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile

import flax
import jax
import numpy as np

from nofrost_jax import digests, parallel, validate
from nofrost_jax.errors import UserError

NOTES = "notes.txt"  # what a training does in another way than the paper; results repeat it
BEST, SELECTION = "best", "selection.json"  # the variables that `config.checkpoint.select` chose, and how


def tree_sha256(tree):
    """Hex SHA-256 of all leaves with their paths, types and shapes; the same on any number of devices."""
    digest = hashlib.sha256()
    for path, leaf in sorted(_flatten(tree).items()):
        digest.update(f"{path}:{leaf.dtype}:{leaf.shape};".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _flatten(tree):
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


class Checkpoints:
    """The folder `checkpoints/STEP/` of a run, with one item each for `variables`, `optimizer` and `meta`.

    Saving is synchronous: a save that returned is on disk. A reader (`writable=False`) changes nothing there, so that
    it may look at a run that goes on.
    """

    def __init__(self, workdir, keep=2, writable=True):
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        self._args = ocp.args
        self._writable = writable
        self.directory = os.path.join(os.path.abspath(workdir), "checkpoints")
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.LatestN(keep),
            enable_async_checkpointing=False,
            cleanup_tmp_directories=writable,
            create=writable,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    @property
    def steps(self):
        """Saved steps, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step, items, meta):
        """Saves {name: pytree} and a JSON-able dict. All processes take part."""
        hashes = {name: tree_sha256(tree) for name, tree in items.items()}
        meta = {**meta, "sha256": hashes, "shapes": {name: _shapes(tree) for name, tree in items.items()}}
        saves = {name: self._args.StandardSave(parallel.to_global(tree)) for name, tree in items.items()}
        with _quiet_if_it_fails():
            self._manager.save(step, args=self._args.Composite(**saves, meta=self._args.JsonSave(meta)), force=True)
            self._manager.wait_until_finished()
        if jax.process_index() == 0:
            digests.write(os.path.join(self.directory, str(step)))

    def amend(self, step, changes):
        """Sets some of what was saved in a checkpoint's dict."""
        folder = os.path.join(self.directory, str(step))
        if jax.process_index() == 0:
            path = os.path.join(folder, *META)
            with open(path) as file:
                meta = json.load(file) | changes
            os.remove(f"{folder}/{digests.NAME}")  # killed in between, the arrays' own hashes are left
            with open(f"{path}.tmp", "w") as file:
                json.dump(meta, file)
            os.replace(f"{path}.tmp", path)
            digests.write(folder)
        parallel.wait_for_all(f"checkpoint {step} is amended")

    def restore(self, abstract):
        """(step, {name: pytree}, meta) of the newest whole checkpoint, or None. Says when it passes over a damaged one.

        abstract: {name: pytree of ShapeDtypeStructs with shardings} of the wanted items, so that any number and kind of
        devices can restore. A writer moves damaged checkpoints to `checkpoints_damaged/`: their steps come again.
        Raises UserError where all are damaged, or one is of another net or optimizer.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                items, meta = self._restore_step(step, abstract)
            except UserError:
                raise
            except Exception as error:  # orbax raises many types for a file that is cut, missing or altered
                print(f"checkpoint {step} is damaged ({_first_line(error)}); trying the one before", flush=True)
                damaged.append(step)
                continue
            if self._writable:
                self._move_away(damaged)
            return step, items, meta
        if damaged:
            raise UserError(
                f"no checkpoint in {self.directory} can be restored ({', '.join(map(str, damaged))} are damaged); "
                "start again in a new --workdir"
            )
        return None

    def _restore_step(self, step, abstract):
        digests.check(os.path.join(self.directory, str(step)), {*abstract, "meta"})
        meta = self._manager.restore(step, args=self._args.Composite(meta=self._args.JsonRestore())).meta
        for name, tree in abstract.items():
            require_fit(f"{name} of checkpoint {step} in {self.directory}", meta["shapes"][name], _shapes(tree))
        restores = {name: self._args.StandardRestore(tree) for name, tree in abstract.items()}
        restored = self._manager.restore(step, args=self._args.Composite(**restores))
        for name in abstract:
            if tree_sha256(restored[name]) != meta["sha256"][name]:
                raise ValueError(f"{name} is not what was saved: its hash differs")
        return {name: restored[name] for name in abstract}, meta

    def _move_away(self, steps):
        for step in steps:
            target = os.path.join(os.path.dirname(self.directory), "checkpoints_damaged", str(step))
            if jax.process_index() == 0:
                shutil.rmtree(target, ignore_errors=True)
                shutil.move(os.path.join(self.directory, str(step)), target)
        if steps:
            parallel.wait_for_all("damaged checkpoints are out of the way")
            self._manager.reload()

    def close(self):
        self._manager.close()


@contextlib.contextmanager
def _quiet_if_it_fails():
    """Keeps off the screen what the threads of a failed save cannot deliver any more: hundreds of lines."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda told: None if "Event loop is closed" in str(told.exc_value) else hook(told)
    yield
    sys.unraisablehook = hook  # not after a failure: the threads are still at it


META = ("meta", "metadata")  # orbax's file of the dict


def _first_line(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160] if text else ''}"


def export(path, variables, config_json):
    """Writes `PATH/params.npz` and `PATH/config.json`: all that `nofrost_jax.load` needs, without orbax's folders.

    A new folder appears whole, or not at all; in one that is there each file is replaced once both are written.
    """
    there, path = os.path.isdir(path), os.path.abspath(path)
    parent = path if there else os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=parent, ignore_cleanup_errors=True) as temporary:
        whole = os.path.join(temporary, "whole")
        os.mkdir(whole)
        for name, write in (
            ("params.npz", lambda file: np.savez(file, **_flatten(variables))),
            ("config.json", lambda file: file.write(config_json.encode())),
        ):
            with open(os.path.join(whole, name), "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        for name in os.listdir(whole) if there else ():
            os.replace(os.path.join(whole, name), os.path.join(path, name))
        if not there:
            os.rename(whole, path)


def load_export(path):
    """The variables of an export, as nested dicts of NumPy arrays. Raises UserError for a file that cannot be read."""
    file = os.path.join(path, "params.npz")
    try:
        with open(file, "rb") as stream, np.load(stream) as arrays:
            return flax.traverse_util.unflatten_dict({name: arrays[name] for name in arrays.files}, sep="/")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {file} ({error}); export the run again") from error


def load_variables(path, abstract):
    """(step, variables, meta) of a run's newest whole checkpoint, or of an export (step -1, meta {}).

    Of a run that chose its most robust checkpoint so far (`nofrost_jax.selection`) that one, with meta["selection"].
    abstract: the variables' ShapeDtypeStructs. Raises UserError where PATH holds neither, or another net's variables.
    """
    selection = read_selection(os.path.join(path, BEST))
    folder = os.path.join(path, BEST) if selection else path
    if os.path.exists(os.path.join(folder, "params.npz")):
        variables = load_export(folder)
        require_fit(f"{folder}/params.npz", _shapes(variables), _shapes(abstract))
        step, meta = (selection["step"], {"selection": selection}) if selection else (-1, {})
        return step, jax.device_put(variables), meta
    if not os.path.isdir(os.path.join(path, "checkpoints")):
        raise UserError(f"no checkpoint in {path}; give the folder of a training run, or one with params.npz")
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract)
    checkpoints = Checkpoints(path, writable=False)
    try:
        restored = checkpoints.restore({"variables": abstract})
    finally:
        checkpoints.close()
    if restored is None:
        raise UserError(f"no checkpoint in {path}/checkpoints yet; train first")
    step, items, meta = restored
    changed, _ = validate.changes(meta.get("config", {}), validate.of_result(read_config(path)))
    if changed and "config" in meta:
        raise UserError(
            f"the checkpoint of step {step} in {path} is of another config than the config.json there "
            f"({'; '.join(changed)}); put back the one that belongs to it"
        )
    return step, items["variables"], meta


def read_selection(folder):
    """How the variables in a folder `best/` were chosen, or None where there are none yet."""
    try:
        with open(os.path.join(folder, SELECTION)) as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{folder}/{SELECTION} cannot be read ({error}); remove {folder} and run again") from error


def _shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(key, simple=True, separator="/"): list(leaf.shape) for key, leaf in leaves}


def require_fit(what, found, expected):
    """Raises UserError unless two {path: shape} are the same."""
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if names:
        first, second = (f"{tree[names[0]]}" if names[0] in tree else "absent" for tree in (found, expected))
        raise UserError(
            f"{what} does not fit the config: {names[0]} is {first}, the config's {second}; give the config that made "
            "it, or a new --workdir"
        )


def read_config(workdir):
    """The resolved config of a run as plain dicts. Raises UserError where there is none."""
    path = os.path.join(workdir, "config.json")
    try:
        with open(path) as file:
            config = json.load(file)
        if not isinstance(config, dict):
            raise ValueError("it holds no config")
        return config
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}); give the folder of a training run or an export") from error


def write_notes(lines, workdir):
    """Writes, or removes, the run's notes."""
    path = os.path.join(workdir, NOTES)
    if lines:
        with open(path, "w") as file:
            file.writelines(f"{line}\n" for line in lines)
    elif os.path.exists(path):
        os.remove(path)


def read_notes(workdir):
    """The lines of a run's notes; none where there are none, as in an export."""
    path = os.path.join(workdir, NOTES)
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().splitlines()
