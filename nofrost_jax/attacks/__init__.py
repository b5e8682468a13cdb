"""Attacks on any function from images in [0, 1] to logits. They know no model, no data and no config: `jax` only.

result = PGD(epsilon=8 / 255, steps=20)(logits_fn, images, labels, keys)
"""

from nofrost_jax.attacks.pgd import PGD, AttackResult

TABLE = {"pgd": PGD}
NAMES = tuple(TABLE)

__all__ = ["NAMES", "PGD", "TABLE", "AttackResult", "create"]


def create(name, *, epsilon_255=None, **overrides):
    """The attack of a config: `create("pgd", epsilon_255=8, steps=10)`. `epsilon_255` is the radius in pixel values.

    Raises ValueError for an unknown name, an unknown option or a value out of range.
    """
    if name not in TABLE:
        raise ValueError(f"unknown attack {name!r}; choose one of {', '.join(NAMES)}")
    if epsilon_255 is not None:
        overrides["epsilon"] = epsilon_255 / 255
    try:
        return TABLE[name](**overrides)
    except TypeError as error:
        raise ValueError(f"attack {name!r} does not take these options: {error}") from error
