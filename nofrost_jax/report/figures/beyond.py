"""Figures beyond the paper: attack strength against accuracy, the gap between the two AutoAttacks, examples."""

import dataclasses
import itertools
import os
from collections import defaultdict

import numpy as np

from nofrost_jax import files
from nofrost_jax.report import reading
from nofrost_jax.report.collect import Collection, Evaluation
from nofrost_jax.report.exhibits import METHODS, PROTOCOLS
from nofrost_jax.report.figures import bars, curves, grid, lookup, style
from nofrost_jax.report.figures.lookup import Net, Number
from nofrost_jax.report.figures.papers import NothingToDraw, Picture

CURVES = {  # (attack, step rule): name, marker, line
    ("apgd_ce", None): ("APGD-CE", "o", "-"),
    ("pgd", "madry"): ("PGD, step of Madry et al.", "s", "--"),
    ("pgd", "nofrost"): ("PGD, the authors' step", "^", ":"),
}
ENDS = {"aa_fast_20": "D", "aa_standard": "*"}
MOST_PANELS = 6  # of the nets with the most points
LONGEST = 24  # letters of a label, for the gap's axis and a panel
LARGEST = 256 << 20  # bytes of an .npz of saved images
PREFERRED = ("pgd_20", "apgd_ce_20", "aa_fast_20", "aa_standard")  # PGD also changes images that it does not fool


def strength(collection: Collection, source: str) -> Picture:
    """Accuracy over the steps of an attack, then under both AutoAttacks, a panel for each net: of one result, so that
    all its points are of the same images where the result has both AutoAttacks, too."""
    panels, numbers, found = [], [], []
    for net in _compared(collection, source):
        pairs = [(one, _by_steps(one, net)) for one in net.first.evaluations]
        evaluation, measured = max(pairs, key=lambda pair: sum(map(len, pair[1].values())))
        if max(map(len, measured.values()), default=0) > 1:
            found.append((net, evaluation, measured))
    most = sorted(found, key=lambda one: (-sum(map(len, one[2].values())), one[0].first.row != "nofrost"))[:MOST_PANELS]
    for net, evaluation, measured in (one for one in found if one in most):
        lines, ends = [], []
        for kind, at in measured.items():
            name, marker, line = CURVES[kind]
            y, bounds = ([getattr(one, field) for one in at.values()] for field in ("mean", "bounds"))
            lines.append(style.Series(name, net.look._replace(marker=marker, line=line), list(at), y, y_bounds=bounds))
            numbers += at.values()
        for key, marker in ENDS.items():
            if one := _own(evaluation, net, key) or lookup.number(net, key):
                look = net.look._replace(marker=marker)
                ends.append(style.Series(key, look, [1], [one.mean], y_bounds=[one.bounds]))
                numbers.append(one)
        panels.append(curves.Panel(net.label, lines, ends, "AA"))
    if not panels:
        raise NothingToDraw("no net was attacked with several numbers of steps")
    caption = "Accuracy over the number of steps of an attack, then under both AutoAttacks (AA). "
    caption += lookup.facts(source, numbers)
    left_out = [net.label for net, _, _ in found if net.label not in {panel.title for panel in panels}]
    caption += f" Not shown: {'; '.join(left_out)}." * bool(left_out)
    label = "Steps of the attack"
    return Picture(lambda wide: curves.draw(panels, label, 3 if wide else 2, wide, by_colour=False), caption)


def _by_steps(evaluation: Evaluation, net: Net) -> dict[tuple, dict[int, Number]]:
    """{kind of CURVES: {steps: number}} of a result at the radius of the net's training."""
    found = defaultdict(dict)
    for entry in evaluation.result["attacks"]:
        kind = (entry.get("attack"), entry.get("step_rule"))
        if kind in CURVES and entry.get("steps") and (one := _own(evaluation, net, entry["name"])):
            found[kind][entry["steps"]] = one
    return {kind: dict(sorted(found[kind].items())) for kind in CURVES if kind in found}


def _own(evaluation: Evaluation, net: Net, key: str) -> Number | None:
    """What one result has of an attack at the radius of the net's training, or None."""
    alone = dataclasses.replace(net.first, evaluations=(evaluation,))
    return lookup.number(dataclasses.replace(net, seeds=(alone,)), key)


