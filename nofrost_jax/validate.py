"""How a config is made whole, what an evaluation takes from where, and what must fit the devices and the folder.

The rules about the values themselves are in `rules`. All of it is checked before any device is touched.
"""

import json
import os

from nofrost_jax import files, recipes
from nofrost_jax.errors import MachineError, UserError
from nofrost_jax.rules import RANGES, get, require_choice, views_of

EVALUATION_FIELDS = (
    *(
        f"evaluation.{name}"
        for name in ("name", "attacks", "batch_size", "chunk_size", "limit", "ids", "attack_dtype", "save_images")
    ),
    *(f"evaluation.mbn_{name}" for name in ("gamma", "interpolation", "p", "seed", "gammas")),
    *(f"data.{name}" for name in ("source", "data_dir", "eval_split", "other_files", "workers", "access")),
)
# A run goes on under other values of these: they change neither the net nor what is measured of it.
FREE_FIELDS = {
    "data.data_dir": "where the data lies",
    "deepaugment.folders": "where its images lie; `data.training_fingerprint` tells which they are",
    "data.workers": "batches are a function of seed and step, whoever decodes them",
    "data.on_error": "up to here nothing was unreadable, or it was skipped",
    "data.other_files": "what is no image is no image",
    "evaluation.name": "what the result is called",
    "evaluation.batch_size": "an image's outcome does not depend on those beside it",
    "evaluation.chunk_size": "nor on how the images are cut in chunks",
    "evaluation.save_images": "pictures beside the result",
    "evaluation.while_training": "what is looked at on the way",
    "evaluation.every_epochs": "when, unless the checkpoint is chosen by it",
    "evaluation.mbn_gammas": "for --mode=evaluate alone",
    "checkpoint.every_steps": "when the state is saved",
    "checkpoint.keep": "how often",
    "log.every_steps": "what is written down",
    "log.tensorboard": "and where",
}


def resolve(config):
    """A copy of the config in which nothing is left open: what the recipe says, the views of an image, DeepAugment's
    nets, evaluation radii.

    Raises UserError for an unknown recipe, or where a field is missing.
    """
    config = config.copy_and_resolve_references()
    filled = (
        "attack.epsilon_255",
        "attack.norm",
        "evaluation.attacks",
        "evaluation.only",
        "data.views",
        "matmul_precision",
    )
    for field in (*filled, *recipes.FIELDS, *RANGES):
        get(config, field)
    with config.unlocked():
        recipes.fill(config)
        if config.data.views is None:
            config.data.views = views_of(config.method)
        if config.evaluation.only:
            config.evaluation.attacks = _pick(config.evaluation.attacks, config.evaluation.only)
            config.evaluation.only = ""
            _drop_absent(config.evaluation)
        for name, attack in config.evaluation.attacks.items():
            if not hasattr(attack, "items"):
                raise UserError(
                    f"config.evaluation.attacks.{name}={attack!r} must have fields: name, steps and the like"
                )
            attack.protocol = attack.get("protocol") or "custom"
            _fill_radius(name, attack, config.attack)
    return config


def _fill_radius(name, attack, training):
    """Gives an entry of `evaluation.attacks` its radius and norm: its own, or both of the training attack."""
    attack.norm = attack.get("norm") or "linf"
    if attack.get("epsilon_255") is not None:
        return
    if attack.norm not in ("linf", training.norm):
        raise UserError(
            f"config.evaluation.attacks.{name}.norm={attack.norm} needs a radius of its own, as the run's is in "
            f"{training.norm}: set config.evaluation.attacks.{name}.epsilon_255; l2 3.0 of [0, 1] is 765"
        )
    attack.epsilon_255, attack.norm = training.epsilon_255, training.norm


def for_evaluation(own, config):
    """(config, left out): a run's own config, with `EVALUATION_FIELDS` taken from `config` as far as it has them.

    `config` may have nothing else (configs/eval); what is None there stays the run's, and `evaluation.only`, labels
    with commas between them, picks some of its attacks. left out: the differences in anything else, as text; what the
    net is, and how it was trained, is the run's. Raises UserError for a label that is not there.
    """
    get(own, "evaluation")
    own = own.copy_and_resolve_references()
    given = {} if config is None else to_plain(resolve(config) if "recipe" in config else config)
    section = given.get("evaluation", {})
    labels = section.pop("only", "")
    section.pop("while_training", None)
    if labels:
        section["attacks"] = _pick(section.get("attacks", {}), labels)
    with own.unlocked():
        for field in EVALUATION_FIELDS:
            room, name = field.split(".")
            value = given.get(room, {}).get(name)
            if value is not None:
                own[room][name] = value
        _drop_absent(own.evaluation)
    plain = to_plain(own)
    return own, differences(plain, merged(plain, _without_nones(given)))


