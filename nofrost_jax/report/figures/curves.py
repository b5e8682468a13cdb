"""Accuracy as an attack grows: over its radius (the paper's Figure 7), or over its steps."""

import dataclasses
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from nofrost_jax.report.figures import style
from nofrost_jax.report.figures.style import Series


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves in one axes. series: x > 0, e.g. radii in pixel values or steps. ends: single values that have no x; they
    are drawn at the right, behind a line, above the name `end`."""

    title: str
    series: Sequence[Series] = ()
    ends: Sequence[Series] = ()
    end: str = ""


def draw(panels: Sequence[Panel], x_label: str, across: int, wide: bool = False, by_colour: bool = True) -> Figure:
    """Panels with x on a log axis, sharing both axes. across: how many in a row. wide: for two columns of text.
    by_colour: whether the legend has the colours; not where each panel has one net under several attacks."""
    across = max(1, min(across, len(panels)))
    down, width = max(1, -(-len(panels) // across)), style.PAGE if wide else style.COLUMN
    figure = Figure(figsize=(width, down * 1.75 + 0.45))
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    every = [one for panel in panels for one in [*panel.series, *panel.ends]]
    tops = [top for one in every for top in style.percent(one.y) + style.reach(one.y, one.y_bounds)[1]]
    measured = sorted({float(x) for panel in panels for series in panel.series for x in series.x})
    for axis, panel in zip(grid.flat, panels, strict=False):
        _fill(axis, panel, measured)
        limit = style.upper_limit(max(tops, default=0))
        axis.set_ylim(-0.03 * limit, limit)
    for axis in grid.flat[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel(x_label)
    figure.supylabel("Accuracy under attack (%)")
    entries = {}
    for kind in ("series", "ends"):
        for series in (one for panel in panels for one in getattr(panel, kind)):
            look = series.look if by_colour else series.look._replace(colour=style.FAINT)
            entries.setdefault(style.plain(series.label, 26), style.handle(look, joined=kind == "series"))
    style.legend(figure, entries, style.columns_for(entries, width))
    return figure


def _fill(axis: Axes, panel: Panel, measured: list[float]) -> None:
    """measured: every x of the figure."""
    first, last = (measured[0], measured[-1]) if measured else (1.0, 1.0)
    step = max((last / first) ** 0.08, 1.1)  # a twelfth of the axis
    places = [last * step ** (2.2 + 1.6 * number) for number in range(len(panel.ends))]
    for series in panel.series:
        style.plot(axis, series, joined=True)
    for place, series in zip(places, panel.ends, strict=True):
        style.plot(axis, dataclasses.replace(series, x=[place]))
    axis.set_title(style.plain(panel.title, 44))
    axis.set_xscale("log", base=2)
    axis.set_xlim(first / step**0.7, (places[-1] if places else last) * step**0.7)
    ticks = {x: f"{x:g}" for x in _apart(measured, step**0.75)}
    if places:
        axis.axvline(last * step**1.1, color=style.FAINT, linewidth=0.5)
        ticks |= {(places[0] * places[-1]) ** 0.5: panel.end}
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.xaxis.set_minor_locator(NullLocator())


def _apart(ascending: list[float], ratio: float) -> list[float]:
    """Those values that have room for their numbers below the axis."""
    kept = []
    for x in ascending:
        if not kept or x / kept[-1] >= ratio:
            kept.append(x)
    return kept
