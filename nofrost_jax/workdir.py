"""A run's folder: whether it can be used, and whether its config and checkpoints are those of this run."""

import json
import os
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax import buckets, fields, files, parallel
from nofrost_jax.checkpoint import read_config
from nofrost_jax.errors import MachineError, UserError
from nofrost_jax.fields import to_plain
from nofrost_jax.weights import tensors

NOTES = "notes.json"  # how a training differs from the paper; results repeat it


def check_config(config: ConfigDict, workdir: str, force: bool = False) -> None:
    """Raises UserError if the folder holds a run with another result, unless forced; then says what changes."""
    if deciding := _deciding_changes(config, workdir, force):
        parallel.say(f"note: --force continues although the result changes: {'; '.join(deciding)}")


def say_free_changes(config: ConfigDict, workdir: str) -> None:
    """Says which values differ from the folder's own without changing the result."""
    if free := _changes(config, workdir)[1]:
        print(f"note: continuing with values that do not change the result: {'; '.join(free)}", flush=True)


def write_config(config: ConfigDict, workdir: str, force: bool = False) -> None:
    """Writes the resolved config as `config.json`; over one with another result only if forced."""
    path, text = os.path.join(workdir, "config.json"), json.dumps(to_plain(config), indent=2) + "\n"
    if not files.create(path, text):
        _deciding_changes(config, workdir, force)
        say_free_changes(config, workdir)
        files.write(path, text)


def _changes(config: ConfigDict, workdir: str) -> tuple[list[str], list[str]]:
    """`fields.changes` from the folder's config, if there is one."""
    if not files.exists(os.path.join(workdir, "config.json")):
        return [], []
    return fields.changes(read_config(workdir), to_plain(config))


def _deciding_changes(config: ConfigDict, workdir: str, force: bool) -> list[str]:
    """The changes that change the result; raises UserError for them unless forced."""
    deciding, _ = _changes(config, workdir)
    if deciding and not force:
        raise UserError(
            f"--workdir={workdir} belongs to a run of another config ({'; '.join(deciding)}); choose a new folder, or "
            "give --force to continue from its checkpoint with the new config"
        )
    return deciding


def check_checkpoint(
    meta: dict[str, Any], config: ConfigDict, workdir: str, training_set: dict[str, Any], force: bool = False
) -> list[str]:
    """What has changed since a checkpoint was saved, in the config or the training images, and changes the result.

    meta: what was saved with it; training_set: `Dataset.training_fingerprint`. Raises UserError for any change, unless
    forced.
    """
    changed, _ = fields.changes(meta["config"], fields.deciding_part(to_plain(config)))
    kind = "config"
    if images := _other_images(meta["training_set"], training_set):
        changed, kind = [*changed, images], "config and training set" if changed else "training set"
    where = f"the checkpoint of step {meta['step']} in {workdir}"
    if changed and not force:
        raise UserError(
            f"{where} is of another {kind} ({'; '.join(changed)}); choose a new folder, or give --force to continue"
        )
    if changed:
        parallel.say(f"note: --force continues from {where}, which is of another {kind}: {'; '.join(changed)}")
    return changed


def _other_images(old: dict[str, Any], new: dict[str, Any]) -> str:
    """How two training sets differ, as text; "" if they are the same."""
    if old == new:
        return ""
    if old.get("images") != new.get("images"):
        return f"training images: {old.get('images')} -> {new.get('images')}"
    return f"training images: {new.get('images')} as before, but other names, labels or sizes of files"


def write_notes(lines: Sequence[str], workdir: str) -> None:
    """Writes the run's notes, or removes them if there are none."""
    path = os.path.join(workdir, NOTES)
    if lines:
        files.write_json(path, {"notes": list(lines)}, seal=True)
    elif files.exists(path):
        files.remove(path)


def read_notes(workdir: str) -> list[str]:
    """The lines of a run's notes; [] if there are none, as in an export. Raises UserError where they are damaged."""
    path = os.path.join(workdir, NOTES)
    try:
        return (files.read_json(path) or {"notes": []})["notes"]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); start the training again, which writes it") from error


def check_start(config: ConfigDict, workdir: str) -> None:
    """Raises UserError unless `start_from` is empty, a run or an export, or no longer needed. Whether its net fits is
    checked when it is loaded."""
    path = os.path.expanduser(config.start_from)
    if workdir and files.is_folder(os.path.join(workdir, "checkpoints")):
        return
    if path and not any(files.exists(os.path.join(path, name)) for name in (tensors.NAME, "checkpoints")):
        raise UserError(
            f"no checkpoint in config.start_from={path}; give the folder of a training run, or an export "
            "(python -m nofrost_jax.convert makes one of a .pth)"
        )


def check_workdir(workdir: str, flag: str = "--workdir", mend: str = "choose another folder") -> None:
    """Raises UserError unless `workdir` is a folder or can become one; MachineError if it may not be written, or its
    bucket cannot be reached."""
    if not workdir:
        raise UserError("--workdir is missing; give the folder for checkpoints and results, e.g. --workdir=runs/digits")
    path = _existing(workdir, flag)
    if files.is_url(workdir):
        return  # the lock is the first to be written
    if not os.access(path, os.W_OK | os.X_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        why = f"{path} is on a read-only file system" if read_only else f"no permission in {path}"
        raise MachineError(f"{flag}={workdir} cannot be written: {why}; {mend}")


def check_folder(_: object, workdir: str) -> None:
    """Raises UserError if a --workdir is given that is no folder and cannot become one. Permissions are not checked."""
    if workdir:
        _existing(workdir, "--workdir")


def _existing(folder: str, flag: str) -> str:
    """The part of a folder's path that exists."""
    if files.is_url(folder):
        buckets.require(folder, f"{flag}={folder}")
        return folder
    path = os.path.abspath(folder)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise UserError(f"{flag}={folder} cannot be made: {path} is a file; choose another folder")
    return path
