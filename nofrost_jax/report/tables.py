"""The paper's Tables 1 to 7, of the nets of a collection: intervals, deviations over the seeds, the best and the
second, warnings, tests between nets, and the paper's own values. As data; `text` and `page` write them."""

import dataclasses
import re
import statistics
from collections.abc import Iterator, Sequence

from nofrost_jax.flag_texts import DESCRIPTIONS
from nofrost_jax.report import commands, pairs, paper
from nofrost_jax.report.collect import IMAGENET, OTHER_SETTINGS, Collection, Measured, Value, alike, value
from nofrost_jax.report.exhibits import EXHIBITS, METHODS, PROTOCOLS, Column, Exhibit, Net

FLAGS = DESCRIPTIONS | {
    "not_as_named": "the attack has another radius or another number of steps or queries than its name says",
    OTHER_SETTINGS: "another attack of this name, with another step rule, for example, than that of the column's other "
    "numbers: not compared, ranked or averaged with these",
}
NONE, NOT_RUN = "–", "not run"
REFERENCE = "nofrost"  # the row that the others are compared with
_DIGITS = {"properties.margin": 4, "properties.thickness": 2, "properties.smoothness": 3}  # as the paper has them
_LESS_IS_BETTER = {"properties.smoothness"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A column of a line. values: one for each seed that has it; paper, paper_deviation: the paper's number, in its
    unit; rank: 1 for the best of its column, 2 for the second, otherwise 0."""

    column: Column
    values: tuple[Value, ...]
    seeds: tuple[int, ...] = ()  # of the values
    of: int = 0  # how many nets the line has
    paper: float | None = None
    paper_deviation: float | None = None
    rank: int = 0

    @property
    def mean(self) -> float | None:
        """In the unit of the table: % for accuracies."""
        return self._scale * statistics.mean(one.accuracy for one in self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        shares = [one.accuracy for one in self.values]
        return self._scale * statistics.stdev(shares) if len(shares) > 1 else None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The interval of a single net's value."""
        if len(self.values) != 1 or self.values[0].ci95 is None:
            return None
        low, high = self.values[0].ci95
        return self._scale * low, self._scale * high

    @property
    def n(self) -> int:
        """Images, the fewest of the seeds."""
        return min((one.n for one in self.values), default=0)

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(sorted({flag for one in self.values for flag in one.flags}))

    @property
    def is_usual(self) -> bool:
        """Whether there is a number, of the same attack as the others of the column."""
        return bool(self.values) and OTHER_SETTINGS not in self.flags

    @property
    def text(self) -> str:
        """ "62.4", "62.4 ± 1.2", "62.4 (1 of 3)", or why there is no number."""
        if self.mean is None:
            return NOT_RUN if self.of and self.column.key in PROTOCOLS else NONE
        shown = self.number(self.mean)
        shown += "" if self.deviation is None else f" ± {self.number(self.deviation)}"
        return shown if len(self.values) == self.of else f"{shown} ({len(self.values)} of {self.of})"

    @property
    def interval(self) -> str:
        return f"{self.number(self.ci95[0])} to {self.number(self.ci95[1])}" if self.ci95 else ""

    @property
    def paper_text(self) -> str:
        if self.paper is None:
            return ""
        places = _DIGITS.get(self.column.key, 1 if self.column.key.startswith(("rays", "square")) else 2)
        deviation = "" if self.paper_deviation is None else f" ± {self.paper_deviation:.2f}"
        return f"{self.paper:.{places}f}{deviation}"

    def number(self, amount: float) -> str:
        """With two decimals only where there are images enough for them."""
        places = _DIGITS.get(self.column.key, 2 if self.n >= 10_000 else 1)
        return f"{amount:.{places}f}"

    @property
    def _scale(self) -> int:
        return 1 if self.column.key in _DIGITS else 100


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of a table: nets that differ by their seeds only; () where there is none yet. reference: what the cells'
    values `paper` are."""

    label: str
    net: Net
    nets: tuple[Measured, ...]
    cells: tuple[Cell, ...]
    reference: str = "paper"

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(net.seed for net in self.nets)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A comparison of two lines in one column. seed: of both nets; p: corrected for all pairs of the table (Holm);
    reason: why there is no difference to show."""

    first: str
    second: str
    column: str
    seed: int
    difference: pairs.Difference | None = None
    p: float | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Missing:
    """Something that a table lacks. what: in words; command: makes it."""

    exhibit: str
    source: str
    what: str
    command: str


@dataclasses.dataclass(frozen=True)
class Table:
    """An exhibit, made of the nets of one data set."""

    exhibit: Exhibit
    source: str
    lines: tuple[Line, ...]
    pairs: tuple[Pair, ...]
    missing: tuple[Missing, ...]

    @property
    def flags(self) -> dict[str, str]:
        """{flag: what it means} of all cells, in the order of their footnotes."""
        found = dict.fromkeys(flag for line in self.lines for cell in line.cells for flag in cell.flags)
        return {flag: FLAGS.get(flag, "not known to this version") for flag in found}

    @property
    def number(self) -> str:
        """ "Table 1"."""
        if not self.is_papers:
            return "All nets"
        return f"Table {self.exhibit.name.removeprefix('table')}"

    @property
    def title(self) -> str:
        """Of the exhibit; without a depth where none of the nets has one."""
        has_depth = any(net.depth for line in self.lines for net in line.nets) or self.source == IMAGENET
        return self.exhibit.title if has_depth else re.sub(r" of ResNet\d+", "", self.exhibit.title)

    @property
    def is_accuracy(self) -> bool:
        """Whether its numbers are accuracies, not properties."""
        return not any(column.key in _DIGITS for column in self.exhibit.columns)

    @property
    def is_papers(self) -> bool:
        """Whether the paper has it."""
        return self.exhibit.name in EXHIBITS

    @property
    def is_imagenet(self) -> bool:
        return self.source == IMAGENET


def tables(collection: Collection) -> tuple[list[Table], list[Missing]]:
    """(every table of every data set that has a number for it, what all tables lack: those without a number, too, and
    ImageNet's where there is no net at all)."""
    exhibits = [one for one in EXHIBITS.values() if one.columns]
    sources = collection.sources or (IMAGENET,)
    found = [_table(collection, one, source) for source in sources for one in exhibits]
    made = [one for one in found if any(cell.values for line in one.lines for cell in line.cells)]
    return made, [lack for one in found for lack in one.missing]


def _table(collection: Collection, exhibit: Exhibit, source: str) -> Table:
    lines = _ranked([line for net in exhibit.nets for line in _lines_of(collection, exhibit, source, net)])
    return Table(exhibit, source, lines, _pairs(lines), tuple(_missing(collection, exhibit, source, lines)))


def _lines_of(collection: Collection, exhibit: Exhibit, source: str, net: Net) -> Iterator[Line]:
    """The lines of a net: one for each weight of a mixture, and for each way in which it was trained."""
    gammas = {gamma for own, suite in exhibit.suites if own == net for gamma in suite.gammas}
    found = collection.of(source, net.row, net.depth, net.epsilon_255)
    found = [one for one in found if not gammas or (one.gamma in gammas and one.interpolation == "logits")]
    at = f", eps {net.epsilon_255:g}/255" if net.epsilon_255 else ""
    groups = {}
    for one in found:
        groups.setdefault((one.label, one.settings), []).append(one)
    changed = _changed([dict(settings) for _, settings in groups])
    for (label, settings), mine in groups.items():
        how = "".join(f", {name} {dict(settings)[name]}" for name in changed)
        is_one = len({one.seed for one in mine}) == len(mine)
        for some, where in [(mine, "")] if is_one else [([one], f" ({one.folder})") for one in mine]:
            yield make_line(exhibit, source, net, f"{label}{at}{how}{where}", some)
    if not groups:
        yield make_line(exhibit, source, net, METHODS[net.row] + at, [])


def _changed(settings: Sequence[dict[str, str]]) -> list[str]:
    """The names of the settings in which trainings differ."""
    return [name for name in (settings[0] if settings else {}) if len({one.get(name) for one in settings}) > 1]


def make_line(exhibit: Exhibit, source: str, net: Net, label: str, nets: Sequence[Measured]) -> Line:
    """The line of nets that differ by their seeds."""
    keys = [column.key for column in exhibit.columns]
    nets = [one for one in nets if any(value(one, key) for key in keys)] or nets  # others are of other tables
    nets = tuple(sorted(nets, key=lambda one: one.seed))
    known = (paper.find(exhibit.name, net.row, net.epsilon_255) if source == IMAGENET else None) or {"values": {}}
    cells = []
    for column in exhibit.columns:
        found = [(one.seed, entry) for one in nets if (entry := value(one, column.key))]
        kept = alike([entry for _, entry in found])
        found = [(seed, entry) for seed, entry in found if entry in kept]
        cells.append(
            Cell(
                column,
                tuple(entry for _, entry in found),
                tuple(seed for seed, _ in found),
                len(nets),
                known["values"].get(column.key),
                known.get("deviations", {}).get(column.key),
            )
        )
    return Line(label, net, nets, tuple(cells))


def _ranked(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines with their best and second values marked, among nets of one radius. Equal ones, as shown, share it."""
    ranks = {}
    for place, column in enumerate(lines[0].cells if lines else ()):
        for radius in {line.net.epsilon_255 for line in lines}:
            here = {id(line): line.cells[place] for line in lines if line.net.epsilon_255 == radius}
            means = {key: (cell, cell.mean) for key, cell in here.items() if cell.is_usual}
            shown = {key: float(cell.number(mean)) for key, (cell, mean) in means.items() if mean is not None}
            order = sorted(set(shown.values()), reverse=column.column.key not in _LESS_IS_BETTER)
            if len(order) > 1:
                ranks |= {(key, place): order.index(number) + 1 for key, number in shown.items()}
    return tuple(
        dataclasses.replace(
            line,
            cells=tuple(
                dataclasses.replace(cell, rank=rank if (rank := ranks.get((id(line), place), 0)) < 3 else 0)
                for place, cell in enumerate(line.cells)
            ),
        )
        for line in lines
    )


def _pairs(lines: Sequence[Line]) -> tuple[Pair, ...]:
    """The reference against every other line of its radius: clean, the first attack, both protocols; the first seed
    that both have."""
    found = []
    for first in (line for line in lines if line.net.row == REFERENCE):
        for second in (line for line in lines if line.net.row != REFERENCE):
            if second.net.epsilon_255 == first.net.epsilon_255:
                cells = zip(first.cells, second.cells, strict=True)
                found += [pair for place, both in enumerate(cells) if (pair := _pair(first, second, place, *both))]
    corrected = iter(pairs.holm([one.difference.p for one in found if one.difference]))
    return tuple(dataclasses.replace(one, p=next(corrected)) if one.difference else one for one in found)


def _pair(first: Line, second: Line, place: int, one: Cell, other: Cell) -> Pair | None:
    """None where one of them has no value, or the column is not compared."""
    is_compared = place < 2 or one.column.key in PROTOCOLS
    shared = sorted(set(one.seeds) & set(other.seeds))
    if not is_compared or not shared or one.column.key in _DIGITS:
        return None
    values = [cell.values[cell.seeds.index(shared[0])] for cell in (one, other)]
    pair = Pair(first.label, second.label, one.column.title, shared[0])
    try:
        return dataclasses.replace(pair, difference=pairs.compare(*values))
    except ValueError as error:
        return dataclasses.replace(pair, reason=str(error))


def _missing(collection: Collection, exhibit: Exhibit, source: str, lines: Sequence[Line]) -> Iterator[Missing]:
    """What the lines of an exhibit lack: nets, seeds, columns."""
    raw = [net.evaluations[0].result["dataset"]["source"] for net in collection.nets if net.source == source]
    command = commands.reproduce(exhibit.name, collection.folder, "" if source == IMAGENET or not raw else raw[0])
    for line in lines:
        seeds = [str(seed) for seed in exhibit.seeds if seed not in line.seeds]
        wanted = set(exhibit.seeds) & set(line.seeds)
        columns = [cell.column.title for cell in line.cells if wanted - set(cell.seeds * cell.is_usual)]
        what = [f"seed {', '.join(seeds)}"] * bool(seeds and line.nets) + columns
        if what or not line.nets:
            name = f"{line.label} (ResNet-{line.net.depth})" if source == IMAGENET else line.label
            yield Missing(exhibit.name, source, f"{name}: {', '.join(what) or 'everything'}", command)
