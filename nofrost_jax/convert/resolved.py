"""Whether a config.json that nobody vouches for has what is read of it here, as `config.check` would have left it."""

from collections.abc import Callable, Mapping
from typing import Any

from nofrost_jax.errors import UserError

Rule = Callable[[Any], bool]


def _number(low: float, high: float, kind: type[int] | tuple[type[int], type[float]] = (int, float)) -> Rule:
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high  # not NaN


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list(rule: Rule, lengths: range) -> Rule:
    return lambda value: isinstance(value, list) and len(value) in lengths and all(map(rule, value))


NET = {  # what `load` reads; the greatest values are beyond any net's, and keep the tracing short
    "model.name": _text,
    "model.num_classes": _number(1, 10**6, int),
    "model.norm": _text,
    "model.stem": _text,
    "model.width": _number(0.01, 100),
    "model.stage_sizes": _list(_number(1, 500, int), range(5)),
    "model.bn_group_size": lambda value: value == "global" or (_text(value) and value.isdecimal() and len(value) < 10),
    "data.source": _text,
    "data.data_dir": _text,
    "data.image_size": _number(1, 2**14, int),
    "data.mean": _list(_number(0, 1), range(3, 4)),
    "data.std": _list(_number(1e-9, 1), range(3, 4)),
    "evaluation.mbn_gamma": _number(0, 1),
    "evaluation.mbn_interpolation": _text,
    "evaluation.mbn_p": _number(0, 1),
    "evaluation.mbn_seed": _number(0, 2**63, int),
}
CARD = {  # what a model card says beside it
    "data.eval_resize": _number(0, 2**14, int),
    "method.name": _text,
    "method.adversarial_weight": _number(0, 1),
    "attack.name": _text,
    "attack.norm": _text,
    "attack.steps": _number(0, 10**9, int),
    "attack.epsilon_255": _number(0, 10**9),
    "recipe": _text,
    "epochs": _number(1, 10**9),
    "batch_size": _number(1, 10**9, int),
    "seed": _number(0, 2**63, int),
}


def check(config: Mapping[str, Any], rules: Mapping[str, Rule], what: str) -> None:
    """Raises UserError about `what` for the first field of a plain resolved config that breaks its rule."""
    for field, fits in rules.items():
        value = config
        for name in field.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if not fits(value):
            found = "is missing" if value is None else f"cannot be {value!r:.40}"
            raise UserError(f"{what} is no resolved config of nofrost_jax: config.{field} {found}; give a run's own")
