"""What an evaluation runs: protocols, that is attacks in order, each on the images that survived those before it.

`aa_fast_20` is the paper's "AA": two attacks of 20 steps. `aa_standard` is the field's AutoAttack (Croce & Hein,
2020b), with the constants of RobustBench. They are different protocols, and neither is ever called just "AA".
`aa_few_classes` is the part of the second that works with 2 and 3 classes, where its targeted DLR loss is not defined.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from nofrost_jax import attacks, files

_TWENTY = {"steps": 20, "restarts": 1}
_HUNDRED = {"steps": 100, "restarts": 1}
_TARGETED = {**_HUNDRED, "targets": 9}
_SQUARE = {"queries": 5000, "rescale": False, "strict_budget": False}  # the starting point is a query on top
TABLE = {
    "aa_fast_20": {"apgd_ce": _TWENTY, "apgd_dlr": _TWENTY},
    "aa_standard": {"apgd_ce": _HUNDRED, "apgd_t": _TARGETED, "fab_t": _TARGETED, "square": _SQUARE},
    "aa_few_classes": {"apgd_ce": _HUNDRED, "fab_t": _TARGETED, "square": _SQUARE},
}
CUSTOM = "cascade"  # a protocol of one's own: its `members` are in the config
QUERY_ATTACKS = ("square", "rays")  # no gradients, the attack is forward passes only: always in float32
NAMES = (*attacks.NAMES, *TABLE, CUSTOM)
COUNTS = ("right", "all")  # the images that a protocol attacks and counts: those right when clean, or every one


@dataclasses.dataclass(frozen=True)
class Member:
    """One attack of a protocol. name: the attack's in `attacks.TABLE`, which also names its random numbers. dtype: the
    net's compute type inside the attack."""

    name: str
    attack: attacks.Attack
    dtype: str

    @property
    def title(self) -> str:
        """For the screen: "apgd_t 9 x 100"."""
        amount = getattr(self.attack, "steps", getattr(self.attack, "queries", ""))
        rounds = f"{self.attack.targets} x " if hasattr(self.attack, "targets") else ""
        return f"{self.name} {rounds}{amount}".rstrip()

    @property
    def key(self) -> str:
        """A file name: the attack's, and a hash of all its numbers."""
        return f"{self.name}-{files.sha256(repr((self.attack, self.dtype)))[:10]}"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One row of a result: its name there, and attacks in order.

    attack: of NAMES. origin: whose settings these are, e.g. "paper". epsilon_255: radius in pixel values, in `norm`.
    limit: attack only this many images, evenly spread; 0 = all. individual: each member attacks every image that is
    right when clean, not just the survivors. count: of COUNTS; "all" also attacks the wrong ones and counts what is
    right after the attack, as the authors' code does: a targeted attack puts some of them right.
    """

    name: str
    attack: str
    origin: str
    epsilon_255: float
    members: tuple[Member, ...]
    limit: int = 0
    individual: bool = False
    count: str = "right"
    norm: str = "linf"

    @property
    def ball(self) -> tuple[str, float]:
        """(norm, radius in pixel values): protocols with the same ball can be compared."""
        return self.norm, self.epsilon_255

    def begins(self, correct: np.ndarray) -> np.ndarray:
        """Of bool [N], images right when clean: those attacked first, which are robust where nothing fools them."""
        return correct | (self.count == "all")

    @property
    def is_cascade(self) -> bool:
        """Whether it is more than a single attack."""
        return len(self.members) > 1 or self.attack in TABLE


def make(name: str, options: Mapping[str, Any], attack_dtype: str = "float32") -> Protocol:
    """The Protocol of an entry of `config.evaluation.attacks`: {"name", "epsilon_255", "norm", ...}, plain values.

    The option `name` is an attack's, whose other options are its fields; or one of TABLE, which have no options but
    `individual`; or cascade, with `members`. Each may have `protocol`, `limit` and `count`. Raises ValueError.
    """
    others = dict[str, Any](limit=0, count=COUNTS[0], norm="linf", protocol="custom") | dict(options)
    fields = ("name", "epsilon_255", "norm", "limit", "count", "protocol")
    attack, epsilon_255, norm, limit, count, origin = (others.pop(field) for field in fields)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ValueError(f"limit={limit!r} must be a number of images, or 0 for all")
    if count not in COUNTS:
        raise ValueError(f"count={count!r} is unknown; choose one of {', '.join(COUNTS)}")
    individual = attack in (*TABLE, CUSTOM) and bool(others.pop("individual", False))
    members = _members(attack, others)
    if norm == "l2" and not all(member["name"] in attacks.L2 for member in members):
        raise ValueError(
            f"only {', '.join(attacks.L2)} have norm=l2; give this one an l-infinity radius of its own (epsilon_255), "
            "or name the attacks to run, e.g. --config.evaluation.only=pgd_20"
        )
    made = []
    for number, member in enumerate(members, 1):
        # The last attack of a cascade decides, so half precision must not weaken it.
        is_last = 1 < len(members) == number
        dtype = "float32" if is_last or member["name"] in QUERY_ATTACKS else attack_dtype
        made.append(Member(member["name"], attacks.create(epsilon_255=epsilon_255, norm=norm, **member), dtype))
    return Protocol(name, attack, origin, float(epsilon_255), tuple(made), limit, individual, count, norm)


def _members(attack, options):
    """[{"name", its options}] of the attacks behind a name and its other options."""
    if attack in TABLE:
        if options:
            wrong = ", ".join(options)
            raise ValueError(
                f"{attack} is a fixed protocol and takes no {wrong}; name it {CUSTOM} and list its members"
            )
        return [{"name": member, **constants} for member, constants in TABLE[attack].items()]
    if attack == CUSTOM:
        members = options.pop("members", {})
        if options or not members:
            raise ValueError(f"a cascade needs members, a list of attacks under names, and nothing else: {options}")
    elif attack in attacks.NAMES:
        members = {attack: {"name": attack, **options}}
    else:
        raise ValueError(f"unknown attack {attack!r}; choose one of {', '.join(NAMES)}")
    if not all(hasattr(one, "items") for one in (members, *getattr(members, "values", tuple)())):
        raise ValueError("each member of a cascade must have fields: name, steps and the like")
    members = [dict(member) for member in members.values()]
    if not all("name" in member for member in members):
        raise ValueError("each member of a cascade needs a name, an attack's, and its options")
    if any({"epsilon_255", "epsilon", "norm"} & set(member) for member in members):
        raise ValueError("the members of a cascade have one radius in one norm: give both to the cascade")
    return members


def make_all(config: ConfigDict) -> list[Protocol]:
    """The Protocols of a resolved config's `evaluation.attacks`: single attacks first, each kind in order of name."""
    section = config.evaluation
    made = [make(name, options, section.attack_dtype) for name, options in section.attacks.to_dict().items()]

    def order(protocol):
        words = re.split(r"(\d+)", protocol.name)
        return protocol.is_cascade, [int(word) if word.isdigit() else word for word in words]

    return sorted(made, key=order)


def check(options: Mapping[str, Any], num_classes: int) -> None:
    """Raises ValueError for options that make no Protocol, or where an attack needs more classes than there are."""
    for member in make("", options).members:
        try:
            member.attack.check_classes(num_classes)
        except ValueError as error:
            few = "--mode=evaluate --config=configs/eval/aa_few_classes.py --workdir=RUN has the protocol for 2 and 3"
            raise ValueError(
                f"{error}; {few}; or run others of its attacks, --config.evaluation.only=NAME,..."
            ) from error
