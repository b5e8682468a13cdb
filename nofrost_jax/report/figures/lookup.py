"""What figures are drawn from: values of nets, out of a collection of result files, and what their captions say."""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from nofrost_jax.report import collect, paper
from nofrost_jax.report.collect import IMAGENET, Collection, Measured, Value
from nofrost_jax.report.exhibits import METHODS, Exhibit
from nofrost_jax.report.figures import style
from nofrost_jax.report.figures.style import Look, Series

PROTOCOLS_SENTENCE = (
    "aa_fast_20 is what the paper calls AutoAttack, aa_standard is AutoAttack; only the latter measures robustness."
)

_NAMED = 3  # in a caption


@dataclasses.dataclass(frozen=True, eq=False)
class Net:
    """A net with all its seeds, in order. label: the paper's name of its method, with what sets it apart."""

    label: str
    look: Look
    seeds: tuple[Measured, ...]

    @property
    def first(self) -> Measured:
        return self.seeds[0]


@dataclasses.dataclass(frozen=True)
class Number:
    """A value over seeds. bounds: its interval for one seed, mean -+ standard deviation for several; NaN: not known."""

    net: Net
    mean: float
    bounds: tuple[float, float]
    values: tuple[Value, ...]


def nets(found: Iterable[Measured]) -> list[Net]:
    """Nets in the order of the paper's tables, those that differ in their seed alone as one."""
    groups: dict[object, list[Measured]] = defaultdict(list)
    for net in found:
        groups[net.settings, net.gamma, net.interpolation, net.p].append(net)
    made, rows = [], list(METHODS)
    for group in groups.values():
        seeds = tuple({net.seed: net for net in sorted(group, key=lambda net: net.seed)}.values())
        label, look = seeds[0].label.replace("gamma ", "γ = "), style.LOOKS.get(seeds[0].row, style.OTHER)
        if _has_clean_forward(seeds[0]):
            label, look = f"{label} (clean forward)", style.CLEAN_FORWARD
        made.append(Net(label, look, seeds))
    labels = [net.label for net in made]
    made = [
        net if labels.count(net.label) == 1 else dataclasses.replace(net, label=f"{net.label} in {net.first.folder}")
        for net in made
    ]
    return sorted(made, key=lambda net: rows.index(net.first.row) if net.first.row in rows else len(rows))


def _has_clean_forward(net):
    return net.row == "pgdat" and dict(net.settings).get("pgdat_clean_forward") == "True"


def of_exhibit(collection: Collection, source: str, exhibit: Exhibit, depth: int | None = None) -> list[Net]:
    """The nets of an exhibit on a data set that are there. depth: only those of this depth."""
    wanted = [net for net in exhibit.nets if depth in (None, net.depth)]
    found = [one for net in wanted for one in collection.of(source, net.row, net.depth, net.epsilon_255)]
    return nets(dict.fromkeys(found))


def absent(exhibit: Exhibit, found: Sequence[Net]) -> str:
    """ " Not there: FAT, TRADES." of an exhibit's methods, or ""."""
    there = {net.first.row for net in found}
    names = dict.fromkeys(METHODS[net.row] for net in exhibit.nets if net.row not in there)
    return f" Not there: {', '.join(names)}." * bool(names)


def number(net: Net, key: str) -> Number | None:
    """A net's value under a key of `collect.value`, or None where no seed has it, attacked as most nets are."""
    values = [value for value in (collect.value(seed, key) for seed in net.seeds) if value is not None]
    values = tuple(value for value in values if collect.OTHER_SETTINGS not in value.flags)
    if not values:
        return None
    mean = statistics.fmean(value.accuracy for value in values)
    if len(values) == 1:
        return Number(net, mean, values[0].ci95 or (np.nan, np.nan), values)
    spread = statistics.stdev(value.accuracy for value in values)
    return Number(net, mean, (mean - spread, mean + spread), values)


def point(net: Net, x_key: str, y_key: str) -> tuple[Series, list[Number]] | None:
    """A net's place between two accuracies, and the numbers in it; None where one of them is not there."""
    x, y = number(net, x_key), number(net, y_key)
    if x is None or y is None:
        return None
    return Series(net.label, net.look, [x.mean], [y.mean], [x.bounds], [y.bounds]), [x, y]


