"""Warnings that go with a result: signs of gradient masking, of weak attacks, of broken budgets.

nofrost_jax/flag_texts.py says what each means. Flags of one attack are in its entry, those that compare attacks in the
result.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nofrost_jax.attacks import APGD
from nofrost_jax.evaluation.protocols import QUERY_ATTACKS, Member, Protocol

NOTES = ("randomised", "probabilities")  # what forward passes of one batch say of the net
PROBES = 5
POINT = 0.01
AUDIT_255 = 255e-6  # |x + epsilon - x| may exceed epsilon by a rounding error
_RIVALS = {  # an attack is weak if it finds less than a rival: PGD is the least, and gradients should beat queries
    **dict.fromkeys(("fgsm", "mi_fgsm", "pgd_targeted", "cw", *QUERY_ATTACKS), ("pgd",)),
    "pgd": ("apgd_ce", *QUERY_ATTACKS),
    **dict.fromkeys(("apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "cascade"), QUERY_ATTACKS),
}


def notes(logits: np.ndarray, labels: np.ndarray) -> dict[str, bool]:
    """{flag of NOTES: whether it is raised} by float [PROBES, N, K], logits of the same images, and int [N]."""
    return {"randomised": is_randomised(logits, labels), "probabilities": are_probabilities(logits[0])}


def is_randomised(logits: np.ndarray, labels: np.ndarray) -> bool:
    """logits: float [PROBES, N, K] of the same images.

    Croce & Hein (2020b): other counts of right answers, or normalized logits that differ. NaNs count as differences
    only where they come and go.
    """
    correct = (np.argmax(logits, -1) == labels).sum(-1)
    normalized = logits / np.maximum(np.linalg.norm(logits, axis=-1, keepdims=True), 1e-12)
    spread = np.abs(normalized - normalized[:1])
    return bool(np.ptp(correct) > 0 or np.nan_to_num(spread).max() > 1e-4 or np.ptp(np.isnan(logits).sum((1, 2))) > 0)


def are_probabilities(logits: np.ndarray) -> bool:
    """logits [N, K]: all between 0 and 1, and each image's sum to 1."""
    return bool(logits.max() < 1 + 1e-5 and logits.min() > -1e-5 and np.abs(logits.sum(-1) - 1).max() < 1e-5)


def audited_radius(norm: str, epsilon_255: float) -> float:
    """The most that an adversarial image may be away, in pixel values: in l2 the rounding error grows with length."""
    return epsilon_255 * (1 + (1e-5 if norm == "l2" else 0)) + AUDIT_255


def of_protocol(protocol: Protocol, outcome: dict[str, Any], num_classes: int) -> list[str]:
    """Flags of one entry, from an outcome of `engine.Evaluator.run`."""
    flags = set()
    for position, (member, rows) in enumerate(zip(protocol.members, outcome["members"], strict=True)):
        attacked = rows["attacked"]
        if attacked.any() and rows[f"{protocol.norm}_255"][attacked].max() > audited_radius(*protocol.ball):
            flags.add("budget_violated")
        if not rows["in_range"][attacked].all():
            flags.add("range_violated")
        flags |= {name for name in ("nan", "zero_gradient", "unconfirmed") if rows[name][attacked].any()}
        if getattr(member.attack, "targets", 0) > num_classes - 1:
            flags.add("few_classes")
        if member.name == "square" and position:
            fooled = outcome["members"][position - 1]["survivors"] & ~rows["survivors"]
            if fooled.sum() > 0.002 * outcome["selected"].sum():
                flags.add("square_wins")
    return sorted(flags)


def _alone(
    protocols: Iterable[Protocol], outcomes: Mapping[str, Any]
) -> Iterator[tuple[Protocol, Member, np.ndarray, np.ndarray]]:
    """(protocol, member, bool [N]: the images it is for, bool [N]: robust) of each attack whose own accuracy is known:
    single attacks, first members, and members of individual cascades."""
    for protocol in protocols:
        outcome = outcomes["protocols"][protocol.name]
        for position, (member, rows) in enumerate(zip(protocol.members, outcome["members"], strict=True)):
            if position == 0 or protocol.individual:
                yield protocol, member, outcome["selected"], protocol.begins(outcomes["correct"]) & rows["robust"]


