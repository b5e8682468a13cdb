"""Fields of a config: read one, check its value, compare two configs, and tell which fields decide a result."""

import difflib
import json
import math
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax import files
from nofrost_jax.errors import UserError

RANGES = {  # field: (least, greatest), both allowed; None = no bound
    "seed": (0, 2**31 - 1),
    "batch_size": (1, None),
    "accumulate": (1, None),
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
    "evaluation.classes": (0, None),
    "evaluation.properties.steps": (1, None),
    "evaluation.properties.radius": (0, None),
    "evaluation.properties.step": (0, None),
    "evaluation.properties.points": (2, None),
    "evaluation.properties.alpha": (-1, 1),
    "evaluation.properties.beta": (-1, 1),
    "evaluation.chunk_size": (1, None),
    "evaluation.save_images": (0, None),
    "evaluation.mbn_gamma": (0, 1),
    "evaluation.mbn_p": (0, 1),
    "evaluation.mbn_seed": (0, None),
    "checkpoint.every_steps": (1, None),
    "checkpoint.keep": (1, None),
    "log.every_steps": (1, None),
}
NUMBERS = (  # fields that hold several numbers
    *("method.tau_epochs", "optimizer.point_epochs", "optimizer.point_shares"),
    *("data.mean", "data.std", "data.crop_scale", "data.tda_crop_scale", "evaluation.mbn_gammas"),
)

FREE_FIELDS = {  # a run may resume with other values: they change neither the net nor what is measured of it
    "accumulate": "sums have another order, as on another number of devices",
    "model.remat": "the same operations, some of them twice",
    "data.data_dir": "where the data is",
    "deepaugment.folders": "where its images are; `Dataset.training_fingerprint` says which they are",
    "data.workers": "batches are a function of seed and step, with any number of workers",
    "data.on_error": "until now every image was readable, or the unreadable ones were skipped",
    "data.other_files": "files that are no images do not count",
    "evaluation.name": "the name of the result",
    "evaluation.batch_size": "an image's outcome does not depend on the rest of its batch",
    "evaluation.chunk_size": "nor on its chunk",
    "evaluation.save_images": "pictures next to the result",
    "evaluation.while_training": "what is measured during training",
    "evaluation.every_epochs": "when it is measured, unless this chooses the checkpoint",
    "evaluation.mbn_gammas": "for --mode=evaluate alone",
    "checkpoint.every_steps": "when the state is saved",
    "checkpoint.keep": "how many checkpoints are kept",
    "log.every_steps": "when metrics are written",
    "log.tensorboard": "where they are written",
}


def get(config: ConfigDict, field: str) -> Any:
    """`get(config, "model.name")`. Raises UserError if there is no such field."""
    for name in field.split("."):
        if name not in config:
            raise UserError(f"config.{field} is missing; add it as in configs/common.py")
        config = config[name]
    return config


def require_choice(field: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises UserError, with a suggestion, unless the value of `config.FIELD` is one of `choices`."""
    require_known(f"config.{field}", value, choices)


def require_known(name: str, value: Any, choices: Iterable[Any]) -> None:
    """`require_choice` for any setting; `name` is what the user knows it by, e.g. an option."""
    if value not in choices:
        close = difflib.get_close_matches(str(value), list(map(str, choices)), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"{name}={value!r} is unknown; choose one of {', '.join(map(str, choices))}{hint}")


def check_seed(name: str, value: int) -> None:
    """Raises UserError for a seed outside the range in which JAX keys differ; `name` is what the user knows it by."""
    if not 0 <= value < 2**32:
        raise UserError(f"{name}={value} is out of range; it must be between 0 and {2**32 - 1}")


def check_numbers(config: ConfigDict) -> None:
    """Raises UserError for the first number of a resolved config that is out of range, not finite, or no number."""
    for field, (low, high) in RANGES.items():
        value = get(config, field)
        if not (value >= low and (high is None or value <= high)):  # also refuses NaN
            rule = f"between {low} and {high}" if high is not None else f"at least {low}"
            raise UserError(f"config.{field}={value} is out of range; it must be {rule}")
    _require_finite(to_plain(config), "config")
    for field in NUMBERS:
        if not all(isinstance(value, int | float) for value in get(config, field)):
            raise UserError(f"config.{field}={get(config, field)} must be numbers")


def _require_finite(value, field):
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            _require_finite(item, f"{field}.{name}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{field}={value} is not a finite number")


def to_plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON sees it: plain dicts, lists, numbers and strings."""
    return json.loads(config.to_json())


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """["field: old -> new", ...] between two plain configs."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        left, right = old.get(name, "(absent)"), new.get(name, "(absent)")
        if isinstance(left, dict) and isinstance(right, dict):
            lines += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            lines.append(f"{prefix}{name}: {left!r} -> {right!r}")
    return lines


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(differences that change the result, differences in FREE_FIELDS) between two resolved plain configs."""
    lines, deciding = differences(old, new), set(differences(deciding_part(old), deciding_part(new)))
    return [line for line in lines if line in deciding], [line for line in lines if line not in deciding]


def deciding_part(plain: dict[str, Any]) -> dict[str, Any]:
    """A resolved plain config without FREE_FIELDS and folder paths: all that decides a run's result, apart from the
    data's contents (`Dataset.training_fingerprint`, `Dataset.fingerprint`)."""
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()}
    looks_decide = kept.get("checkpoint", {}).get("select", "last") != "last"
    for field in FREE_FIELDS:
        *section, name = field.split(".")
        if not (looks_decide and field == "evaluation.every_epochs"):
            (kept.get(section[0], {}) if section else kept).pop(name, None)
    if str(kept.get("data", {}).get("source")).startswith("folder:"):
        kept["data"]["source"] = "folder:"
    return kept


def identity(config: ConfigDict) -> dict[str, Any]:
    """{"config", "config_sha256"}: the deciding part of a resolved config, as every checkpoint keeps it."""
    plain = to_plain(config)
    return {"config": deciding_part(plain), "config_sha256": deciding_sha256(plain)}


def deciding_sha256(plain: dict[str, Any]) -> str:
    """Hex SHA-256 of the deciding part of a resolved plain config."""
    return files.sha256(json.dumps(deciding_part(plain), sort_keys=True))
