"""Clean accuracy against accuracy under attack: the paper's Figures 2 and 5."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nofrost_jax.report.figures import labels, style
from nofrost_jax.report.figures.style import Series


@dataclasses.dataclass(frozen=True)
class Panel:
    """One attack. x and y of the series are fractions. frontiers: MBNAT's nets, joined in the order of gamma, with
    their gammas as marks. nets: single points, each with its label beside it."""

    title: str
    frontiers: Sequence[Series] = ()
    nets: Sequence[Series] = ()

    @property
    def every(self) -> list[Series]:
        return [*self.frontiers, *self.nets]


def draw(panels: Sequence[Panel], wide: bool = False) -> Figure:
    """A panel for each attack; x: clean accuracy, y: accuracy under the attack, so the top right is best. wide: for
    two columns of text."""
    width, entries = style.PAGE if wide else style.COLUMN, _entries(panels)
    across = min(3 if wide else 2, max(len(panels), 1))
    down = max(1, math.ceil(len(panels) / across))
    is_full = len(panels) == down * across  # then the legend is above them
    height = down * width / across * (0.84 if wide else 0.95)
    figure = Figure(figsize=(width, height + (0.5 if is_full else 0.15)))
    grid = figure.subplots(down, across, squeeze=False)
    for axis, panel in zip(grid.flat, panels, strict=False):
        _fill(axis, panel)
    for axis in grid.flat[len(panels) :]:
        axis.set_axis_off()
    if is_full:
        style.legend(figure, entries, style.columns_for(entries, width))
    else:
        style.legend(grid.flat[len(panels)], entries, where="center left")
    figure.supxlabel("Clean accuracy (%)")
    figure.supylabel("Accuracy under attack (%)")
    figure.draw_without_rendering()  # now the panels have their sizes, and texts can be placed
    figure.set_layout_engine("none")
    for axis, panel in zip(grid.flat, panels, strict=False):
        _write(axis, panel)
    return figure


def _fill(axis: Axes, panel: Panel) -> None:
    for series in panel.every:
        across = None if series.x_bounds is None else 100 * np.asarray(series.x_bounds, float)
        in_percent = dataclasses.replace(series, x=style.percent(series.x), x_bounds=across)
        style.plot(axis, in_percent, joined=any(series is one for one in panel.frontiers))
    axis.set_title(style.plain(panel.title, 40))
    drawn = [*map(_points, panel.every), *(bar for series in panel.every for bar in _bars(series))]
    if sum(map(len, drawn)):
        low, high = np.concatenate(drawn).min(0), np.concatenate(drawn).max(0)
        room = np.maximum(0.08 * (high - low), 0.5)
        axis.locator_params(axis="x", nbins=5)
        axis.set_xlim(low[0] - room[0], min(high[0] + room[0], 102))
        limit = style.upper_limit(high[1])
        from_zero = low[1] < high[1] / 2
        axis.set_ylim(
            -0.06 * limit if from_zero else low[1] - room[1], 1.04 * limit if from_zero else high[1] + room[1]
        )


def _write(axis: Axes, panel: Panel) -> None:
    """The names of nets, then gammas of the first frontier: both ends, and the others where there is room."""
    named = {series.label for series in panel.nets if not series.paper}
    wanted = []
    for series in panel.nets:
        if len(series.x) and not (series.paper and series.label in named):
            colour = series.look.colour if series.paper else style.INK
            x, y = _points(series)[0]
            wanted.append(labels.Label(x, y, style.plain(series.label, 20), colour))
    for series in panel.frontiers[:1]:
        every = range(len(series.marks))
        for i in dict.fromkeys([*every[:1], *every[-1:], *every]):
            (x, y), mark = _points(series)[i], style.plain(series.marks[i], 8)
            wanted.append(labels.Label(x, y, mark, series.look.colour, optional=i not in (every[0], every[-1])))
    drawn = [_points(series) for series in panel.frontiers]
    drawn += [point[None] for series in panel.nets for point in _points(series)]
    labels.place(axis, wanted, drawn, [bar for series in panel.every for bar in _bars(series)])


def _points(series: Series) -> np.ndarray:
    """[k, 2] in %."""
    return np.column_stack([style.percent(series.x), style.percent(series.y)])


def _bars(series: Series) -> Iterator[np.ndarray]:
    """The intervals of a series as lines [2, 2] in %, where they are known."""
    if series.paper:
        return
    for bounds, vertical in ((series.x_bounds, 0), (series.y_bounds, 1)):
        for point, ends in zip(_points(series), () if bounds is None else bounds, strict=False):
            if np.isfinite(ends).all():
                bar = np.array([point, point])
                bar[:, vertical] = 100 * np.asarray(ends)
                yield bar


def _entries(panels: Sequence[Panel]) -> dict[str, Artist]:
    """{label: handle}: frontiers, and hollow markers if there are any. Nets have their names beside them."""
    entries: dict[str, Artist] = {}
    for series in (one for panel in panels for one in panel.frontiers if not one.paper):
        entries.setdefault(style.plain(series.label, 24), style.handle(series.look, joined=True))
    if any(series.paper for panel in panels for series in panel.every):
        entries["hollow: the paper"] = style.handle(style.OTHER._replace(marker="o"), paper=True)
    return entries
