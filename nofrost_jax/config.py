"""A config made whole and checked, before any device or file is touched. It asks the rooms for their rules."""

import math
import os

from ml_collections import ConfigDict

from nofrost_jax import attacks, data, methods, models, optim, recipes, selection
from nofrost_jax.checkpoint import read_config
from nofrost_jax.classifier import INTERPOLATIONS
from nofrost_jax.data import values
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import protocols, sweep
from nofrost_jax.evaluation.programs import ATTACK_DTYPES
from nofrost_jax.fields import RANGES, check_numbers, differences, get, require_choice, to_plain
from nofrost_jax.methods import augmented
from nofrost_jax.methods import rules as method_rules
from nofrost_jax.methods.base import PRECISIONS
from nofrost_jax.shift import suites

CHOICES = {  # field: its allowed values, of the rooms' own tables
    "matmul_precision": PRECISIONS,
    "model.name": models.NAMES,
    "model.norm": models.NORMS,
    "model.stem": models.STEMS,
    "model.dtype": models.DTYPES,
    "model.bn_running": models.BN_RUNNING,
    "method.name": methods.NAMES,
    "method.terms": augmented.TERMS,
    "attack.name": attacks.NAMES,
    "optimizer.schedule": optim.SCHEDULES,
    "data.augmentation": data.AUGMENTATIONS,
    "data.decode": data.DECODE,
    "data.on_error": data.ON_ERROR,
    "data.other_files": data.OTHER_FILES,
    "deepaugment.mode": data.DEEPAUGMENT_MODES,
    "evaluation.attack_dtype": ATTACK_DTYPES,
    "evaluation.mbn_interpolation": INTERPOLATIONS,
}
RESERVED_NAMES = ("clean", "clean_correct", "index", "label")  # columns of a result beside the attacks'
EVALUATION_FIELDS = (
    *(
        f"evaluation.{name}"
        for name in ("name", "attacks", "batch_size", "chunk_size", "limit", "ids", "attack_dtype", "save_images")
    ),
    *(f"evaluation.mbn_{name}" for name in ("gamma", "interpolation", "p", "seed", "gammas")),
    *(f"data.{name}" for name in ("source", "data_dir", "eval_split", "other_files", "workers")),
)

_NEEDED = (  # fields that `resolve` reads
    *("attack.epsilon_255", "attack.norm", "evaluation.attacks", "evaluation.only", "data.views", "matmul_precision"),
    *recipes.FIELDS,
    *RANGES,
)


def prepare(config):
    """The resolved config, with every value checked. Raises UserError for what is wrong, or missing."""
    if config is None:
        raise UserError("--config is missing; give a config file, e.g. --config=configs/digits.py")
    config = resolve(config)
    check(config)
    return config


def for_training(config):
    """`prepare`, for a training. Raises UserError also for a config in configs/eval."""
    if says_only_how_to_evaluate(config):
        raise UserError(
            "--config tells how to evaluate a run, as those in configs/eval do, not how to train one; use "
            "--mode=evaluate --workdir=RUN (or --mode=dry_run, to see what that costs), or give the config of a "
            "training run, e.g. --config=configs/digits.py"
        )
    return prepare(config)


def says_only_how_to_evaluate(config):
    """Whether a config says nothing of a net, only how to evaluate one: those in configs/eval."""
    return config is not None and "evaluation" in config and "model" not in config


def of_run(workdir, config):
    """(the resolved config of the run in `workdir`, with an evaluation's values from `config`; what was left out)."""
    own = ConfigDict(read_config(workdir))
    for field in ("evaluation", *_NEEDED):
        try:
            get(own, field)
        except UserError as error:
            raise UserError(
                f"{os.path.join(workdir, 'config.json')} has no {field}: it is from another version of nofrost_jax; "
                "evaluate this run with that version, or train it again"
            ) from error
    own, left_out = for_evaluation(own, config)
    return prepare(own), left_out


def for_sets(workdir, config):
    """(`of_run`'s config with the section of a config like configs/eval/shift.py, the Suite, what was left out)."""
    rest, section = suites.section_of(config)
    own, left_out = of_run(workdir, rest)
    suite = suites.read(section, own)
    with own.unlocked():
        own.shift = section
    return own, suite, left_out


def resolve(config):
    """A copy of the config in which nothing is left open: what the recipe says, the views of an image, DeepAugment's
    nets, evaluation radii.

    Raises UserError for an unknown recipe, or where a field is missing.
    """
    config = config.copy_and_resolve_references()
    for field in _NEEDED:
        get(config, field)
    with config.unlocked():
        recipes.fill(config)
        if config.data.views is None:
            config.data.views = method_rules.views_of(config.method)
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
    return own, differences(plain, _merged(plain, _without_nones(given)))


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


def _merged(base, other):
    """`base` with the fields of `other` over it, both plain dicts."""
    both = {
        name: _merged(base[name], other[name]) for name in base.keys() & other.keys() if isinstance(base[name], dict)
    }
    return {**base, **other, **both}


def check(config):
    """Raises UserError for the first rule that a resolved config breaks."""
    for field, allowed in CHOICES.items():
        require_choice(field, get(config, field), allowed)
    if not data.is_known(config.data.source):
        raise UserError(
            f"config.data.source={config.data.source!r} is unknown; choose digits, fake, tfds:NAME or folder:PATH"
        )
    check_numbers(config)
    side = config.data.image_size
    _check_attack("attack", config.attack, attacks.create, side)

    def check_protocol(**options):
        protocols.check(options, config.model.num_classes)

    for name, options in config.evaluation.attacks.items():
        if name in RESERVED_NAMES or not name.isidentifier():
            raise UserError(
                f"config.evaluation.attacks.{name} cannot be called so; use a plain word other than "
                f"{', '.join(RESERVED_NAMES)}"
            )
        _check_attack(f"evaluation.attacks.{name}", options.to_dict(), check_protocol, side)
    for name in config.evaluation.while_training:
        require_choice("evaluation.while_training", name, config.evaluation.attacks)
    models.check(config.model)
    sweep.check(config.model.norm, config.evaluation)
    method_rules.check(config)
    optim.check(config)
    selection.check_rule(config)
    values.check(config.data)
    name = config.evaluation.name
    if not name or os.path.basename(name) != name:
        raise UserError(
            f"config.evaluation.name={name!r} must be a plain file name; the result is evaluations/NAME.json"
        )


def _check_attack(field, options, create_attack, side):
    """Raises UserError unless an attack on images of `side` pixels can be made, and its radius is in pixel values."""
    if "name" not in options:
        raise UserError(f"config.{field} has no name; set it to an attack's, e.g. pgd")
    radius = options["epsilon_255"]
    require_choice(f"{field}.norm", options["norm"], ("linf", "l2"))
    unit, most, least = "the unit is the pixel value, 0 to 255, so 8/255 is written 8", 255, 0.1
    if options["norm"] == "l2":
        most, least = 255 * math.sqrt(3) * side, 10
        unit = f"l2 lengths are in pixel values, too, so 3.0 is written 765; {most:.0f} reaches every image here"
    if not 0 <= radius <= most:
        raise UserError(f"config.{field}.epsilon_255={radius} is out of range; {unit}")
    if 0 < radius < least:
        raise UserError(f"config.{field}.epsilon_255={radius} looks like a radius on the [0, 1] scale; {unit}")
    try:
        create_attack(**options)
    except ValueError as error:
        raise UserError(f"config.{field}: {error}") from error


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
    if uses_groups and config.model.bn_group_size != "global":
        models.layers.group_span(int(config.model.bn_group_size), size // devices, devices)
