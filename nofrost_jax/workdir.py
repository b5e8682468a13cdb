"""A run's folder and its config: who goes on in it, and `config.json`, which says whose it is."""

import json
import os

from nofrost_jax import fields, files, parallel
from nofrost_jax.checkpoint import read_config
from nofrost_jax.errors import MachineError, UserError
from nofrost_jax.fields import to_plain

NOTES = "notes.txt"  # what a training does in another way than the paper; results repeat it


def check_config(config, workdir, force=False):
    """Raises UserError where the folder is a run's with another result, unless forced; says what that changes."""
    deciding, _ = _changes(config, workdir)
    if deciding and not force:
        raise _another(workdir, deciding)
    if deciding:
        parallel.say(f"note: --force goes on although the result changes: {'; '.join(deciding)}")


def say_free_changes(config, workdir):
    """Says which values differ from the folder's own without changing the result. A training does so once nothing can
    refuse it any more."""
    if free := _changes(config, workdir)[1]:
        print(f"note: goes on under values that do not change the result: {'; '.join(free)}", flush=True)


def check_checkpoint(meta, config, workdir, training_set, force=False):
    """What changes in the result since a checkpoint was saved, by the config or the training images, as text.

    meta: what was saved with it; training_set: `Dataset.training_fingerprint`. Raises UserError where that is anything,
    unless forced.
    """
    changed, _ = fields.changes(meta["config"], fields.deciding_part(to_plain(config)))
    kind = "config"
    if images := _other_images(meta["training_set"], training_set):
        changed, kind = [*changed, images], "config and training set" if changed else "training set"
    where = f"the checkpoint of step {meta['step']} in {workdir}"
    if changed and not force:
        raise UserError(
            f"{where} is of another {kind} ({'; '.join(changed)}); choose a new folder, or give --force to go on"
        )
    if changed:
        parallel.say(f"note: --force goes on from {where}, which is of another {kind}: {'; '.join(changed)}")
    return changed


def _other_images(old, new):
    """How two training sets differ, as text; "" where they do not."""
    if old == new:
        return ""
    if old.get("images") != new.get("images"):
        return f"training images: {old.get('images')} -> {new.get('images')}"
    return f"training images: {new.get('images')} as before, but other names, labels or sizes of files"


def write_config(config, workdir, force=False):
    """Writes the resolved config as `config.json`, whole or not at all; over one with another result only if
    forced."""
    path, text = os.path.join(workdir, "config.json"), json.dumps(to_plain(config), indent=2) + "\n"
    if files.create(path, text):
        return
    deciding, _ = _changes(config, workdir)
    if deciding and not force:
        raise _another(workdir, deciding)
    say_free_changes(config, workdir)
    files.write(path, text)


def _changes(config, workdir):
    if not os.path.exists(os.path.join(workdir, "config.json")):
        return [], []
    return fields.changes(read_config(workdir), to_plain(config))


def _another(workdir, changed):
    return UserError(
        f"--workdir={workdir} belongs to a run of another config ({'; '.join(changed)}); choose a new folder, or give "
        "--force to go on from its checkpoint under the new config"
    )


def write_notes(lines, workdir):
    """Writes, or removes, the run's notes."""
    path = os.path.join(workdir, NOTES)
    if lines:
        files.write(path, "".join(f"{line}\n" for line in lines))
    elif os.path.exists(path):
        os.remove(path)


def read_notes(workdir):
    """The lines of a run's notes; none where there are none, as in an export."""
    path = os.path.join(workdir, NOTES)
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().splitlines()


def check_start(config, workdir):
    """Raises UserError unless `start_from` is a run or an export, empty, or not needed any more.

    Whether it fits is seen on loading.
    """
    path = os.path.expanduser(config.start_from)
    if workdir and os.path.isdir(os.path.join(workdir, "checkpoints")):
        return
    if path and not any(os.path.exists(os.path.join(path, name)) for name in ("params.npz", "checkpoints")):
        raise UserError(f"no checkpoint in config.start_from={path}; give the folder of a training run, or an export")


def check_workdir(workdir, flag="--workdir", mend="choose another folder"):
    """Raises UserError unless `workdir` is, or can become, a folder; MachineError where this process may not write."""
    if not workdir:
        raise UserError("--workdir is missing; give the folder for checkpoints and results, e.g. --workdir=runs/digits")
    path = _existing(workdir, flag)
    if not os.access(path, os.W_OK | os.X_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        why = f"{path} is on a read-only file system" if read_only else f"no permission in {path}"
        raise MachineError(f"{flag}={workdir} cannot be written: {why}; {mend}")


def check_folder(_, workdir):
    """Raises UserError where a --workdir is given that neither is nor can become a folder; asks for no right to it."""
    if workdir:
        _existing(workdir, "--workdir")


def _existing(folder, flag):
    """What of a folder's path is there already, all of it or a part."""
    if "://" in folder:
        raise UserError(f"{flag}={folder} is a URL; mount the bucket and give the folder that all hosts share")
    path = os.path.abspath(folder)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise UserError(f"{flag}={folder} cannot be made: {path} is a file; choose another folder")
    return path
