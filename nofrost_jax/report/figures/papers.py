"""The paper's Figures 1 to 7, from the nets that are there."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nofrost_jax.report import collect, paper
from nofrost_jax.report.collect import IMAGENET, Collection
from nofrost_jax.report.exhibits import EXHIBITS
from nofrost_jax.report.figures import bars, curves, histograms, lookup, scatter, style, tradeoff
from nofrost_jax.report.figures.lookup import Net, Number
from nofrost_jax.report.figures.style import Look


@dataclasses.dataclass(frozen=True)
class Picture:
    """Something to draw. draw(wide): the figure for one column of text, or for two. caption: what is special to it."""

    draw: Callable[[bool], Figure]
    caption: str


class NothingToDraw(Exception):
    """Why a figure cannot be drawn."""


PANELS = {
    "pgd_20": "PGD-20",
    "apgd_ce_20": "APGD-CE-20",
    "aa_fast_20": "aa_fast_20 (paper's AA)",
    "pgdt_20_all": "Targeted PGD-20",
    "aa_standard": "aa_standard",
}
GROUPS = {
    "clean": "Clean",
    "shift.imagenet_c": "ImageNet-C",
    "shift.imagenet_r": "ImageNet-R",
    "shift.imagenet_sketch": "Sketch",
    "pgd_20": "PGD-20",
    "square_400": "Square-400",
}
_ELSEWHERE = {key: title for key, title in GROUPS.items() if key not in ("shift.imagenet_r", "shift.imagenet_sketch")}
_ELSEWHERE |= {"shift.imagenet_c": "Corrupted"}  # the data set's own images, on the fly
PROPERTIES = {
    "margin": ("Decision margin", "M(x): probability of the class minus the greatest other", "larger"),
    "thickness": ("Boundary thickness", "T(x), in units of normalized images", "larger"),
    "smoothness": ("Smoothness", "D(x): KL divergence, in nats", "smaller"),
}
_CORE = [style.LOOKS[row] for row in ("mbnat", "nofrost")]  # what the paper's Figure 2 shows
STRATEGIES = {  # tints of MBNAT's colour, so that lightness tells them apart as well
    "logits": Look(style.LOOKS["mbnat"].colour, "s", "--"),
    "all": Look("#7A3300", "o", "-"),
    "random": Look("#F2A66B", "^", ":"),
}


def statistics(collection: Collection, source: str) -> Picture:
    """Figure 1: of each net's first seed."""
    exhibit, panels, shown = EXHIBITS["figure1"], {}, []
    found = lookup.of_exhibit(collection, source, exhibit)
    for net in found:
        for entry in _first(net, "bn_statistics") or ():
            counted = {"module order": "in module order"}.get(entry["reading"], entry["reading"])
            place = f"Norm {entry['number']} {counted}", entry["layer"]
            channels = scatter.Channels(net.label, net.look, entry["mean"], entry["var"])
            panels.setdefault(place, []).append(channels)
            shown.append(net)
    if not panels:
        if any("bn_statistics" in one.result for net in found for seed in net.seeds for one in seed.evaluations):
            raise NothingToDraw("the nets have fewer than 15 batch norms; add --set='model.stage_sizes=(2,2,2)'")
        raise NothingToDraw("no result has batch norm statistics of ST or PGDAT")
    ready = [scatter.Panel(title, layer, some) for (title, layer), some in panels.items()]
    caption = (
        f"Running mean and variance of every channel of one batch norm, after training on {source}. The paper does "
        "not say how it counts to 15, so both readings are shown. ST saw clean images, PGDAT adversarial ones."
    )
    return Picture(lambda wide: scatter.draw(ready, wide), caption + lookup.absent(exhibit, shown))


def _first(net: Net, field: str) -> Any:
    """A field of a result of the first seed that has it and is not empty."""
    return next((one.result[field] for seed in net.seeds for one in seed.evaluations if one.result.get(field)), None)


