"""Resolves and checks a config, before any device or file is used. Each folder checks its own values."""

import math
import os
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax import attacks, data, methods, models, optim, recipes, selection
from nofrost_jax.analysis.properties import BALLS
from nofrost_jax.checkpoint import read_config
from nofrost_jax.classifier import INTERPOLATIONS
from nofrost_jax.data import values
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import protocols, runs, sweep
from nofrost_jax.evaluation.programs import ATTACK_DTYPES
from nofrost_jax.fields import RANGES, check_numbers, differences, get, require_choice, to_plain
from nofrost_jax.methods import augmented
from nofrost_jax.methods import rules as method_rules
from nofrost_jax.methods.base import PRECISIONS
from nofrost_jax.shift import suites

CHOICES = {  # field: its allowed values
    "matmul_precision": PRECISIONS,
    "model.name": models.NAMES,
    "model.norm": models.NORMS,
    "model.stem": models.STEMS,
    "model.dtype": models.DTYPES,
    "model.bn_running": models.BN_RUNNING,
    "model.remat": models.REMAT,
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
    "evaluation.properties.ball": BALLS,
    "evaluation.mbn_interpolation": INTERPOLATIONS,
}
RESERVED_NAMES = ("clean", "clean_correct", "index", "label")  # the other columns of a result
EVALUATION_FIELDS = (
    *(
        f"evaluation.{name}"
        for name in (
            "name",
            "attacks",
            "batch_size",
            "chunk_size",
            "limit",
            "ids",
            "classes",
            "attack_dtype",
            "save_images",
        )
    ),
    "evaluation.properties",
    *(f"evaluation.mbn_{name}" for name in ("gamma", "interpolation", "p", "seed", "gammas")),
    *(f"data.{name}" for name in ("source", "data_dir", "eval_split", "other_files", "workers")),
)

_NEEDED = (  # fields that `resolve` reads
    *("attack.epsilon_255", "attack.norm", "evaluation.attacks", "evaluation.only", "data.views", "matmul_precision"),
    *(f"evaluation.properties.{name}" for name in ("measure", "ball", "step_rule")),
    *recipes.FIELDS,
    *RANGES,
)


_WRONG_TYPE = (AttributeError, KeyError, TypeError, ValueError)


def prepare(config: ConfigDict | None) -> ConfigDict:
    """The resolved config, with every value checked. Raises UserError for what is wrong or missing."""
    if config is None:
        raise UserError("--config is missing; give a config file, e.g. --config=configs/digits.py")
    config = resolve(config)
    check(config)
    return config


def for_training(config: ConfigDict | None) -> ConfigDict:
    """`prepare`, for a training. Raises UserError also for a config in configs/eval."""
    if says_only_how_to_evaluate(config):
        raise UserError(
            "--config says how to evaluate a run, like those in configs/eval, not how to train one; use "
            "--mode=evaluate --workdir=RUN (or --mode=dry_run for its cost), or give a training's config, e.g. "
            "--config=configs/digits.py"
        )
    return prepare(config)


def says_only_how_to_evaluate(config: ConfigDict | None) -> bool:
    """Whether a config has no net, only how to evaluate one, like those in configs/eval."""
    return config is not None and "evaluation" in config and "model" not in config


def of_run(workdir: str, config: ConfigDict | None) -> tuple[ConfigDict, list[str]]:
    """`for_evaluation` of the run in `workdir`, prepared. Raises UserError, which names the run's config.json where
    that is what is wrong."""
    own, path = ConfigDict(read_config(workdir)), os.path.join(workdir, "config.json")
    for field in ("evaluation", *_NEEDED):
        try:
            get(own, field)
        except UserError as error:
            raise UserError(
                f"{path} has no {field}: it is from another version of nofrost_jax; "
                "evaluate this run with that version, or train it again"
            ) from error
    try:
        mixed, left_out = for_evaluation(own, config)
        return prepare(mixed), left_out
    except (UserError, *_WRONG_TYPE) as error:
        wrong = _what_is_wrong(own)
        if wrong and (wrong == str(error) or not isinstance(error, UserError)):  # not the given config
            raise UserError(f"{path}: {wrong}") from error
        raise


