"""Warnings that go with a result: signs of gradient masking, of weak attacks, of broken budgets. NumPy only.

DESCRIPTIONS says what each means. Those of one attack stand in its entry, those that compare attacks in the result.
"""

import dataclasses
import math

import numpy as np

DESCRIPTIONS = {
    "randomised": "INVALID: five forward passes of one batch differ: attacks and verdict saw different nets",
    "probabilities": "the net's outputs are probabilities, not logits: gradients and DLR losses vanish",
    "nan": "INVALID: logits or adversarial images that are not finite; these images count as not robust",
    "budget_violated": "INVALID: an adversarial image lies outside the ball",
    "range_violated": "INVALID: an adversarial image leaves [0, 1]",
    "zero_gradient": "the first gradient of an image was all zeros: the attack was blind there",
    "unconfirmed": "the attack claimed successes that the float32 forward pass does not find",
    "few_classes": "fewer than ten classes: a targeted attack has fewer than nine targets",
    "square_wins": "Square lowers the accuracy of its cascade by more than 0.2 points: gradients may be masked",
    "not_converged": "100 steps of APGD find more than a point beyond 20 steps: fewer steps say little",
    "weak_attack": "over a point less is found than by PGD, by PGD than by APGD-CE, or by gradients than by queries",
    "selected_on_evaluation": "the checkpoint was chosen by its accuracy on these very images (checkpoint.select)",
    "partial": "not all images of an evaluation set, or not all corruptions: not comparable with published numbers",
    "classes_missing": "some classes of an evaluation set's list have no images: not the whole set",
    "cropped": "the net sees only the centre of files of corrupted images that are larger: not comparable with others",
    "vanishes": "a corruption of images this small leaves every one as it was",
    "large_epsilon": "the largest radius of the sweep, 32/255 or more, does not bring the accuracy below 5 %",
}
NOTES = ("randomised", "probabilities")  # what forward passes of one batch tell of the net
PROBES = 5
POINT = 0.01
AUDIT_255 = 255e-6  # |x + epsilon - x| may exceed epsilon by a rounding error


def notes(logits, labels):
    """{flag of NOTES: whether it is raised} by float [PROBES, N, K], logits of the same images, and int [N]."""
    return dict(zip(NOTES, (is_randomised(logits, labels), are_probabilities(logits[0])), strict=True))


def is_randomised(logits, labels):
    """logits: float [PROBES, N, K] of the same images.

    Croce & Hein (2020b): other counts of right answers, or normalized logits that differ. NaNs count as
    differences only where they come and go.
    """
    correct = (np.argmax(logits, -1) == labels).sum(-1)
    length = np.maximum(np.linalg.norm(logits, axis=-1, keepdims=True), 1e-12)
    normalized = logits / length
    spread = np.abs(normalized - normalized[:1])
    return bool(np.ptp(correct) > 0 or np.nan_to_num(spread).max() > 1e-4 or np.ptp(np.isnan(logits).sum((1, 2))) > 0)


def are_probabilities(logits):
    """logits [N, K]: all between 0 and 1, and each image's sum to 1."""
    return bool(logits.max() < 1 + 1e-5 and logits.min() > -1e-5 and np.abs(logits.sum(-1) - 1).max() < 1e-5)


def audited_radius(norm, epsilon_255):
    """How far an adversarial image may be by the audit's measure, in pixel values: in l2 rounding grows with length."""
    return epsilon_255 * (1 + (1e-5 if norm == "l2" else 0)) + AUDIT_255


def of_protocol(protocol, outcome, num_classes):
    """Flags of one entry, from `outcome` of `engine.Evaluator.run`."""
    flags = set()
    for member, rows in zip(protocol.members, outcome["members"], strict=True):
        attacked = rows["attacked"]
        if attacked.any() and rows[f"{protocol.norm}_255"][attacked].max() > audited_radius(*protocol.ball):
            flags.add("budget_violated")
        if not rows["in_range"][attacked].all():
            flags.add("range_violated")
        flags |= {name for name in ("nan", "zero_gradient", "unconfirmed") if rows[name][attacked].any()}
        if getattr(member.attack, "targets", 0) > num_classes - 1:
            flags.add("few_classes")
        if member.name == "square" and len(protocol.members) > 1:
            before = rows["survivors"] | (attacked & ~rows["robust"])
            if before.sum() - rows["survivors"].sum() > 0.002 * outcome["selected"].sum():
                flags.add("square_wins")
    return sorted(flags)


