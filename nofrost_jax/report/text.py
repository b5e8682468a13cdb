"""The tables as GitHub Markdown and as CSV. Every text of a result file is escaped, so that it stays a text."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from nofrost_jax.report import paper
from nofrost_jax.report.exhibits import PROTOCOLS
from nofrost_jax.report.overview import PUBLIC
from nofrost_jax.report.reading import printable, short
from nofrost_jax.report.tables import NONE, NOT_RUN, Cell, Line, Pair, Table
from nofrost_jax.tables import markdown

HEAD = (
    *("table", "data", "method", "row", "depth", "epsilon_255", "seed", "column", "key"),
    *("value", "ci95_low", "ci95_high", "n", "state", "unit", "paper", "flags", "file", "command"),
)
SPREAD = "With several seeds: mean ± sample standard deviation."
ACCURACY = (
    f"Accuracy in %, with 95 % Wilson intervals. {SPREAD} `aa_fast_20` is what the paper calls AutoAttack, "
    "`aa_standard` is the field's AutoAttack; judge robustness by this one."
)
PROPERTY = (
    f"Means over the images of the first classes, with 95 % intervals. {SPREAD} Margin and thickness: more is better; "
    "smoothness: less is smoother."
)
PAIRED = (
    "Differences on the same images, with 95 % intervals and exact two-sided McNemar tests; p is corrected for all "
    "comparisons of this table (Holm). They are of one seed and say nothing about other seeds."
)
ELSEWHERE = "The paper's values are of ImageNet and of larger nets: they cannot be compared with those above."


def escape(text: str) -> str:
    """A text of a file as Markdown that shows just this text, in one cell of a table."""
    return escape_all(short(text))


def escape_all(text: str) -> str:
    """`escape` of a text of any length, on one line."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", printable(text).replace("&", "&amp;").replace("<", "&lt;"))


def exhibit(tables: Sequence[Table]) -> str:
    """An exhibit's tables, one for each data set, in Markdown; off ImageNet followed by the paper's own."""
    parts = []
    for table in tables:
        parts += [f"**{table.number}, {escape(table.source)}: {table.title}**", one(table)]
        if table.pairs:
            parts += [comparisons(table.pairs), PAIRED]
    if not any(table.is_imagenet for table in tables) and tables[0].is_papers:
        parts += [f"**{tables[0].number} of the paper, on ImageNet**", papers(tables[0]), ELSEWHERE]
    return "\n\n".join(parts)


def one(table: Table) -> str:
    """A table, and below it what its marks mean."""
    head = ["Method", *(escape(cell.column.title) for cell in table.lines[0].cells)]
    marks = footnotes(table)
    rows = []
    for line in table.lines:
        rows.append([escape(line.label) + _seeds(line), *(_cell(cell, marks) for cell in line.cells)])
        if any(cell.paper_text for cell in line.cells):
            rows.append(
                [f"*{line.reference}*", *(f"*{cell.paper_text}*" if cell.paper_text else "" for cell in line.cells)]
            )
    notes = [f"<sup>{marks[flag]}</sup> {escape(flag)}: {meaning}" for flag, meaning in table.flags.items()]
    note = f"{ACCURACY if table.is_accuracy else PROPERTY} {escape_all(remarks(table))}"
    if any(cell.rank for line in table.lines for cell in line.cells):
        note += " **Best** and <u>second</u> of each column."
    return "\n\n".join([markdown(head, rows), note, *(["; ".join(notes) + "."] if notes else [])])


def remarks(table: Table) -> str:
    """How many images the numbers are of, at which radius and by which recipe the nets were trained."""
    counts = {}  # column -> numbers of images
    for cell in (cell for line in table.lines for cell in line.cells if cell.values):
        counts.setdefault(cell.column.title, set()).update(value.n for value in cell.values)
    usual = max((n for found in counts.values() for n in found), default=0)
    others = [f"{name} {_numbers(found)}" for name, found in counts.items() if found != {usual}]
    nets = [net for line in table.lines for net in line.nets]
    radii = sorted({net.epsilon_255 for net in nets if net.epsilon_255 is not None})
    said = [f"{usual:,} images" + f" ({', '.join(others)})" * bool(others)]
    said += [f"epsilon {' and '.join(f'{radius:g}/255' for radius in radii)}"] * bool(radii)
    said += [f"recipe {', '.join(sorted({net.recipe or 'not known' for net in nets}))}"]
    if any(line.reference == PUBLIC for line in table.lines):
        said += [f"{PUBLIC}: {paper.public()['source']}"]
    return f"{'; '.join(said)}."