def convergence(protocols: Iterable[Protocol], outcomes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The curve of APGD-CE over its steps, on the images that all runs share: {"epsilon_255", "n", "accuracy":
    {steps: share}, "converged"} for each radius with at least two lengths; converged: 100 against 20 steps, or None."""
    runs = {}
    for protocol, member, selected, robust in _alone(protocols, outcomes):
        attack = member.attack
        if not isinstance(attack, APGD) or attack.loss != "ce":
            continue
        if attack.restarts == 1 and protocol.count == "right":
            by_steps = runs.setdefault(protocol.epsilon_255, {})
            old, _ = by_steps.get(attack.steps, (np.zeros(1), None))
            if selected.sum() > old.sum():
                by_steps[attack.steps] = (selected, robust)
    curves = []
    for epsilon_255, by_steps in sorted(runs.items()):
        if len(by_steps) < 2:
            continue
        shared = np.all([selected for selected, _ in by_steps.values()], axis=0)
        accuracy = {steps: float(robust[shared].mean()) for steps, (_, robust) in sorted(by_steps.items())}
        converged = bool(accuracy[20] - accuracy[100] <= POINT) if {20, 100} <= accuracy.keys() else None
        curve = {"epsilon_255": epsilon_255, "n": int(shared.sum()), "accuracy": accuracy, "converged": converged}
        curves.append(curve)
    return curves


def weak_attacks(protocols: Iterable[Protocol], outcomes: Mapping[str, Any]) -> dict[str, str]:
    """{name: of one that finds more}: attacks that find over a point less than one that should find no more than they
    do (`_RIVALS`), compared at one radius on the images that both are for."""
    weak = {}
    for protocol, other in itertools.product(protocols, repeat=2):
        own, rest = outcomes["protocols"][protocol.name], outcomes["protocols"][other.name]
        shared = own["selected"] & rest["selected"]
        same = (protocol.ball, protocol.count) == (other.ball, other.count)
        comparable = _kind(other) in _RIVALS.get(_kind(protocol), ()) and same and shared.any()
        if comparable and own["robust"][shared].mean() > rest["robust"][shared].mean() + POINT:
            weak.setdefault(protocol.name, other.name)
    return weak


def _kind(protocol: Protocol) -> str:
    """The attack's name; "cascade" for one of white-box attacks. (A cascade with Square in it has `square_wins`.)"""
    if not protocol.is_cascade:
        return protocol.members[0].name
    return "" if any(member.name in QUERY_ATTACKS for member in protocol.members) else "cascade"


def of_result(protocols: Iterable[Protocol], outcomes: Mapping[str, Any], curves: list[dict]) -> set[str]:
    """Flags that concern the net or several attacks."""
    raised = {
        **{name: outcomes[name] for name in NOTES},
        "nan": outcomes["nan"].any(),
        "not_converged": any(curve["converged"] is False for curve in curves),
        "large_epsilon": _sweep_stays_high(protocols, outcomes),
    }
    return {name for name, is_raised in raised.items() if is_raised}


def _sweep_stays_high(protocols: Iterable[Protocol], outcomes: Mapping[str, Any]) -> bool:
    """Whether some attack was run at several radii up to 32/255 or more, and does not reach about zero there."""
    by_attack = {}
    for protocol, member, selected, robust in _alone(protocols, outcomes):
        if protocol.norm == "linf" and selected.any():
            kind = dataclasses.replace(member.attack, epsilon=0.0), protocol.count
            by_attack.setdefault(kind, {})[protocol.epsilon_255] = float(robust[selected].mean())
    return any(len(radii) > 1 and max(radii) >= 32 and radii[max(radii)] > 0.05 for radii in by_attack.values())
