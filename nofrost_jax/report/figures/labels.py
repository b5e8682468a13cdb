"""Texts beside points, placed so that they cover neither each other nor what is drawn."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.text import Annotation

_SIDES = [np.array(side) for side in ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))]
_DISTANCES = (5.0, 8.0, 14.0, 22.0, 32.0)  # points, from the place to the text
_LED = 14.0  # points: from here on, a thin line leads to the text
_MARKER = 2.5  # points: half of a marker's side


class Label(NamedTuple):
    """A text at a place in an axes' data. optional: it may be left out where there is no room."""

    x: float
    y: float
    text: str
    colour: str
    optional: bool = False


def place(
    axis: Axes, wanted: Sequence[Label], lines: Sequence[np.ndarray], bars: Sequence[np.ndarray] = (), size: float = 7
) -> list[Annotation]:
    """Writes the labels into an axes whose size and limits are final; returns them. The first has the first choice.

    lines: [k, 2] in data coordinates, the points that are drawn, in the order in which they are joined; bars: [k, 2],
    lines without points, e.g. of intervals. A label takes the nearest of 40 places inside of the axes with the least
    below it, and nearer to its own point than to any other. size: of the letters, in points.
    """
    unit, frame = axis.figure.dpi / 72, axis.get_window_extent()
    points = [axis.transData.transform(np.asarray(line, float).reshape(-1, 2)) for line in lines]
    marks = np.concatenate([np.zeros((0, 2)), *points])
    reaches = [axis.transData.transform(np.asarray(bar, float).reshape(-1, 2)) for bar in bars]
    between, beside = (np.concatenate([np.zeros((0, 2)), *map(_along, some)]) for some in (points, reaches))
    taken, written = [], []
    for label in wanted:
        anchor, half = axis.transData.transform((label.x, label.y)), _half_size(axis, label.text, size)
        best = np.inf, anchor, anchor, anchor, 0.0
        for distance in _DISTANCES:
            for rank, side in enumerate(_SIDES):
                shift = side * (half + distance * unit * (0.7 if side.all() else 1))
                low, high = anchor + shift - half, anchor + shift + half
                outside = (low < frame.p0).any() or (high > frame.p1).any()
                covered = sum((low - unit < there[1]).all() and (high + unit > there[0]).all() for there in taken)
                touched = _count(marks, low - _MARKER * unit, high + _MARKER * unit)
                crossed = 3 * min(_count(between, low, high), 8) + 0.5 * min(_count(beside, low, high), 8)
                nearest = np.linalg.norm(marks - np.clip(marks, low, high), axis=1).min(initial=np.inf)
                strange = nearest < 0.9 * np.linalg.norm(anchor - np.clip(anchor, low, high))
                cost = 1000 * outside + 500 * covered + 40 * touched + 25 * strange + crossed + distance + rank / 10
                if cost < best[0]:
                    best = cost, shift, low, high, distance
        cost, shift, low, high, distance = best
        if label.optional and cost >= _LED:
            continue
        lead = {"arrowstyle": "-", "linewidth": 0.4, "color": label.colour, "shrinkA": 0, "shrinkB": 2}
        text = axis.annotate(
            label.text,
            (label.x, label.y),
            xytext=tuple(shift / unit),
            textcoords="offset points",
            arrowprops=lead if distance >= _LED else None,
        )
        text.set_path_effects([patheffects.withStroke(linewidth=1.2, foreground="white", alpha=0.8)])
        text.set(color=label.colour, fontsize=size, ha="center", va="center", in_layout=False, zorder=5)
        taken.append((low, high))
        written.append(text)
    return written


def _half_size(axis, text, size):
    """Half of the width and height of a text, in pixels."""
    trial = axis.text(0, 0, text, fontsize=size)
    box = trial.get_window_extent()
    trial.remove()
    return np.array([box.width, box.height]) / 2


def _along(points):
    """Places every few pixels on the lines that join points."""
    steps = np.linspace(0, 1, 24)[:, None, None]
    return ((1 - steps) * points[:-1] + steps * points[1:]).reshape(-1, 2)


def _count(points, low, high):
    return int(((points > low) & (points < high)).all(1).sum())
