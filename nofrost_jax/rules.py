"""What values a config may have, field by field and together. Nothing here touches a device or a file."""

import difflib
import json
import math
import os

from nofrost_jax import data_rules
from nofrost_jax.errors import UserError

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
    "method.beta": (0, None),
    "method.trades_forwards": (2, 3),
    "method.replays": (1, None),
    "method.tda_blur": (0, None),
    "method.tda_noise": (0, 1),
    "deepaugment.maximum": (0, None),
    "deepaugment.group": (1, None),
    "optimizer.learning_rate": (0, None),
    "optimizer.learning_rate_batch": (0, None),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, None),
    "optimizer.warmup_epochs": (0, None),
    "optimizer.decay_epochs": (1, None),
    "optimizer.agc": (0, None),
    "data.image_size": (1, None),
    "data.eval_resize": (0, None),
    "data.train_resize": (0, None),
    "data.holdout": (0, None),
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
    "evaluation.mbn_p": (0, 1),
    "evaluation.mbn_seed": (0, None),
    "checkpoint.every_steps": (1, None),
    "checkpoint.keep": (1, None),
    "log.every_steps": (1, None),
}
NUMBERS = (  # fields that are several
    *("method.tau_epochs", "optimizer.point_epochs", "optimizer.point_shares"),
    *("data.mean", "data.std", "data.crop_scale", "data.tda_crop_scale", "evaluation.mbn_gammas"),
)
TERMS = {  # method.terms of `augmented`: the streams whose losses are averaged, in the order of their forwards
    "deepaugment": ("clean", "deepaugment"),
    "tda": ("tda",),
    "combine": ("clean", "deepaugment", "tda", "adversarial"),
    "paper": ("clean", "augmented", "adversarial"),  # augmented: deepaugment or tda, by a coin for each image
    "authors": ("clean", "deepaugment", "tda", "adversarial"),
}
DEEPAUGMENT_SOURCES = ("edsr", "cae")  # the nets whose images `deepaugment.folders` hold, in its order
SELECTIONS = ("last", "best_ra_val", "best_sa_val", "best_ra_holdout")
RESERVED_NAMES = ("clean", "clean_correct", "index", "label")  # columns of a result beside the attacks'


def get(config, field):
    """`get(config, "model.name")`. Raises UserError where there is no such field."""
    for name in field.split("."):
        if name not in config:
            raise UserError(f"config.{field} is missing; add it as in configs/common.py")
        config = config[name]
    return config


def require_choice(field, value, choices):
    """Raises UserError, with a suggestion, unless a field's `value` is one of `choices`."""
    require_known(f"config.{field}", value, choices)


def require_known(name, value, choices):
    """`require_choice` for anything that is called `name` where it is set, e.g. an option."""
    if value not in choices:
        close = difflib.get_close_matches(str(value), list(map(str, choices)), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"{name}={value!r} is unknown; choose one of {', '.join(map(str, choices))}{hint}")


def check_seed(name, value):
    """Raises UserError unless JAX's keys tell a seed, called `name` where it is set, from all others."""
    if not 0 <= value < 2**32:
        raise UserError(f"{name}={value} is out of range; it must be between 0 and {2**32 - 1}")


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
    _require_finite(json.loads(config.to_json()), "config")
    for field in NUMBERS:
        _require_numbers(field, get(config, field))
    side = config.data.image_size
    _check_attack("attack", config.attack, create_attack, side)
    classes = config.model.num_classes
    for name, options in config.evaluation.attacks.items():
        if name in RESERVED_NAMES or not name.isidentifier():
            raise UserError(
                f"config.evaluation.attacks.{name} cannot be called so; use a plain word other than "
                f"{', '.join(RESERVED_NAMES)}"
            )
        _check_attack(f"evaluation.attacks.{name}", options.to_dict(), lambda **plan: check_plan(plan, classes), side)
    for name in config.evaluation.while_training:
        require_choice("evaluation.while_training", name, config.evaluation.attacks)
    _check_batch_norm(config)
    _check_mixture(config.model.norm, config.evaluation)
    _check_method(config.method, config.attack)
    _check_views(config)
    _check_points(config.optimizer)
    if config.optimizer.warmup_epochs >= config.epochs:
        raise UserError(
            f"config.optimizer.warmup_epochs={config.optimizer.warmup_epochs} leaves nothing of config.epochs="
            f"{config.epochs}; make it less"
        )
    _check_selection(config)
    data_rules.check(config.data)
    if not all(isinstance(blocks, int) and blocks > 0 for blocks in config.model.stage_sizes):
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


def _require_numbers(field, values):
    if not all(isinstance(value, int | float) for value in values):
        raise UserError(f"config.{field}={values} must be numbers")