def trade_off(collection: Collection, source: str, depth: int) -> Picture:
    """Figure 2, with the other methods of the paper's tables as points."""
    mixed = lookup.nets(_mixtures(collection, source, depth, "logits"))
    rows = [*dict.fromkeys(net.row for net in EXHIBITS["table1"].nets), "pgdat", "sat_in"]
    others = [one for row in rows for one in collection.of(source, row, depth)]
    others = lookup.nets(net for net in others if net.gamma is None)
    panels, numbers = [], []
    for key, title in PANELS.items():
        frontier = _frontier("MBNAT, γ at its points", style.LOOKS["mbnat"], mixed, key, numbers)
        points = [found for found in (lookup.point(net, "clean", key) for net in others) if found]
        numbers += [one for _, pair in points for one in pair]
        singles = [series for series, _ in points] + [one for net in others for one in lookup.published_point(net, key)]
        singles += _published_mixtures(source, depth, key)
        if frontier or points:
            panels.append(tradeoff.Panel(title, frontier, singles))
    if not any(panel.frontiers for panel in panels):
        raise NothingToDraw("no MBNAT net was evaluated at several gammas (configs/eval/mbn_gamma.py)")
    caption = (
        "Accuracy on clean images against accuracy under attack; the top right is best. γ is the weight of MBNAT's "
        "adversarial batch norms. The wide figure has the other methods, too. Targeted PGD counts all images, as the "
        "paper does. "
    )
    core = [dataclasses.replace(one, nets=[net for net in one.nets if net.look in _CORE]) for one in panels]
    return Picture(lambda wide: tradeoff.draw(panels if wide else core, wide), caption + lookup.facts(source, numbers))


def _published_mixtures(source: str, depth: int, key: str) -> list[style.Series]:
    """MBNAT at the gammas of which the paper's text gives both accuracies."""
    rows = [
        row for row in paper.read()["text"] if (row["row"], row["depth"]) == ("mbnat", depth) and source == IMAGENET
    ]
    return [
        style.Series(
            f"γ = {row['gamma']:g}", style.LOOKS["mbnat"], [values["clean"] / 100], [values[key] / 100], paper=True
        )
        for row in rows
        if {"clean", key} <= (values := row["values"]).keys()
    ]


def _mixtures(collection, source, depth, interpolation):
    found = collection.of(source, "mbnat", depth)
    return sorted((net for net in found if net.interpolation == interpolation), key=lambda net: net.gamma)


def _frontier(label: str, look: Look, mixed: list[Net], key: str, numbers: list[Number]) -> list[style.Series]:
    """[] or [the nets at all their gammas]; adds what it shows to `numbers`."""
    found = [(net, lookup.point(net, "clean", key)) for net in sorted(mixed, key=lambda net: net.first.gamma or 0)]
    points = [(net, *pair) for net, pair in found if pair]
    numbers += [one for _, _, pair in points for one in pair]
    marks = [f"{net.first.gamma:g}" for net, _, _ in points]
    return [lookup.joined(label, look, (series for _, series, _ in points), marks)] if points else []


def comprehensive(collection: Collection, source: str, name: str) -> Picture:
    """Figures 3 and 4."""
    exhibit, groups = EXHIBITS[name], GROUPS if source == IMAGENET else _ELSEWHERE
    found = [net for net in lookup.of_exhibit(collection, source, exhibit) if net.first.gamma is None]
    table = {net: {key: lookup.number(net, key) for key in groups} for net in found}
    table = {net: row for net, row in table.items() if any(row[key] for key in groups if key != "clean")}
    if not table:
        raise NothingToDraw("no net has values under distribution shift or attack")
    kept = [key for key in groups if any(row[key] for row in table.values())]
    methods = []
    for net, row in table.items():
        numbers = [row[key] for key in kept]
        values = [one.mean if one else np.nan for one in numbers]
        bounds = [one.bounds if one else bars.NONE for one in numbers]
        published = [lookup.published(net, key) for key in kept]
        methods.append(bars.Bars(net.label, net.look, values, bounds, published))
    caption = "Accuracy on clean images, under distribution shift and under two attacks. "
    caption += lookup.facts(source, [one for row in table.values() for one in row.values() if one])
    left_out = [title for key, title in groups.items() if key not in kept]
    caption += f" Not measured on any: {', '.join(left_out)}." * bool(left_out) + lookup.absent(exhibit, list(table))
    return Picture(lambda wide: bars.draw([groups[key] for key in kept], methods, wide), caption)