def _what_is_wrong(config: ConfigDict) -> str:
    """What `prepare` says against a config; "" if nothing."""
    try:
        prepare(config)
        return ""
    except UserError as error:
        return str(error)
    except _WRONG_TYPE as error:
        reason = str(error).splitlines()[0]
        return f"a value has the wrong type ({reason}); restore the file from a copy"


def for_sets(workdir: str, config: ConfigDict) -> tuple[ConfigDict, suites.Suite, list[str]]:
    """`of_run` with the section of a config like configs/eval/shift.py: (config, its Suite, what was left out)."""
    rest, section = suites.section_of(config)
    own, left_out = of_run(workdir, rest)
    suite = suites.read(section, own)
    with own.unlocked():
        own.shift = section
    return own, suite, left_out


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy of the config with all open fields filled: the recipe's, the views, DeepAugment's nets, evaluation radii.
    Raises UserError for an unknown recipe or a missing field."""
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
                raise UserError(f"config.evaluation.attacks.{name}={attack!r} must have fields, e.g. name and steps")
            attack.protocol = attack.get("protocol") or "custom"
            _fill_radius(name, attack, config.attack)
    return config


def _fill_radius(name: str, attack: ConfigDict, training: ConfigDict) -> None:
    """Gives an entry of `evaluation.attacks` its radius and norm: its own, or both from the training attack."""
    attack.norm = attack.get("norm") or "linf"
    if attack.get("epsilon_255") is not None:
        return
    if attack.norm not in ("linf", training.norm):
        raise UserError(
            f"config.evaluation.attacks.{name}.norm={attack.norm} needs a radius of its own, because the run's is in "
            f"{training.norm}: set config.evaluation.attacks.{name}.epsilon_255; l2 3.0 on [0, 1] is 765"
        )
    attack.epsilon_255, attack.norm = training.epsilon_255, training.norm


def for_evaluation(own: ConfigDict, config: ConfigDict | None) -> tuple[ConfigDict, list[str]]:
    """(config, left out): a run's own config, with those of `EVALUATION_FIELDS` that `config` has and that are not
    None.

    `config` may have nothing else (configs/eval). Its `evaluation.only`, names separated by commas, picks some of its
    attacks, or of the run's where it has none. left out: all other differences, as text, because the net and its
    training are the run's. Raises UserError for an unknown name.
    """
    get(own, "evaluation")
    own = own.copy_and_resolve_references()
    given = {} if config is None else to_plain(resolve(config) if "recipe" in config else config)
    section = given.get("evaluation", {})
    only = section.pop("only", "")
    section.pop("while_training", None)
    if only:
        section["attacks"] = _pick(section.get("attacks") or to_plain(own)["evaluation"]["attacks"], only)
    with own.unlocked():
        for field in EVALUATION_FIELDS:
            part, name = field.split(".")
            value = given.get(part, {}).get(name)
            if value is not None:
                own[part][name] = value
        _drop_absent(own.evaluation)
    plain = to_plain(own)
    return own, differences(plain, _merged(plain, _without_nones(given)))


def _drop_absent(section: ConfigDict) -> None:
    """Removes from `while_training` what is no longer among the attacks."""
    kept = [name for name in section.while_training if name in section.attacks]
    section.while_training = type(section.while_training)(kept)


def _pick(attacks, only):
    """The attacks named in `only`, separated by commas."""
    chosen = [name.strip() for name in only.split(",") if name.strip()]
    for name in chosen:
        require_choice("evaluation.only", name, list(attacks))
    return {name: attacks[name] for name in chosen}


def _without_nones(plain: dict[str, Any]) -> dict[str, Any]:
    items = ((name, _without_nones(value) if isinstance(value, dict) else value) for name, value in plain.items())
    return {name: value for name, value in items if value is not None}


def _merged(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `other` over it, both plain dicts."""
    both = {
        name: _merged(base[name], other[name]) for name in base.keys() & other.keys() if isinstance(base[name], dict)
    }
    return {**base, **other, **both}