def joined(label: str, look: Look, points: Iterable[Series], marks: Sequence[str] = ()) -> Series:
    """Series of one point each as one."""
    points, names = list(points), ("x", "y", "x_bounds", "y_bounds")
    x, y, x_bounds, y_bounds = ([value for series in points for value in getattr(series, name)] for name in names)
    return Series(label, look, x, y, x_bounds, y_bounds, marks)


def published(net: Net, key: str) -> float:
    """The paper's accuracy for a net on ImageNet, a fraction; NaN where its Tables 1 and 2 have none."""
    first, table = net.first, {26: "table1", 50: "table2"}.get(net.first.depth or 0, "")
    usual = first.source == IMAGENET and first.epsilon_255 == 8 and first.gamma is None
    row = paper.find(table, first.row) if usual else None
    return row["values"].get(key, np.nan) / 100 if row else np.nan


def published_point(net: Net, key: str) -> list[Series]:
    """[] or [the paper's clean accuracy and that under an attack, of a net]."""
    x, y = published(net, "clean"), published(net, key)
    return [Series(net.label, net.look, [x], [y], paper=True)] if np.isfinite(x + y) else []


def facts(source: str, numbers: Sequence[Number]) -> str:
    """What a caption says of numbers: data set, images, radius, intervals, protocols, flags."""
    values = [value for one in numbers for value in one.values]
    attacks = [value.key for value in values if "." not in value.key and value.key != "clean"]
    text = f"Data: {source}, {_images(values)}"
    if attacks and not any("_eps_" in key for key in attacks):
        text += f"; epsilon {radii(numbers)}"
    text += f". {_intervals(numbers)}"
    if {"aa_fast_20", "aa_standard"} <= set(attacks):
        text += f" {PROTOCOLS_SENTENCE}"
    return text + flags(numbers)


def radii(numbers: Iterable[Number]) -> str:
    """Of the nets' training, which is that of the attacks: "8/255"."""
    found = {radius for one in numbers if (radius := one.net.first.epsilon_255) is not None}
    return ", ".join(f"{radius:g}/255" for radius in sorted(found)) or "of the training"


def _images(values):
    """ "360 images (aa_standard: 60)"."""
    counts = defaultdict(set)
    for value in values:
        counts[value.key.removeprefix("shift.")].add(value.n)
    every = set().union(*counts.values()) or {0}
    fewer = {key: found for key, found in counts.items() if found != {max(every)}}
    if len(fewer) > 3:
        return f"{_range(every)} images"
    parts = [f"{key}: {_range(found)}" for key, found in fewer.items()]
    return f"{max(every):,} images" + f" ({', '.join(parts)})" * bool(parts)


def _range(counts):
    return f"{min(counts):,}" + f" to {max(counts):,}" * (len(counts) > 1)


def _intervals(numbers):
    seeds = {one.net.label: len(one.values) for one in numbers if len(one.values) > 1}
    single = any(len(one.values) == 1 and np.isfinite(one.bounds).all() for one in numbers)
    parts = ["95 % intervals of one net's images"] * single
    if seeds:
        counts = ", ".join(f"{label}: {count}" for label, count in seeds.items())
        parts.append(f"mean and one standard deviation over seeds ({counts})")
    return f"Error bars: {'; '.join(parts)}." if parts else "No intervals are known."


def flags(numbers: Iterable[Number]) -> str:
    """ " Flags: not_converged (pgd_20 of SAT, NoFrost), partial (all)." or ""."""
    raised, every = defaultdict(lambda: defaultdict(dict)), defaultdict(dict)
    for one in numbers:
        for value in one.values:
            every[value.key][one.net.label] = one.net.first.method
            for flag in value.flags:
                raised[flag][value.key][one.net.label] = one.net.first.method
    parts = [f"{flag} ({'all' if keys == every else _where(keys)})" for flag, keys in sorted(raised.items())]
    return f" Flags: {', '.join(parts)}." * bool(parts)


def _where(keys):
    """ "pgd_20 of SAT, NoFrost; 6 attacks of FAT": what has a flag, the first few of it by name."""
    alike = defaultdict(list)
    for key, methods in keys.items():
        names = dict.fromkeys(methods.values())
        alike[", ".join(names) if len(names) <= _NAMED else f"{len(names)} methods"].append(key)
    parts = [
        f"{', '.join(found) if len(found) <= _NAMED else f'{len(found)} attacks'} of {text}"
        for text, found in alike.items()
    ]
    return "; ".join(parts[:_NAMED]) + f"; {len(parts) - _NAMED} more" * (len(parts) > _NAMED)