def interpolations(collection: Collection, source: str) -> Picture:
    """Figure 5."""
    everything = [net for net in collection.of(source, "mbnat", 26) if net.gamma is not None]
    ways = dict.fromkeys((net.interpolation, net.p) for net in everything)
    panels, numbers, shown = [], [], set()
    for key, title in PANELS.items():
        frontiers, behind = [], []
        for way, p in sorted(ways, key=lambda one: (list(STRATEGIES).index(one[0]), one[1] or 0)):
            mixed = lookup.nets(net for net in everything if (net.interpolation, net.p) == (way, p))
            if len(mixed) > 1 or way == "logits":
                label = f"MBNAT ({way}" + f" {p or 0:.0%}" * (p is not None) + ")"
                found = _frontier(label, STRATEGIES[way], mixed, key, behind)
                frontiers += found
                shown |= {label} if found else set()
        if len(frontiers) > 1:
            panels.append(tradeoff.Panel(title, frontiers))
            numbers += behind
    if not panels:
        raise NothingToDraw("no MBNAT net was evaluated under two interpolations (configs/eval/mbn_gamma.py:all)")
    caption = (
        "MBNAT with its two batch norms mixed at the logits, in all norms, or in a random share of them, at weights γ "
        "of the adversarial ones. "
    )
    return Picture(lambda wide: tradeoff.draw(panels, wide), caption + lookup.facts(source, numbers))


def properties(collection: Collection, source: str) -> Picture:
    """Figure 6: of each net's first seed that has them."""
    exhibit = EXHIBITS["figure6"]
    found, panels, numbers = lookup.of_exhibit(collection, source, exhibit), [], []
    for name, (title, axis_label, better) in PROPERTIES.items():
        samples = []
        for net in found:
            one = lookup.number(net, f"properties.{name}")
            column = _arrays(one.values[0].evaluation).get(f"properties.{name}") if one else None
            if one and column is not None:
                row = (
                    paper.find("table5", net.first.row) if source == IMAGENET and net.first.gamma in (None, 1) else None
                )
                mean = row["values"][f"properties.{name}"] if row else np.nan
                samples.append(histograms.Sample(net.label, _at_gamma(net), column, mean))
                numbers.append(one)
        if samples:
            panels.append(histograms.Panel(title, axis_label, better, samples))
    if not panels:
        raise NothingToDraw("no result has the properties of single images (configs/eval/properties.py)")
    shown = list(dict.fromkeys(one.net for one in numbers))
    counts = sorted({one.values[0].n for one in numbers})
    caption = (
        f"Decision margin, boundary thickness and smoothness of each image; triangles: means. Data: {source}, "
        f"{' or '.join(map(str, counts))} images; smoothness at epsilon {lookup.radii(numbers)}. One seed of each net."
        f"{lookup.flags(numbers)}"
    )
    return Picture(lambda wide: histograms.draw(panels, wide), caption + lookup.absent(exhibit, shown))


def _arrays(evaluation: collect.Evaluation) -> dict[str, np.ndarray]:
    try:
        return evaluation.arrays()
    except ValueError as error:
        raise NothingToDraw(f"the arrays of {evaluation.path} cannot be read: {error}") from error


def _at_gamma(net):
    """MBNAT's clean branch has another line than its adversarial one."""
    return net.look if net.first.gamma != 0 else net.look._replace(line=":")


def radii(collection: Collection, source: str) -> Picture:
    """Figure 7, in both counts."""
    exhibit = EXHIBITS["figure7"]
    found, panels, numbers = lookup.of_exhibit(collection, source, exhibit), [], []
    for suffix, title in (("_all", "All images (as in the paper)"), ("", "Images that are right when clean")):
        lines = []
        for net in found:
            pattern = re.compile(rf"pgdt_20_eps_(\d+(?:\.\d+)?){suffix}")
            names = {entry["name"] for seed in net.seeds for one in seed.evaluations for entry in one.result["attacks"]}
            at = {float(hit[1]): lookup.number(net, hit[0]) for hit in map(pattern.fullmatch, names) if hit}
            at = {radius: one for radius, one in sorted(at.items()) if one}
            if at:
                y, bounds = ([getattr(one, name) for one in at.values()] for name in ("mean", "bounds"))
                lines.append(style.Series(net.label, net.look, list(at), y, y_bounds=bounds))
                numbers += at.values()
        if lines:
            panels.append(curves.Panel(title, lines))
    if not panels:
        raise NothingToDraw("no net was attacked at several radii (configs/eval/epsilon_sweep.py)")
    caption = (
        "Accuracy under targeted PGD of 20 steps at larger radii. Top or left: all images count, also those that the "
        "attack turns right, as in the paper; below or right: only images that are right when clean. "
    )
    shown = [one.net for one in numbers]
    caption += lookup.facts(source, numbers) + lookup.absent(exhibit, shown)
    label = "Radius of targeted PGD-20 (in pixel values of 255)"
    return Picture(lambda wide: curves.draw(panels, label, 2 if wide else 1, wide), caption)