def _require_finite(value, field):
    """Raises UserError for an infinite number or NaN anywhere in a plain config."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            _require_finite(item, f"{field}.{name}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{field}={value} is not a finite number")


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


def _check_method(method, attack):
    """Raises UserError where a method's attack is not one that it can use."""
    if method.get("sum_losses") and not (method.name == "at" and 0 < method.adversarial_weight < 1):
        raise UserError(
            "config.method.sum_losses=True adds the clean and the adversarial loss: set config.method.name=at and "
            f"adversarial_weight between 0 and 1, now {method.name}, {method.adversarial_weight}"
        )
    single = {"fast": "epsilon_times:1.25", "free": "epsilon_times:1"}
    if method.name in single and (attack.name, attack.norm, attack.steps) != ("pgd", "linf", 1):
        raise UserError(
            f"config.method.name={method.name} takes one step of its own: set config.attack.name=pgd, norm=linf and "
            f"steps=1, with step_rule={single[method.name]}; now {attack.name}, {attack.norm}, steps={attack.steps}"
        )
    friendly = {"fat": "friendly", "trades_fat": "friendly_kl"}
    needed = {"trades": "pgd_kl", **friendly}.get(method.name, attack.name)
    if attack.name != needed:
        raise UserError(
            f"config.method.name={method.name} has an attack of its own: set config.attack.name={needed}, now "
            f"{attack.name}; the rows of configs/methods.py set all of it"
        )
    epochs = list(method.tau_epochs)
    if epochs and (method.name not in friendly or attack.get("tau") is None):
        raise UserError(
            "config.method.tau_epochs is for config.method.name=fat or trades_fat, with a number as config.attack.tau"
        )
    if epochs != sorted(set(epochs)) or not all(isinstance(epoch, int) and epoch > 0 for epoch in epochs):
        raise UserError(f"config.method.tau_epochs={tuple(epochs)} must be whole epochs of 1 or more, ascending")


def views_of(method):
    """The views of an image that a method's batches hold, in the order of `data.views`."""
    if method.name != "augmented" or method.terms not in TERMS:
        return ("clean",)
    return tuple(name for name in TERMS[method.terms] if name != "adversarial")


def is_adversarial(method):
    """Whether a method attacks images that it trains on."""
    if method.name == "augmented":
        return "adversarial" in TERMS.get(method.terms, ())
    return method.name != "standard" and (method.name != "at" or method.adversarial_weight > 0)


def _check_views(config):
    """Raises UserError unless the batches hold the views that the method trains on, and no other."""
    method, views, section = config.method, tuple(config.data.views), config.deepaugment
    needed = views_of(method)
    if len(set(views)) < len(views) or set(views) != set(needed):
        terms = f" with method.terms={method.terms}" if method.name == "augmented" else ""
        raise UserError(
            f"config.data.views={views} does not fit config.method.name={method.name}{terms}; set it to {needed}"
        )
    sources, folders = tuple(section.sources), tuple(section.folders)
    if not sources or len(set(sources)) < len(sources):
        raise UserError(f"config.deepaugment.sources={sources} must name edsr, cae or both, each once")
    for source in sources:
        require_choice("deepaugment.sources", source, DEEPAUGMENT_SOURCES)
    distorts = "deepaugment" in views or "augmented" in views
    if distorts and section.mode == "on_device" and (not section.weights or config.data.image_size < 12):
        raise UserError(
            f"config.deepaugment.mode=on_device needs config.deepaugment.weights, now {section.weights!r}, and images "
            f"of 12 pixels or more, now {config.data.image_size}; give files, or random:SEED for weights of no training"
        )
    if not distorts or section.mode != "files":
        return
    for place, source in enumerate(DEEPAUGMENT_SOURCES):
        if source in sources and not (place < len(folders) and folders[place]):
            raise UserError(
                f"config.deepaugment.folders={folders} has no folder of the images by {source}; give those of "
                f"{', '.join(DEEPAUGMENT_SOURCES)} in this order, e.g. by --config=configs/FILE.py:files=DIR, or set "
                f"config.deepaugment.sources without {source}"
            )


def _check_selection(config):
    """Raises UserError where the checkpoint is to be chosen on images that nobody held out."""
    require_choice("checkpoint.select", get(config, "checkpoint.select"), SELECTIONS)
    if config.checkpoint.select == "best_ra_holdout" and not config.data.holdout:
        raise UserError(
            "config.checkpoint.select=best_ra_holdout chooses on held-out training images, but config.data.holdout=0; "
            "set it to a number of images, e.g. a tenth of the training set"
        )


def _check_points(optimizer):
    """Raises UserError unless the points of a schedule can be drawn as one line from left to right."""
    epochs, shares = list(optimizer.point_epochs), list(optimizer.point_shares)
    if not epochs or len(epochs) != len(shares) or min(epochs + shares) < 0 or epochs != sorted(set(epochs)):
        raise UserError(
            f"config.optimizer.point_epochs={tuple(epochs)} and point_shares={tuple(shares)} must be equally many "
            "numbers of 0 or more, epochs ascending"
        )


def _check_mixture(norm, section):
    """Raises UserError where `mbn_gammas` cannot be told apart, or where a net without two branches is to mix them."""
    gammas = list(section.mbn_gammas)
    for gamma in gammas:
        _require_range("evaluation.mbn_gammas", gamma, 0, 1)
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        raise UserError(f"config.evaluation.mbn_gammas={tuple(gammas)} names a weight twice; give each once")
    set_here = {
        "mbn_gammas": tuple(gammas),
        "mbn_interpolation": section.mbn_interpolation,
        "mbn_gamma": section.mbn_gamma,
    }
    nothing = {"mbn_gammas": (), "mbn_interpolation": "logits", "mbn_gamma": 1.0}
    for name, value in set_here.items():
        if norm != "mbn" and value != nothing[name]:
            raise UserError(
                f"config.evaluation.{name}={value} is for a net with model.norm=mbn, and this one has {norm}; evaluate "
                f"a run of an mbnat config, or set it to {nothing[name]}"
            )
