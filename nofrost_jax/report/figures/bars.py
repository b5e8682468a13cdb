"""Bars for several methods side by side (the paper's Figures 3 and 4), and the gap between the two AutoAttacks."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nofrost_jax.report.figures import style
from nofrost_jax.report.figures.style import Look, Options

NONE = (np.nan, np.nan)  # the ends of an interval that is not known


@dataclasses.dataclass(frozen=True)
class Bars:
    """The bars of one method, one in each group. values: fractions [k], NaN where there is none. bounds: [k, 2].
    paper: the paper's values [k], NaN where it has none."""

    label: str
    look: Look
    values: style.Values
    bounds: style.Bounds | None = None
    paper: style.Values = ()


@dataclasses.dataclass(frozen=True)
class Gap:
    """A net's accuracy under the paper's AutoAttack and under the standard one, fractions, with their intervals (lo,
    hi). paper: the paper's value of the first."""

    label: str
    look: Look
    fast: float
    standard: float
    fast_bounds: tuple[float, float] = NONE
    standard_bounds: tuple[float, float] = NONE
    paper: float = np.nan


def draw(groups: Sequence[str], methods: Sequence[Bars], wide: bool = False) -> Figure:
    """A group for each column, e.g. "Clean", with a bar for each method. wide: for two columns of text; its bars have
    their values written above them."""
    width = style.PAGE if wide else style.COLUMN
    figure = Figure(figsize=(width, 2.4))
    axis = figure.subplots()
    thick, tops = 0.84 / max(len(methods), 1), [0.0]
    entries: dict[str, Artist] = {}
    for number, method in enumerate(methods):
        places = np.arange(len(groups)) + (number - (len(methods) - 1) / 2) * thick
        values, reach = style.percent(method.values), style.reach(method.values, method.bounds)
        colours = {"facecolor": method.look.colour, "edgecolor": "white"}
        filled: Options = {**colours, "hatch": method.look.hatch, "linewidth": 0}
        axis.bar(places, values, thick * 0.92, **filled)
        axis.errorbar(places, values, reach, fmt="none", ecolor=style.INK, elinewidth=0.6)
        tops += [top for top in values + reach[1] if np.isfinite(top)]
        if wide:
            _write(axis, places, values, values + reach[1])
        entries[style.plain(method.label, 20)] = Patch(**filled)
        if len(method.paper):
            own = style.percent(method.paper)
            diamond: Options = {"marker": "D", "facecolor": "white", "edgecolor": style.INK, "linewidth": 0.7}
            axis.scatter(places, own, s=10 if wide else 7, clip_on=False, zorder=4, **diamond)
            tops += [top for top in own if np.isfinite(top)]
    if any(np.isfinite(method.paper).any() for method in methods if len(method.paper)):
        entries[style.PAPER] = style.handle(Look(style.INK, "D", "-"), paper=True)
    tilted: Options = {} if wide or len(groups) < 5 else {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(groups)), [style.plain(group, 18) for group in groups], **tilted)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="x", visible=False)
    axis.set_xlim(-0.5, max(len(groups), 1) - 0.5)
    limit = style.upper_limit(max(tops))
    axis.set_ylim(0, max(limit, 1.18 * max(tops)) if wide else limit)
    axis.set_ylabel("Accuracy (%)")
    style.legend(figure, entries, style.columns_for(entries, width))
    return figure


def _write(axis: Axes, places: np.ndarray, values: np.ndarray, tops: np.ndarray) -> None:
    """Each bar's value above it, and "–" where there is none."""
    above: Options = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 6.5}
    for place, value, top in zip(places, values, tops, strict=True):
        is_known = np.isfinite(value)
        text = f"{value:.1f}" if is_known else "–"
        at, rotation = ((place, top), 90) if is_known else ((place, 0), 0)
        axis.annotate(text, at, (0, 2), rotation=rotation, color=style.INK, **above)


def draw_gaps(rows: Sequence[Gap]) -> Figure:
    """A line for each net from standard AutoAttack to the weaker one of the paper, the difference at its right."""
    figure = Figure(figsize=(style.COLUMN, 0.75 + 0.2 * max(len(rows), 2)))
    axis, tops = figure.subplots(), [0.0]
    aside = axis.get_yaxis_transform()
    axis.text(1.02, 1, "gap", transform=axis.transAxes, va="bottom", color=style.FAINT)
    for place, row in enumerate(rows):
        ends = [(row.standard, row.standard_bounds, "s"), (row.fast, row.fast_bounds, "o")]
        axis.plot([100 * row.standard, 100 * row.fast], [place] * 2, color=row.look.colour, linewidth=1.6, alpha=0.6)
        for value, bounds, marker in ends:
            reach = style.reach([value], [bounds])
            thin: Options = {"fmt": "none", "ecolor": style.INK, "elinewidth": 0.5, "capsize": 1.5}
            axis.errorbar([100 * value], [place], xerr=reach, zorder=2.2, **thin)
            _point(axis, value, place, row.look._replace(marker=marker))
            tops.append(100 * value + reach[1, 0])
        if np.isfinite(row.paper):
            _point(axis, row.paper, place, Look(style.INK, "o", "-"), paper=True)
            tops.append(100 * row.paper)
        axis.text(1.02, place, f"{100 * (row.fast - row.standard):.1f}", transform=aside, va="center")
    axis.set_yticks(range(len(rows)), [style.plain(row.label, 24) for row in rows])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    limit = style.upper_limit(max(tops))
    axis.set_xlim(-0.02 * limit, limit)
    axis.set_xlabel("Accuracy (%)")
    marks = {"aa_standard": "s", "aa_fast_20": "o"}
    entries = {name: style.handle(Look(style.FAINT, marker, "-")) for name, marker in marks.items()}
    if any(np.isfinite(row.paper) for row in rows):
        entries["the paper's AA"] = style.handle(Look(style.INK, "o", "-"), paper=True)
    style.legend(figure, entries, 3)
    return figure


def _point(axis: Axes, value: float, place: float, look: Look, paper: bool = False) -> None:
    style.plot(axis, style.Series("", look, [100 * value], [place / 100], paper=paper))
