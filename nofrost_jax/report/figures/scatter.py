"""Batch norm's running statistics, a point for each channel: the paper's Figure 1."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from nofrost_jax.report.figures import style
from nofrost_jax.report.figures.style import Look


@dataclasses.dataclass(frozen=True)
class Channels:
    """The channels of one net's layer. mean, var: [C]."""

    label: str
    look: Look
    mean: Sequence[float]
    var: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Panel:
    """A layer of some nets. title: how it was counted; layer: its name."""

    title: str
    layer: str
    nets: Sequence[Channels]


def draw(panels: Sequence[Panel], wide: bool = False) -> Figure:
    """Running mean against running variance of each channel. Variances are on a log axis where they differ much."""
    across, down = (max(len(panels), 1), 1) if wide else (1, max(len(panels), 1))
    width = style.PAGE if wide else style.COLUMN
    figure = Figure(figsize=(width, down * (2.5 if wide else 2.1) + 0.35))
    grid = figure.subplots(down, across, squeeze=False)
    entries = {}
    for axis, panel in zip(grid.flat, panels, strict=False):
        variances = np.concatenate([np.zeros(0), *(np.asarray(net.var, float) for net in panel.nets)])
        if len(variances) and variances.min() > 0 and variances.max() > 30 * variances.min():
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        for net in panel.nets:
            spot = {"marker": net.look.marker, "s": 9, "alpha": 0.7, "linewidths": 0.2, "edgecolors": "white"}
            axis.scatter(net.mean, net.var, color=net.look.colour, **spot)
            entries.setdefault(style.plain(net.label), style.handle(net.look))
        axis.set_title(f"{style.plain(panel.title, 48)}\n{style.plain(panel.layer, 48)}")
        axis.set_ylabel("Running variance")
        axis.set_xlabel("Running mean")
        axis.locator_params(axis="x", nbins=6)
    style.legend(figure, entries, style.columns_for(entries, width))
    return figure
