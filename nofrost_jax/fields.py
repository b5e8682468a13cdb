"""Fields of a config: to read one, to say what is wrong with one, to compare two configs."""

import difflib
import json

from nofrost_jax.errors import UserError


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
