"""How all figures look: the style file, a look for each method, and files that are the same bytes each time."""

import contextlib
import dataclasses
import functools
import io
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nofrost_jax import files

STYLE = pathlib.Path(__file__).parents[1] / "style.mplstyle"
COLUMN, PAGE = 3.25, 6.75  # inches: one column, and both with the space between them
INK, FAINT = "#222222", "#8a8a8a"
PAPER = "the paper's value"
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"  # the palette of Okabe and Ito (2008)
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

Values = Sequence[float] | np.ndarray  # [k]
Bounds = Sequence[Sequence[float]] | np.ndarray  # [k, 2]
Options = Mapping[str, Any]  # of matplotlib's functions


class Look(NamedTuple):
    """What tells a method from the others, also without colours. hatch: of its bars."""

    colour: str
    marker: str | int
    line: str | tuple[float, Sequence[float]]
    hatch: str = ""


LOOKS = {  # of the rows of configs/methods.py; rows of one colour are not in one of the paper's figures
    "nofrost": Look(BLUE, "o", "-"),
    "mbnat": Look(VERMILLION, "s", "--"),
    "sat": Look(ORANGE, "^", "-.", "////"),
    "st": Look(BLACK, "X", ":"),
    "trades": Look(GREEN, "D", (0, (5, 1.5))),
    "fat": Look(SKY, "v", (0, (3, 1, 1, 1))),
    "trades_fat": Look(PURPLE, "P", (0, (1.5, 1))),
    "pgdat": Look(VERMILLION, ">", ":"),
    "sat_in": Look(ORANGE, "<", ":"),
    "st_nf": Look(BLACK, "d", "-."),
    "fastat": Look(SKY, "h", "--"),
    "freeat": Look(GREEN, "H", "-."),
    "deepaugment": Look(GREEN, "d", "--", "...."),
    "tda": Look(PURPLE, "p", "-.", "\\\\\\\\"),
    "combine": Look(VERMILLION, "8", "-.", "xxxx"),
    "nofrost_star": Look(BLUE, "*", "-"),
}
CLEAN_FORWARD = Look(SKY, "o", "--")  # PGDAT as the authors' code trains it, beside PGDAT in Figure 1
OTHER = Look(FAINT, ".", "-", "----")  # a net of no row


@dataclasses.dataclass(frozen=True)
class Series:
    """Points of one net. x, y: [k]; accuracies are fractions. x_bounds, y_bounds: [k, 2], the ends of their intervals,
    NaN where there is none. marks: a text for each point, "" for none. paper: these are the paper's values."""

    label: str
    look: Look
    x: Values
    y: Values
    x_bounds: Bounds | None = None
    y_bounds: Bounds | None = None
    marks: Sequence[str] = ()
    paper: bool = False


@contextlib.contextmanager
def applied():
    """Where figures are made and saved: matplotlib's defaults and the style file, whatever the user has set."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def save(figure: Figure, base: str | os.PathLike, title: str) -> list[str]:
    """Writes BASE.svg and BASE.png, each whole or not at all; returns their paths. Only within `applied`."""
    paths = []
    about = {"svg": {"Title": plain(title, 200), "Date": None, "Creator": "nofrost_jax"}, "png": {"Software": None}}
    for kind, metadata in about.items():
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata)
        paths.append(f"{os.fspath(base)}.{kind}")
        files.write(paths[-1], content.getvalue(), sync=False)
    return paths


def plain(text: object, limit: int = 32) -> str:
    """`text` on one line, in characters that the font has; a longer one ends with an ellipsis."""
    line = " ".join("".join(letter if ord(letter) in _glyphs() else "\ufffd" for letter in _spaced(text)).split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return f" {line}" if line.startswith("_") else line  # matplotlib's legends leave out labels that begin with _


def _spaced(text):
    return "".join(" " if letter.isspace() else letter for letter in str(text))


@functools.cache
def _glyphs():
    return frozenset(ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())


def percent(values: Iterable[float]) -> np.ndarray:
    """Fractions in %."""
    return 100 * np.asarray(list(values), float)


def reach(values: Values, bounds: Bounds | None) -> np.ndarray:
    """[2, k]: how far intervals, fractions [k, 2], reach below and above fractions [k], in %; 0 where none is known."""
    if bounds is None:
        return np.zeros((2, len(values)))
    return _arms(percent(values), 100 * np.asarray(bounds, float).reshape(len(values), 2))


def _arms(values, bounds):
    """Rounding may put a bound on the wrong side of its value."""
    return np.nan_to_num(np.maximum([values - bounds[:, 0], bounds[:, 1] - values], 0))


def plot(axis: Axes, series: Series, joined: bool = False) -> None:
    """Draws a series: x and x_bounds as they are, accuracies in %. joined: its points, by a line."""
    x, y = np.asarray(series.x, float), percent(series.y)
    if not series.paper:
        across = None if series.x_bounds is None else _arms(x, series.x_bounds)
        up = None if series.y_bounds is None else _arms(y, 100 * np.asarray(series.y_bounds, float))
        bars: Options = {"elinewidth": 0.6, "alpha": 0.35 if across is not None and joined else 0.7, "zorder": 2}
        axis.errorbar(x, y, up, across, fmt="none", ecolor=series.look.colour, **bars)
    axis.plot(x, y, zorder=3.5 if series.paper else 3, **_appearance(series.look, joined, series.paper))


def handle(look: Look, joined: bool = False, paper: bool = False) -> Line2D:
    """An entry of a legend that looks like a series."""
    return Line2D([], [], **_appearance(look, joined, paper))


def _appearance(look, joined, paper):
    """Markers are full with a thin dark edge; the paper's values are wider rings, which leave ours visible."""
    size = matplotlib.rcParams["lines.markersize"] * (1.4 if look.marker == "*" else 1)
    return {
        "color": look.colour,
        "linestyle": look.line if joined else "none",
        "marker": look.marker,
        "markersize": size * (1.5 if paper else 1),
        "markerfacecolor": "none" if paper else look.colour,
        "markeredgecolor": look.colour if paper else INK,
        "markeredgewidth": 0.7 if paper else 0.3,
    }


def legend(
    place: Axes | Figure,
    entries: Mapping[str, Artist],
    columns: int = 1,
    where: Literal["center left", "outside upper center"] = "outside upper center",
) -> None:
    """A legend of {label: handle}, in an axes, or outside of a figure's axes."""
    if entries:
        place.legend(list(entries.values()), list(entries), ncols=columns, loc=where)


def columns_for(labels: Iterable[str], width: float) -> int:
    """The most columns with which a legend of these labels fits into `width` inches."""
    lengths = list(map(len, labels))
    for columns in range(len(lengths), 1, -1):
        widest = [max(column) for column in np.array_split(lengths, columns)]  # as matplotlib fills them
        if sum(4.1 * longest + 30 for longest in widest) <= 72 * width:
            return columns
    return 1


def upper_limit(highest: float) -> float:
    """The end of an axis in % that begins at 0: a round number with some space above `highest`."""
    if not highest > 0:
        return 10.0 if highest == 0 else 100.0
    wanted = min(highest * 1.06, 100.0)
    unit = 10 ** math.floor(math.log10(wanted))
    return min(
        100.0, next(unit * step for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10) if unit * step >= wanted)
    )