def _compared(collection: Collection, source: str) -> list[Net]:
    """All nets of a data set, as in the table of all nets, but of mixtures those at a gamma of 1 only. Where they have
    several depths or radii, the labels say which."""
    groups = defaultdict(list)
    for net in collection.nets:
        if net.source == source and net.gamma in (None, 1.0) and net.interpolation in ("", "logits"):
            groups[net.depth, net.epsilon_255].append(net)
    depths, radii = (set(some) for some in zip(*groups, strict=True)) if groups else ((), ())
    found = []
    for (depth, radius), mine in groups.items():
        says = f", {depth or 'other'}" * (len(depths) > 1)
        says += f", {'other' if radius is None else f'{radius:g}/255'}" * (len(radii) > 1)
        found += [dataclasses.replace(net, label=_fitting(net.label, says)) for net in lookup.nets(mine)]
    order = {row: place for place, row in enumerate(METHODS)}
    return sorted(found, key=lambda net: (order.get(net.first.row, len(order)), net.first.epsilon_255 or 0))


def _fitting(name: str, says: str) -> str:
    """A label as long as its place; of a long name the middle is left out, as many differ at their ends."""
    most = max(LONGEST - len(says), 6)
    name = name if len(name) <= most else f"{name[: most // 2]}…{name[most // 2 + 1 - most :]}"
    return f"{name}{says}"


def gap(collection: Collection, source: str) -> Picture:
    """The paper's AutoAttack against the standard one, a line for each net."""
    rows, numbers = [], []
    for net in _compared(collection, source):
        fast, standard = (lookup.number(net, key) for key in PROTOCOLS)
        if fast and standard:
            ends = (fast.mean, standard.mean, fast.bounds, standard.bounds)
            rows.append(bars.Gap(net.label, net.look, *ends, lookup.published(net, "aa_fast_20")))
            numbers += [fast, standard]
    if not rows:
        raise NothingToDraw("no net was evaluated under both AutoAttacks")
    caption = "Accuracy under the paper's AutoAttack and under the standard one; right: the difference in points. "
    return Picture(lambda wide: bars.draw_gaps(rows), caption + lookup.facts(source, numbers))


def examples(collection: Collection, source: str) -> Picture:
    """Saved adversarial images of one net, NoFrost's if there are any."""
    saved = [
        (net.first.row != "nofrost", PREFERRED.index(attack), number, net, evaluation, attack)
        for number, net in enumerate(_compared(collection, source))
        for evaluation in (one for seed in net.seeds for one in seed.evaluations)
        for attack in PREFERRED
        if os.path.exists(_path(evaluation, attack)) and _entry(evaluation, attack)
    ]
    if not saved:
        raise NothingToDraw("no adversarial images are saved")
    *_, net, evaluation, attack = min(saved, key=lambda one: one[:3])
    try:
        shown = read_examples(_path(evaluation, attack))
    except ValueError as error:
        raise NothingToDraw(f"the images of {evaluation.path} cannot be read: {error}") from error
    entry = _entry(evaluation, attack)
    radius, norm = entry["epsilon_255"], entry.get("norm") or "linf"
    largest = max(255 * float(np.abs(one.adversarial - one.clean).max()) for one in shown)
    caption = (
        f"Images of {source} under {attack} at epsilon {radius:g}/255 in {norm}, for {net.label}: each with its class, "
        "what the attack changes, and what the net then sees. Fooled and robust ones take turns, so their number says "
        "nothing."
    )
    return Picture(lambda wide: grid.draw(shown, radius if norm == "linf" else largest, wide), caption)


def _path(evaluation: Evaluation, attack: str) -> str:
    return os.path.join(evaluation.folder, f"{evaluation.path.removesuffix('.json')}_images", f"{attack}.npz")


def _entry(evaluation, attack):
    return next((entry for entry in evaluation.result["attacks"] if entry["name"] == attack), None)


def read_examples(path: str) -> list[grid.Example]:
    """The images that `evaluation.pictures.save` wrote, fooled and robust ones by turns, as many as a
    figure shows. Raises ValueError."""
    try:
        reading.check_archive(path, LARGEST)
        columns = files.read_npz(path)
    except reading.BROKEN as error:
        raise ValueError(files.reason(path, error)) from error
    try:
        clean, adversarial, label, robust = (columns[name] for name in ("clean", "adversarial", "label", "robust"))
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error
    k = len(clean) if clean.ndim == 4 else 0
    shapes = clean.shape == adversarial.shape and clean.shape[3:] == (3,) and label.shape == robust.shape == (k,)
    kinds = "".join(array.dtype.kind for array in (clean, adversarial, label, robust))
    if not (k and shapes and clean.size and kinds in ("ufib", "ufub")):
        raise ValueError("it is not what save_images writes")
    fooled, stood = np.flatnonzero(~robust), np.flatnonzero(robust)
    order = [i for pair in itertools.zip_longest(fooled, stood) for i in pair if i is not None]
    order = order[: grid.SHOWN_WIDE]  # the others may fill the memory
    pairs = [(clean[i] / 255, np.clip(np.nan_to_num(adversarial[i]), 0, 1)) for i in order]
    return [grid.Example(*pair, f"class {label[i]}", "", bool(robust[i])) for i, pair in zip(order, pairs, strict=True)]
