"""Attacks on any function from images in [0, 1] to logits. They import `jax` only: no model, no data, no config.

result = APGD(epsilon=8 / 255, steps=100)(logits_fn, images, labels, keys)
"""

from typing import Any

from nofrost_jax.attacks.apgd import APGD, TargetedAPGD
from nofrost_jax.attacks.base import Attack, AttackResult
from nofrost_jax.attacks.cw import CW
from nofrost_jax.attacks.fab import FAB
from nofrost_jax.attacks.fgsm import FGSM
from nofrost_jax.attacks.friendly import FriendlyPGD
from nofrost_jax.attacks.mi_fgsm import MIFGSM
from nofrost_jax.attacks.pgd import PGD, TargetedPGD
from nofrost_jax.attacks.rays import RayS
from nofrost_jax.attacks.square import Square

TABLE: dict[str, tuple[type[Attack], dict[str, Any]]] = {  # name in a config: (class, its fixed fields)
    "fgsm": (FGSM, {}),
    "pgd": (PGD, {}),
    "pgd_targeted": (TargetedPGD, {}),
    "pgd_kl": (FriendlyPGD, {"loss": "kl", "start": "normal", "clip_start": False, "tau": None}),
    "friendly": (FriendlyPGD, {"loss": "ce", "start": "uniform"}),
    "friendly_kl": (FriendlyPGD, {"loss": "kl", "start": "normal"}),
    "mi_fgsm": (MIFGSM, {}),
    "cw": (CW, {}),
    "apgd_ce": (APGD, {"loss": "ce"}),
    "apgd_dlr": (APGD, {"loss": "dlr"}),
    "apgd_t": (TargetedAPGD, {}),
    "fab_t": (FAB, {}),
    "square": (Square, {}),
    "rays": (RayS, {}),
}
NAMES = tuple(TABLE)
L2 = ("pgd", "pgd_targeted", "cw")  # attacks that also have the l2 norm

__all__ = [
    "APGD",
    "CW",
    "FAB",
    "FGSM",
    "MIFGSM",
    "NAMES",
    "PGD",
    "TABLE",
    "Attack",
    "AttackResult",
    "FriendlyPGD",
    "RayS",
    "Square",
    "TargetedAPGD",
    "TargetedPGD",
    "create",
]


def create(name: str, *, epsilon_255: float | None = None, norm: str = "linf", **overrides: Any) -> Attack:
    """The attack of a config: `create("pgd", epsilon_255=8, steps=10)`. `epsilon_255` is the radius in pixel values, in
    either norm: l2 3.0 on the [0, 1] scale is 765. Raises ValueError for an unknown name, option, value or norm."""
    if name not in TABLE:
        raise ValueError(f"unknown attack {name!r}; choose one of {', '.join(NAMES)}")
    attack, fixed = TABLE[name]
    if epsilon_255 is not None and "epsilon" in overrides:
        raise ValueError(f"attack {name!r} takes epsilon_255={epsilon_255} or epsilon, not both")
    if epsilon_255 is not None:
        overrides["epsilon"] = epsilon_255 / 255
    if norm != "linf":
        if name not in L2:
            raise ValueError(f"attack {name!r} has no norm={norm!r}, only linf; {', '.join(L2)} have l2")
        overrides["norm"] = norm
    try:
        return attack(**fixed, **overrides)
    except TypeError as error:
        raise ValueError(f"attack {name!r} does not take these options: {error}") from error
