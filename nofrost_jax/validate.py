"""Every rule about a config's values, and how placeholders are filled. Checked before any device is touched."""

import difflib
import json
import math
import os

from nofrost_jax.errors import UserError

RECIPES = {
    "paper": {"label_smoothing": 0.0, "model.dropout": 0.0, "model.drop_path": 0.0, "optimizer.nesterov": False},
    "authors": {"label_smoothing": 0.1, "model.dropout": 0.25, "model.drop_path": 0.1, "optimizer.nesterov": True},
}
RANGES = {  # field: (lowest, highest), both allowed; None = no bound
    "seed": (0, 2**31 - 1),
    "batch_size": (1, None),
    "epochs": (1, None),
    "label_smoothing": (0, 1),
    "model.num_classes": (2, None),
    "model.width": (0.01, None),
    "model.dropout": (0, 0.99),
    "model.drop_path": (0, 0.99),
    "method.adversarial_weight": (0, 1),
    "optimizer.learning_rate": (0, None),
    "optimizer.learning_rate_batch": (0, None),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, None),
    "optimizer.warmup_epochs": (0, None),
    "optimizer.agc": (0, None),
    "data.image_size": (1, None),
    "data.eval_resize": (0, None),
    "data.workers": (0, None),
    "data.shuffle_buffer": (1, None),
    "data.fake_train": (1, None),
    "data.fake_eval": (1, None),
    "evaluation.every_epochs": (0, None),
    "evaluation.batch_size": (1, None),
    "evaluation.limit": (0, None),
    "evaluation.chunk_size": (1, None),
    "evaluation.save_images": (0, None),
    "evaluation.mbn_gamma": (0, 1),
    "checkpoint.every_steps": (1, None),
    "checkpoint.keep": (1, None),
    "log.every_steps": (1, None),
}


EVALUATION_FIELDS = (
    *(
        f"evaluation.{name}"
        for name in ("name", "attacks", "batch_size", "chunk_size", "limit", "mbn_gamma", "attack_dtype", "save_images")
    ),
    *(f"data.{name}" for name in ("source", "data_dir", "eval_split", "workers")),
)
# What runs of earlier versions lack in their config.json; such a run can still be evaluated.
SINCE_ADDED = {"chunk_size": 2048, "attack_dtype": "float32", "save_images": 0, "while_training": ()}
RESERVED_NAMES = ("clean", "clean_correct", "index", "label")  # columns of a result beside the attacks'


def get(config, field):
    """`get(config, "model.name")`. Raises UserError where there is no such field."""
    for name in field.split("."):
        if name not in config:
            raise UserError(f"config.{field} is missing; add it as in configs/common.py")
        config = config[name]
    return config


def resolve(config):
    """A copy of the config in which nothing is left open: recipe placeholders and evaluation radii are filled.

    Raises UserError for an unknown recipe, or where a field is missing.
    """
    config = config.copy_and_resolve_references()
    for field in ("recipe", "attacks", "attack.epsilon_255", "evaluation.attacks", *RANGES):
        get(config, field)
    require_choice("recipe", config.recipe, RECIPES)
    with config.unlocked():
        for field, value in RECIPES[config.recipe].items():
            section, name = field.rpartition(".")[::2]
            target = config[section] if section else config
            if target[name] is None:
                target[name] = value
        if config.attacks:
            config.evaluation.attacks = _pick(config.evaluation.attacks, config.attacks)
            config.attacks = ""
            _drop_absent(config.evaluation)
        for name, attack in config.evaluation.attacks.items():
            if not hasattr(attack, "items"):
                raise UserError(
                    f"config.evaluation.attacks.{name}={attack!r} must have fields: name, steps and the like"
                )
            attack.protocol = attack.get("protocol") or "custom"
            if attack.get("epsilon_255") is None:
                attack.epsilon_255 = config.attack.epsilon_255
    return config


def for_evaluation(own, config):
    """(config, left out): a run's own config, with `EVALUATION_FIELDS` taken from `config` as far as it has them.

    `config` may have nothing else (configs/eval); what is None there stays the run's, and `config.attacks`, labels
    with commas between them, picks some of its attacks. left out: the differences in anything else, as text; what the
    net is, and how it was trained, is the run's. Raises UserError for a label that is not there.
    """
    own = own.copy_and_resolve_references()
    given = {} if config is None else to_plain(resolve(config) if "recipe" in config else config)
    labels, section = given.pop("attacks", ""), given.get("evaluation", {})
    section.pop("while_training", None)
    if labels:
        section["attacks"] = _pick(section.get("attacks", {}), labels)
    get(own, "evaluation")
    with own.unlocked():
        own.attacks = ""
        for name in SINCE_ADDED.keys() - own.evaluation.keys():
            own.evaluation[name] = SINCE_ADDED[name]
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
        require_choice("attacks", label, list(attacks))
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


def require_choice(field, value, choices):
    """Raises UserError, with a suggestion, unless `value` is one of `choices`."""
    if value not in choices:
        close = difflib.get_close_matches(str(value), list(map(str, choices)), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"config.{field}={value!r} is unknown; choose one of {', '.join(map(str, choices))}{hint}")


