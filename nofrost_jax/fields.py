"""Fields of a config: to read one, to say what is wrong with its value, to compare two configs."""

import difflib
import json
import math

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


def to_plain(config):
    """The config as JSON sees it: plain dicts, lists, numbers and strings."""
    return json.loads(config.to_json())


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


def check_numbers(config):
    """Raises UserError for the first number of a resolved config that is out of range, not finite, or no number."""
    for field, (low, high) in RANGES.items():
        _require_range(field, get(config, field), low, high)
    _require_finite(to_plain(config), "config")
    for field in NUMBERS:
        _require_numbers(field, get(config, field))


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