def pairs(protocols, outcomes):
    """(protocol, member, which images it met or an earlier member settled, robust [N]) of
    each attack whose own accuracy is known: single attacks, first members, and members of individual cascades."""
    for protocol in protocols:
        outcome = outcomes["protocols"][protocol.name]
        for position, (member, rows) in enumerate(zip(protocol.members, outcome["members"], strict=True)):
            if position == 0 or protocol.individual:
                yield protocol, member, outcome["selected"], protocol.begins(outcomes["correct"]) & rows["robust"]


def convergence(protocols, outcomes):
    """The curve of APGD-CE over its steps, on the images that all runs share: {"epsilon_255", "n", "accuracy":
    {steps: share}, "converged"} for each radius with at least two lengths; converged: 100 against 20 steps, or None."""
    runs = {}
    for protocol, member, selected, robust in pairs(protocols, outcomes):
        if member.name == "apgd_ce" and member.attack.restarts == 1 and protocol.count == "right":
            old = runs.setdefault(protocol.epsilon_255, {}).get(member.attack.steps)
            if old is None or selected.sum() > old[0].sum():
                runs[protocol.epsilon_255][member.attack.steps] = (selected, robust)
    curves = []
    for epsilon_255, by_steps in sorted(runs.items()):
        if len(by_steps) < 2:
            continue
        shared = np.logical_and.reduce([selected for selected, _ in by_steps.values()])
        accuracy = {steps: float(robust[shared].mean()) for steps, (_, robust) in sorted(by_steps.items())}
        converged = bool(accuracy[20] - accuracy[100] <= POINT) if {20, 100} <= accuracy.keys() else None
        curves.append(
            {"epsilon_255": epsilon_255, "n": int(shared.sum()), "accuracy": accuracy, "converged": converged}
        )
    return curves


def weak_attacks(protocols, outcomes):
    """{label: the label of an attack that finds more}: attacks that find over a point less than one that should find
    no more than they do (`_RIVALS`), compared at one radius on the images that both met."""
    known = [(protocol, _kind(protocol), outcomes["protocols"][protocol.name]) for protocol in protocols]
    weak = {}
    for protocol, kind, outcome in known:
        for other, rival, rest in known:
            shared = outcome["selected"] & rest["selected"]
            same = (protocol.ball, protocol.count) == (other.ball, other.count)
            comparable = rival in _RIVALS.get(kind, ()) and same and shared.any()
            if comparable and outcome["robust"][shared].mean() > rest["robust"][shared].mean() + POINT:
                weak.setdefault(protocol.name, other.name)
    return weak


def _kind(protocol):
    """The attack's name; "cascade" for one of white-box attacks. (A cascade with Square in it has `square_wins`.)"""
    names = {member.name for member in protocol.members}
    return protocol.members[0].name if not protocol.is_cascade else "" if names & {*_BLACK_BOX} else "cascade"


_BLACK_BOX = ("square", "rays")
_RIVALS = {  # what finds less than a rival is weak: PGD is the least, and gradients should beat queries
    **dict.fromkeys(("fgsm", "mi_fgsm", "pgd_targeted", "cw", *_BLACK_BOX), ("pgd",)),
    "pgd": ("apgd_ce", *_BLACK_BOX),
    **dict.fromkeys(("apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "cascade"), _BLACK_BOX),
}


def of_result(protocols, outcomes, curves):
    """Flags that concern the net or several attacks: {flag}."""
    flags = {name for name in NOTES if outcomes[name]}
    if outcomes["nan"].any():
        flags.add("nan")
    if any(curve["converged"] is False for curve in curves):
        flags.add("not_converged")
    if _sweep_stays_high(protocols, outcomes):
        flags.add("large_epsilon")
    return flags


def _sweep_stays_high(protocols, outcomes):
    """Whether some attack was run at several radii up to 32/255 or more, and does not reach about zero there."""
    by_attack = {}
    for protocol, member, selected, robust in pairs(protocols, outcomes):
        share = float(robust[selected].mean()) if selected.any() else math.nan
        if protocol.norm != "linf":
            continue
        kind = dataclasses.replace(member.attack, epsilon=0.0), protocol.count
        by_attack.setdefault(kind, {})[protocol.epsilon_255] = share
    return any(len(radii) > 1 and max(radii) >= 32 and radii[max(radii)] > 0.05 for radii in by_attack.values())