def check_config(config, *, choices, is_source, create_attack, check_plan):
    """Raises UserError for the first rule that a resolved config breaks; touches no device and no file.

    choices: {field: allowed values} from the rooms' own tables. is_source: tells whether a data source exists.
    create_attack: builds the training attack from its options; check_plan: told the options of an entry of
    evaluation.attacks and the number of classes; both raise ValueError.
    """
    for field, allowed in choices.items():
        require_choice(field, get(config, field), allowed)
    if not is_source(config.data.source):
        raise UserError(
            f"config.data.source={config.data.source!r} is unknown; choose digits, fake, tfds:NAME or folder:PATH"
        )
    for field, (low, high) in RANGES.items():
        _require_range(field, get(config, field), low, high)
    _require_finite(to_plain(config), "config")
    _check_attack("attack", config.attack, create_attack)
    classes = config.model.num_classes
    for name, options in config.evaluation.attacks.items():
        if name in RESERVED_NAMES or not name.isidentifier():
            raise UserError(
                f"config.evaluation.attacks.{name} cannot be called so; use a plain word other than "
                f"{', '.join(RESERVED_NAMES)}"
            )
        _check_attack(f"evaluation.attacks.{name}", options.to_dict(), lambda **plan: check_plan(plan, classes))
    for name in config.evaluation.while_training:
        require_choice("evaluation.while_training", name, config.evaluation.attacks)
    _check_batch_norm(config)
    for field in ("data.mean", "data.std"):
        if len(get(config, field)) != 3:
            raise UserError(f"config.{field}={get(config, field)} needs three values, one for each colour channel")
    if min(config.data.std) <= 0:
        raise UserError(f"config.data.std={config.data.std} must be positive; it divides the images")
    scale = config.data.crop_scale
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise UserError(f"config.data.crop_scale={scale} needs the least and the greatest share of the area, of 0 to 1")
    if any(blocks < 1 for blocks in config.model.stage_sizes):
        raise UserError(f"config.model.stage_sizes={config.model.stage_sizes} needs at least one block in each stage")
    name = config.evaluation.name
    if not name or os.path.basename(name) != name:
        raise UserError(
            f"config.evaluation.name={name!r} must be a plain file name; the result is evaluations/NAME.json"
        )


def _require_range(field, value, low, high):
    if not (value >= low and (high is None or value <= high)):  # also refuses NaN
        rule = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise UserError(f"config.{field}={value} is out of range; it must be {rule}")


def _require_finite(value, field):
    """Raises UserError for an infinite number or NaN anywhere in a plain config."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            _require_finite(item, f"{field}.{name}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{field}={value} is not a finite number")


def _check_attack(field, options, create_attack):
    if "name" not in options:
        raise UserError(f"config.{field} has no name; set it to an attack's, e.g. pgd")
    radius = options["epsilon_255"]
    unit = "the unit is the pixel value, 0 to 255, so 8/255 is written 8"
    if not 0 <= radius <= 255:
        raise UserError(f"config.{field}.epsilon_255={radius} is out of range; {unit}")
    if 0 < radius < 0.1:
        raise UserError(f"config.{field}.epsilon_255={radius} looks like a radius on the [0, 1] scale; {unit}")
    try:
        create_attack(**options)
    except ValueError as error:
        raise UserError(f"config.{field}: {error}") from error


def _check_batch_norm(config):
    group = config.model.bn_group_size
    if group != "global" and not (group.isdigit() and int(group) > 0):
        raise UserError(f"config.model.bn_group_size={group!r} must be a number of images, or global")
    if config.model.norm == "mbn" and config.model.name.startswith("nf_"):
        raise UserError(
            f"config.model.norm=mbn on {config.model.name}, which has no batch norm; set config.model.name=resnet26 or "
            "resnet50 for MBNAT, or config.model.norm=bn for NoFrost"
        )
    if config.model.norm == "mbn" and not (config.method.name == "at" and 0 < config.method.adversarial_weight < 1):
        raise UserError(
            "config.model.norm=mbn needs clean and adversarial images: set config.method.name=at and "
            "config.method.adversarial_weight between 0 and 1, "
            f"now {config.method.name}, {config.method.adversarial_weight}"
        )


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


def check_workdir(workdir):
    """Raises UserError unless `workdir` is, or can become, a folder that this process may write to."""
    if not workdir:
        raise UserError("--workdir is missing; give the folder for checkpoints and results, e.g. --workdir=runs/digits")
    if "://" in workdir:
        raise UserError(f"--workdir={workdir} is a URL; mount the bucket and give the folder that all hosts share")
    path = os.path.abspath(workdir)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise UserError(f"--workdir={workdir} cannot be made: {path} is a file; choose another folder")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--workdir={workdir} cannot be written: no permission in {path}; choose another folder")


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


def to_plain(config):
    """The config as JSON sees it: plain dicts, lists, numbers and strings."""
    return json.loads(config.to_json())