def _drop_absent(section):
    """Leaves out of `while_training` what is not among the attacks any more."""
    kept = [label for label in section.while_training if label in section.attacks]
    section.while_training = type(section.while_training)(kept)


def _pick(attacks, labels):
    """The attacks of some labels, with commas between them."""
    chosen = [label.strip() for label in labels.split(",") if label.strip()]
    for label in chosen:
        require_choice("evaluation.only", label, list(attacks))
    return {label: attacks[label] for label in chosen}


def _without_nones(plain):
    items = ((name, _without_nones(value) if isinstance(value, dict) else value) for name, value in plain.items())
    return {name: value for name, value in items if value is not None}


def merged(base, other):
    """`base` with the fields of `other` over it, both plain dicts."""
    both = {
        name: merged(base[name], other[name]) for name in base.keys() & other.keys() if isinstance(base[name], dict)
    }
    return {**base, **other, **both}


def check_evaluation_devices(config, devices, processes):
    """Raises UserError unless the evaluation's batch divides evenly over the devices."""
    if config.evaluation.batch_size % devices:
        raise UserError(
            f"config.evaluation.batch_size={config.evaluation.batch_size} does not divide over {devices} devices; "
            f"try {-(-config.evaluation.batch_size // devices) * devices}"
        )
    if devices % processes:
        raise UserError(f"{devices} devices on {processes} processes are not the same number on each; start one a host")


def check_devices(config, devices, processes, uses_groups):
    """Raises UserError unless both batches, and each group of batch norm, divide evenly over the devices."""
    check_evaluation_devices(config, devices, processes)
    size = config.batch_size
    if size % devices:
        raise UserError(
            f"config.batch_size={size} does not divide over {devices} devices; the nearest that do are "
            f"{max(size // devices, 1) * devices} and {(size // devices + 1) * devices}"
        )
    if not uses_groups or config.model.bn_group_size == "global":
        return
    group, shard = int(config.model.bn_group_size), size // devices
    if size % group or (shard % group and group % shard):
        raise UserError(
            f"config.model.bn_group_size={group} does not fit a batch of {size} over {devices} devices ({shard} images "
            "each): it must divide the batch, and divide or be a multiple of a device's share; or set it to global"
        )


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


def differences(old, new, prefix=""):
    """["field: old -> new", ...] between two configs as plain dicts."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        left, right = old.get(name, "(absent)"), new.get(name, "(absent)")
        if isinstance(left, dict) and isinstance(right, dict):
            lines += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            lines.append(f"{prefix}{name}: {left!r} -> {right!r}")
    return lines


def changes(old, new):
    """(differences that change the result, differences in FREE_FIELDS) between two resolved configs, plain dicts."""
    lines = differences(old, new)
    deciding = set(differences(of_result(old), of_result(new)))
    return [line for line in lines if line in deciding], [line for line in lines if line not in deciding]


def of_result(plain):
    """A resolved config, a plain dict, without FREE_FIELDS and the place of folders: all that a run's result depends on
    beside what is in the data (`data.training_fingerprint`, `data.fingerprint`)."""
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()}
    looks_decide = kept.get("checkpoint", {}).get("select", "last") != "last"
    for field in FREE_FIELDS:
        section, name = field.split(".")
        if not (looks_decide and field == "evaluation.every_epochs"):
            kept.get(section, {}).pop(name, None)
    if str(kept.get("data", {}).get("source")).startswith("folder:"):
        kept["data"]["source"] = "folder:"
    return kept


def identity(config):
    """{"config", "config_sha256"} of a resolved config: what its result depends on, as every checkpoint keeps it."""
    plain = of_result(to_plain(config))
    return {"config": plain, "config_sha256": files.sha256(json.dumps(plain, sort_keys=True))}


def to_plain(config):
    """The config as JSON sees it: plain dicts, lists, numbers and strings."""
    return json.loads(config.to_json())