def check(config: ConfigDict) -> None:
    """Raises UserError for the first rule that a resolved config breaks."""
    for field, allowed in CHOICES.items():
        require_choice(field, get(config, field), allowed)
    if not data.is_known(config.data.source):
        known = ", ".join(data.SOURCES)
        raise UserError(f"config.data.source={config.data.source!r} is unknown; choose one of {known}")
    check_numbers(config)
    side = config.data.image_size
    _check_attack("attack", config.attack, attacks.create, side)
    classes = config.model.num_classes
    for name, options in config.evaluation.attacks.items():
        if name in RESERVED_NAMES or not name.isidentifier():
            raise UserError(
                f"config.evaluation.attacks.{name} is not a valid name; use a plain word other than "
                f"{', '.join(RESERVED_NAMES)}"
            )
        _check_attack(
            f"evaluation.attacks.{name}", options.to_dict(), lambda **given: protocols.check(given, classes), side
        )
    for name in config.evaluation.while_training:
        require_choice("evaluation.while_training", name, config.evaluation.attacks)
    try:
        runs.properties_of(config)
    except ValueError as error:
        raise UserError(f"config.evaluation.properties: {error}") from error
    if config.evaluation.classes > config.model.num_classes:
        raise UserError(
            f"config.evaluation.classes={config.evaluation.classes}, but the net has {config.model.num_classes}; "
            "set it to 0 for all"
        )
    models.check(config.model)
    sweep.check(config.model.norm, config.evaluation)
    method_rules.check(config)
    optim.check(config)
    selection.check_rule(config)
    values.check(config.data)
    name = config.evaluation.name
    if not name or os.path.basename(name) != name:
        raise UserError(f"config.evaluation.name={name!r} must be a file name; the result is evaluations/NAME.json")


def _check_attack(field, options, create_attack, side):
    """Raises UserError unless an attack on images of `side` pixels is valid, with its radius in pixel values."""
    if "name" not in options:
        raise UserError(f"config.{field} has no name; set it to the name of an attack, e.g. pgd")
    radius = options["epsilon_255"]
    require_choice(f"{field}.norm", options["norm"], ("linf", "l2"))
    unit, most, least = "the unit is the pixel value, 0 to 255, so write 8/255 as 8", 255, 0.1
    if options["norm"] == "l2":
        most, least = 255 * math.sqrt(3) * side, 10
        unit = f"l2 lengths are in pixel values, too, so write 3.0 as 765; {most:.0f} reaches every image here"
    if not 0 <= radius <= most:
        raise UserError(f"config.{field}.epsilon_255={radius} is out of range; {unit}")
    if 0 < radius < least:
        raise UserError(f"config.{field}.epsilon_255={radius} looks like a radius on the [0, 1] scale; {unit}")
    try:
        create_attack(**options)
    except ValueError as error:
        raise UserError(f"config.{field}: {error}") from error


def check_evaluation_devices(config: ConfigDict, devices: int, processes: int) -> None:
    """Raises UserError unless the evaluation's batch divides evenly over the devices."""
    if config.evaluation.batch_size % devices:
        raise UserError(
            f"config.evaluation.batch_size={config.evaluation.batch_size} does not divide over {devices} devices; "
            f"try {-(-config.evaluation.batch_size // devices) * devices}"
        )
    if devices % processes:
        raise UserError(f"{devices} devices do not divide over {processes} processes; start one process per host")


def check_devices(config: ConfigDict, devices: int, processes: int, uses_groups: bool) -> None:
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
    method_rules.check_micro_batches(config, size // devices, uses_groups)