def _numbers(found: Iterable[int]) -> str:
    return " to ".join(dict.fromkeys(f"{n:,}" for n in (min(found), max(found))))


def footnotes(table: Table) -> dict[str, str]:
    """{flag: its mark}."""
    return {flag: chr(ord("a") + place) if place < 26 else f"f{place}" for place, flag in enumerate(table.flags)}


def _seeds(line: Line) -> str:
    return f" ({len(line.nets)} seeds)" if len(line.nets) > 1 else ""


def _cell(cell: Cell, marks: dict[str, str]) -> str:
    number = {1: f"**{cell.text}**", 2: f"<u>{cell.text}</u>"}.get(cell.rank, cell.text)
    interval = f" [{cell.interval}]" if cell.interval else ""
    flags = f"<sup>{','.join(sorted(marks[flag] for flag in cell.flags))}</sup>" if cell.flags else ""
    return f"{number}{flags}{interval}"


def comparisons(pairs: Iterable[Pair]) -> str:
    """The paired tests of a table."""
    rows = []
    for pair in pairs:
        names = [f"{escape(pair.first)} − {escape(pair.second)}", escape(pair.column), str(pair.seed)]
        rows.append([*names, *comparison(pair), escape(pair.reason)])
    head = ["Difference", "Column", "Seed", "Images", "Points", "Interval", "Only first right", "Only second right"]
    head += ["p", "Not compared because"]
    shown = len(head) - (not any(row[-1] for row in rows))
    return markdown(head[:shown], [row[:shown] for row in rows], left={"Column", "Not compared because"})


def comparison(pair: Pair) -> list[str]:
    """The numbers of a comparison as texts: images, points, interval, images that only one net has right, p."""
    found = pair.difference
    if found is None or pair.p is None:
        return [NONE] * 6
    low, high = (f"{100 * share:+.1f}" for share in found.ci95)
    counts = str(found.only_first), str(found.only_second)
    return [f"{found.n:,}", f"{100 * found.points:+.1f}", f"{low} to {high}", *counts, probability(pair.p)]


def probability(p: float) -> str:
    return "< 1e-300" if p < 1e-300 else f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def papers(table: Table) -> str:
    """The paper's own table."""
    return markdown(*papers_cells(table))


def papers_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of the paper's own table."""
    rows = []
    for known in paper.read()["tables"][table.exhibit.name]["rows"]:
        at = f", eps {known['epsilon_255']}/255" if "epsilon_255" in known else ""
        values, off = known["values"], known.get("deviations", {})
        cells = [
            Cell(
                cell.column, (), paper=values.get(cell.column.key), paper_deviation=off.get(cell.column.key)
            ).paper_text
            for cell in table.lines[0].cells
        ]
        rows.append([known["method"] + at, *(text or NONE for text in cells)])
    return ["Method", *(cell.column.title for cell in table.lines[0].cells)], rows


def sheet(tables: Sequence[Table]) -> str:
    """The tables as CSV: a row for each number of each seed, and for each that only the paper has."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEAD)
    for table in tables:
        for line in table.lines:
            for cell in line.cells:
                start = [table.exhibit.name, table.source, line.label, line.net.row]
                writer.writerows([_plain(field) for field in (*start, *row)] for row in _rows(line, cell))
    return file.getvalue()


def _rows(line: Line, cell: Cell) -> Iterable[list]:
    """The other fields of a cell's rows."""
    is_share = not cell.column.key.startswith("properties")
    paper_value = "" if cell.paper is None or line.reference == PUBLIC else cell.paper / 100 if is_share else cell.paper
    unit, key = "share" if is_share else "mean", cell.column.key
    for net in line.nets:
        found = dict(zip(cell.seeds, cell.values, strict=True)).get(net.seed)
        start = [net.depth or "", "" if net.epsilon_255 is None else net.epsilon_255, net.seed, cell.column.title, key]
        low, high = (found and found.ci95) or ("", "")
        state = NOT_RUN if cell.column.key in PROTOCOLS else "missing"
        number = [found.accuracy, low, high, found.n, ""] if found else ["", "", "", "", state]
        end = [" ".join(found.flags), found.path, found.command] if found else ["", "", ""]
        yield [*start, *number, unit, paper_value, *end]
    if not line.nets:
        at = "" if line.net.epsilon_255 is None else line.net.epsilon_255
        number = ["", "", "", "", "missing"]
        yield [line.net.depth, at, "", cell.column.title, key, *number, unit, paper_value, "", "", ""]


def _plain(field):
    """A field of a sheet; a text that a spreadsheet would take for a formula gets an apostrophe."""
    if not isinstance(field, str):
        return field
    text = printable(field)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
