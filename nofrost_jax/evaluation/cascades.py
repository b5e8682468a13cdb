"""What an evaluation runs: single attacks, and cascades of attacks of which each runs on the survivors of those before.

`aa_fast_20` is the paper's "AA": two attacks of 20 steps. `aa_standard` is the field's AutoAttack (Croce & Hein,
2020b), with the constants of RobustBench. They are different protocols, and neither is ever called just "AA".
`aa_few_classes` is what of the second can be run on 2 and 3 classes, where its targeted DLR loss is not defined.
"""

import dataclasses
import re

from nofrost_jax import attacks, files

_TWENTY = {"steps": 20, "restarts": 1}
_HUNDRED = {"steps": 100, "restarts": 1}
_TARGETED = {**_HUNDRED, "targets": 9}
_SQUARE = {"queries": 5000, "rescale": False, "strict_budget": False}  # the starting point is a query on top
TABLE = {
    "aa_fast_20": {"apgd_ce": {"name": "apgd_ce", **_TWENTY}, "apgd_dlr": {"name": "apgd_dlr", **_TWENTY}},
    "aa_standard": {
        "apgd_ce": {"name": "apgd_ce", **_HUNDRED},
        "apgd_t": {"name": "apgd_t", **_TARGETED},
        "fab_t": {"name": "fab_t", **_TARGETED},
        "square": {"name": "square", **_SQUARE},
    },
    "aa_few_classes": {
        "apgd_ce": {"name": "apgd_ce", **_HUNDRED},
        "fab_t": {"name": "fab_t", **_TARGETED},
        "square": {"name": "square", **_SQUARE},
    },
}
CUSTOM = "cascade"  # a cascade of one's own: its `members` are in the config
QUERY_ATTACKS = ("square", "rays")  # no gradients: their verdicts are the attack, so that they run in float32 always
NAMES = (*attacks.NAMES, *TABLE, CUSTOM)
COUNTS = ("right", "all")  # the images that a plan attacks and counts: those right when clean, or every one


@dataclasses.dataclass(frozen=True)
class Member:
    """One attack of a plan. name: the attack's in `attacks.TABLE`, which also names its random numbers."""

    name: str
    attack: attacks.Attack
    dtype: str  # the net's compute type inside the attack

    @property
    def title(self):
        """For the screen: "apgd_t 9 x 100"."""
        amount = getattr(self.attack, "steps", getattr(self.attack, "queries", ""))
        rounds = f"{self.attack.targets} x " if hasattr(self.attack, "targets") else ""
        return f"{self.name} {rounds}{amount}".rstrip()

    @property
    def key(self):
        """A file name: the attack's, and a hash of all its numbers."""
        return f"{self.name}-{files.sha256(repr((self.attack, self.dtype)))[:10]}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """One row of a result: a label, and the attacks behind it. epsilon_255: radius in pixel values, in `norm`.

    limit: attack that many images only, evenly spread over those evaluated; 0 = all. individual: each member attacks
    every image that is right when clean, not just the survivors. count: of COUNTS; "all" attacks the others as well and
    counts what is right after the attack, as the authors' code does: a targeted attack puts some of them right.
    """

    label: str
    name: str
    protocol: str
    epsilon_255: float
    members: tuple
    limit: int = 0
    individual: bool = False
    count: str = "right"
    norm: str = "linf"

    @property
    def ball(self):
        """(norm, radius in pixel values): plans of one ball can be compared."""
        return self.norm, self.epsilon_255

    def begins(self, correct):
        """Of bool [N], images right when clean: those that are attacked first, and robust where nothing fools them."""
        return correct | (self.count == "all")

    @property
    def is_cascade(self):
        return len(self.members) > 1 or self.name in TABLE


def make_plan(label, options, attack_dtype="float32"):
    """The Plan of an entry of `config.evaluation.attacks`: {"name", "epsilon_255", "norm", ...}, plain values.

    `name` is an attack's, whose other options are its fields; or one of TABLE, which have no options but `individual`;
    or cascade, with `members`. `protocol`, `limit` and `count` go with each. Raises ValueError for what is wrong.
    """
    options = dict(options)
    limit = options.pop("limit", 0)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ValueError(f"limit={limit!r} must be a number of images, or 0 for all")
    count = options.pop("count", COUNTS[0])
    if count not in COUNTS:
        raise ValueError(f"count={count!r} is unknown; choose one of {', '.join(COUNTS)}")
    norm = options.pop("norm", "linf")
    name, epsilon_255 = options.pop("name"), options.pop("epsilon_255")
    protocol = options.pop("protocol", "custom")
    individual = bool(options.pop("individual", False)) if name in (*TABLE, CUSTOM) else False
    if name in TABLE:
        members = TABLE[name]
        if options:
            raise ValueError(
                f"{name} is a fixed protocol and takes no {', '.join(options)}; name it {CUSTOM} and list its members"
            )
    elif name == CUSTOM:
        members = options.pop("members", {})
        if options or not members:
            raise ValueError(f"a cascade needs members, a list of attacks under names, and nothing else: {options}")
    elif name in attacks.NAMES:
        members = {name: {"name": name, **options}}
    else:
        raise ValueError(f"unknown attack {name!r}; choose one of {', '.join(NAMES)}")
    if not _is_mapping(members) or not all(map(_is_mapping, members.values())):
        raise ValueError("each member of a cascade must have fields: name, steps and the like")
    if not all("name" in member for member in members.values()):
        raise ValueError("each member of a cascade needs a name, an attack's, beside its options")
    if any({"epsilon_255", "epsilon", "norm"} & set(member) for member in members.values()):
        raise ValueError("the members of a cascade have one radius in one norm: give both to the cascade")
    if norm == "l2" and not all(member["name"] in attacks.L2 for member in members.values()):
        raise ValueError(
            f"only {', '.join(attacks.L2)} have norm=l2; give this one an l-infinity radius of its own (epsilon_255), "
            "or name the attacks to run, e.g. --config.evaluation.only=pgd_20"
        )
    members = [{"epsilon_255": epsilon_255, "norm": norm, **member} for member in members.values()]
    made = tuple(
        Member(
            member["name"],
            attacks.create(**member),
            # The last of a cascade has the final word, so that half precision must not blunt it.
            "float32"
            if member["name"] in QUERY_ATTACKS or (len(members) > 1 and position == len(members) - 1)
            else attack_dtype,
        )
        for position, member in enumerate(members)
    )
    return Plan(label, name, protocol, float(epsilon_255), made, limit, individual, count, norm)


def _is_mapping(value):
    return hasattr(value, "items")


def make_plans(config):
    """The Plans of a resolved config's `evaluation.attacks`: single attacks first, each kind in order of its label."""
    section = config.evaluation
    plans = [make_plan(label, options, section.attack_dtype) for label, options in section.attacks.to_dict().items()]

    def order(plan):
        words = re.split(r"(\d+)", plan.label)
        return plan.is_cascade, [int(word) if word.isdigit() else word for word in words]

    return sorted(plans, key=order)


def check(options, num_classes):
    """Raises ValueError for options that make no Plan, or where an attack needs more classes than there are."""
    for member in make_plan("", options).members:
        try:
            member.attack.check_classes(num_classes)
        except ValueError as error:
            few = "--mode=evaluate --config=configs/eval/aa_few_classes.py --workdir=RUN has the protocol for 2 and 3"
            raise ValueError(
                f"{error}; {few}; or run others of its attacks, --config.evaluation.only=LABEL,..."
            ) from error
