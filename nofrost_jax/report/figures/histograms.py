"""How a property is spread over images: the paper's Figure 6."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nofrost_jax.report.figures import style
from nofrost_jax.report.figures.style import Look

BINS = 30


@dataclasses.dataclass(frozen=True)
class Sample:
    """A property of each image under one net. values: [N]; those that are not finite are left out. paper: the paper's
    mean, NaN where it has none."""

    label: str
    look: Look
    values: style.Values
    paper: float = np.nan


@dataclasses.dataclass(frozen=True)
class Panel:
    """A property. better: "larger" or "smaller"."""

    title: str
    axis_label: str
    better: str
    samples: Sequence[Sample]


def draw(panels: Sequence[Panel], wide: bool = False) -> Figure:
    """A panel for each property, an outline for each net, its mean as a triangle on the axis. Heights: share of the
    images in a bin, and bins are the same for all nets of a panel."""
    across, down = (max(len(panels), 1), 1) if wide else (1, max(len(panels), 1))
    width = style.PAGE if wide else style.COLUMN
    figure = Figure(figsize=(width, down * (1.75 if wide else 1.35) + 0.4))
    grid = figure.subplots(down, across, squeeze=False)
    entries = {}
    for axis, panel in zip(grid.flat, panels, strict=False):
        finite = [_finite(sample.values) for sample in panel.samples]
        every = np.concatenate([np.zeros(0), *finite])
        edges = np.histogram_bin_edges(every, BINS) if len(every) else np.linspace(0, 1, BINS + 1)
        for sample, values in zip(panel.samples, finite, strict=True):
            if len(values):
                shares = 100 * np.histogram(values, edges)[0] / len(values)
                colour = sample.look.colour
                axis.stairs(shares, edges, fill=True, color=colour, alpha=0.12, linewidth=0)
                axis.stairs(shares, edges, color=colour, linestyle=sample.look.line, linewidth=1)
                _mark(axis, values.mean(), colour, colour)
                _mark(axis, sample.paper, "white", colour)
                look = sample.look._replace(marker="")
                entries.setdefault(style.plain(sample.label), style.handle(look, joined=True))
        axis.set_title(style.plain(f"{panel.title} ({panel.better} is better)", 60))
        axis.set_xlabel(style.plain(panel.axis_label, 60))
        axis.set_ylim(bottom=0)
        axis.tick_params(axis="x", pad=5)  # the triangles are above the numbers
    figure.supylabel("Share of images (%)")
    if entries:
        entries["mean"] = style.handle(Look(style.FAINT, 6, "-"))
    if any(np.isfinite(sample.paper) for panel in panels for sample in panel.samples):
        entries["the paper's mean"] = style.handle(Look(style.FAINT, 6, "-"), paper=True)
    style.legend(figure, entries, style.columns_for(entries, width))
    return figure


def _mark(axis: Axes, place: float, face: str, edge: str) -> None:
    """A triangle below the axis."""
    if np.isfinite(place):
        rim = style.INK if face == edge else edge
        look: style.Options = {"markerfacecolor": face, "markeredgecolor": rim, "markeredgewidth": 0.5}
        axis.plot([place], [0], linestyle="none", marker=6, zorder=4, clip_on=False, **look)


def _finite(values):
    array = np.asarray(values, float)
    return array[np.isfinite(array)]
