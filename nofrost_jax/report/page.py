"""The report as one HTML page that opens from a disk without a network: tables that sort and filter, figures, what is
missing. Every text of a result file is escaped; the page may run its own script and nothing else."""

import base64
import dataclasses
import hashlib
import os
import pathlib
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nofrost_jax import errors
from nofrost_jax.report import paper, study, tables, text
from nofrost_jax.report.collect import IMAGENET, Collection, Value
from nofrost_jax.report.exhibits import METHODS, PROTOCOLS, Column
from nofrost_jax.report.reading import printable
from nofrost_jax.report.tables import Cell, Line, Pair, Table

GENERATOR = "nofrost_jax.report"  # by which its pages are known
MOST_REFUSED = 200
_HERE = pathlib.Path(__file__).parent
_NUMBERS = ("Seed", "Images", "Points", "Value", "Only the first is right", "Only the second", "p")


@dataclasses.dataclass(frozen=True)
class Missing:
    """What one command makes: `what` an exhibit lacks on a data set, in words."""

    exhibit: str
    source: str
    command: str
    what: tuple[str, ...]


def render(
    collection: Collection, made: Sequence[Table], drawn: Sequence[Any], lacking: Sequence[Any], out: str
) -> str:
    """The page, for the file `out`/index.html. made: its tables; drawn: its figures; lacking: what
    `tables.tables` and `figures.draw_all` miss. Raises UserError without Jinja2."""
    try:
        import jinja2
        import markupsafe
    except ModuleNotFoundError as error:
        raise errors.UserError("the page needs Jinja2; run: pip install matplotlib jinja2") from error

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # not what is escaped already
    )
    style, script = (markupsafe.Markup((_HERE / name).read_text()) for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        policy=_policy(style, script),
        style=style,
        script=script,
        generator=GENERATOR,
        name=os.path.basename(os.path.abspath(collection.folder)),
        counts=counts(collection),
        public=paper.public()["values"],
        sources=_sources(collection, made, drawn, out),
        filters=_filters(made),
        studies=[_study(path, found, collection.folder, out) for path, found in collection.studies],
        missing=_missing(lacking),
        refused=collection.refused[:MOST_REFUSED],
        more_refused=max(0, len(collection.refused) - MOST_REFUSED),
        has_figures=bool(drawn),
        command=f"python -m nofrost_jax.report {shlex.quote(collection.folder)} --output={shlex.quote(out)}",
        href=lambda value: _href(collection.folder, value.path, out),
        title=_title,
        protocol=_protocol,
        method=_method,
        net=_net,
        notes={"accuracy": text.ACCURACY.replace("`", ""), "property": text.PROPERTY},
        footnotes=text.footnotes,
        remarks=text.remarks,
        alone=lambda cell, value: Cell(cell.column, (value,), of=1),
        comparison=_comparison,
        paired=text.PAIRED,
        papers=text.papers_cells,
        NUMBERS=_NUMBERS,
    )


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy: this style, this script, pictures of the page itself, and nothing else."""
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (style, script))
    allowed = " ".join(
        f"{kind}-src 'sha256-{digest}';" for kind, digest in zip(("style", "script"), digests, strict=True)
    )
    return f"default-src 'none'; {allowed} img-src data:; base-uri 'none'; form-action 'none'"


def counts(collection: Collection) -> str:
    """ "24 nets in 26 result files, 1 study": what a collection holds."""
    nets, results, studies = (len(one) for one in (collection.nets, collection.evaluations, collection.studies))
    found = f"{nets} net{'s' * (nets != 1)} in {results} result file{'s' * (results != 1)}"
    parts = [found] * bool(nets) + [f"{studies} {'study' if studies == 1 else 'studies'}"] * bool(studies)
    return ", ".join(parts)


def _sources(collection: Collection, made: Sequence[Table], drawn: Sequence[Any], out: str) -> list[dict[str, Any]]:
    """The page's sections, one for each data set that has a table or a figure."""
    found = []
    for name in dict.fromkeys([*collection.sources, *(one.source for one in drawn)]):
        mine = [table for table in made if table.source == name]
        figures = [_figure(one, out) for one in drawn if one.source == name]
        if mine or figures:
            found.append({"name": name, "is_imagenet": name == IMAGENET, "tables": mine, "figures": figures})
    return found


def _figure(one: Any, out: str) -> dict[str, Any]:
    """A drawn figure with its picture inside: the SVG for a narrow column, or the PNG where it is much smaller."""
    paths = {name: os.path.join(out, name) for name in one.files}
    kinds = {os.path.splitext(name)[1]: path for name, path in paths.items() if "_wide." not in name}
    kind = ".svg" if os.path.getsize(kinds[".svg"]) < 4 * os.path.getsize(kinds[".png"]) else ".png"
    content = base64.b64encode(pathlib.Path(kinds[kind]).read_bytes()).decode()
    return {
        "title": f"{number}: {one.title}" if (number := _number(one.exhibit)) else one.title,
        "caption": one.caption,
        "image": f"data:image/{'svg+xml' if kind == '.svg' else 'png'};base64,{content}",
        "links": [(os.path.basename(name), urllib.parse.quote(name)) for name in one.files],
    }


def _filters(made: Sequence[Table]) -> list[dict[str, Any]]:
    """What the reader may choose: each filter's name, title and (value, title) options; [] without tables."""
    if not made:
        return []
    lines, order = (
        [line for table in made for line in table.lines],
        {name: n for n, name in enumerate(METHODS.values())},
    )
    methods = sorted({_method(line) for line in lines}, key=lambda name: (name not in order, order.get(name, 0), name))
    nets = sorted({net for line in lines if (net := _net(line))})
    protocols = {"aa_fast_20": "AA (fast)", "aa_standard": "AA (standard)", "other": "the other attacks"}
    options = {
        "source": ("Data set", [(name, name) for name in dict.fromkeys(table.source for table in made)]),
        "method": ("Method", [(name, name) for name in methods]),
        "net": ("Net", [(name, name) for name in nets]),
        "protocol": ("Protocol", list(protocols.items())),
    }
    return [{"name": name, "title": title, "options": found} for name, (title, found) in options.items()]


def _protocol(column: Column) -> str | None:
    """The group of a column that the filter knows; None for one that is always shown."""
    if column.key in PROTOCOLS:
        return column.key
    return None if column.key == "clean" or column.key.startswith(("properties", "shift")) else "other"


def _method(line: Line) -> str:
    """What the filter knows a line by."""
    return METHODS.get(line.net.row) or line.nets[0].method


def _net(line: Line) -> str | None:
    """The net of a line's name; None where there is none yet."""
    if not line.nets:
        return None
    settings, depth = dict(line.nets[0].settings), line.nets[0].depth
    is_whole = settings.get("stage_sizes") == "[]" and float(settings["width"]) == 1
    return f"ResNet-{depth}" if depth else settings["model"] if is_whole else "small"


def _title(value: Value) -> str:
    flags = f"; flags: {', '.join(value.flags)}" if value.flags else ""
    return f"{value.n:,} images{flags}; {value.path}; {value.command}"


def _href(folder: str, path: str, out: str) -> str:
    """A relative link from the page to a file below the folder, whatever its name has in it."""
    relative = os.path.relpath(os.path.join(folder, path), out)
    return urllib.parse.quote(os.fsencode(relative))


def _comparison(pair: Pair) -> list[tuple[str, Any]]:
    """The cells of a comparison: as text, and as a number to sort by; [] where there is none."""
    found = pair.difference
    if found is None:
        return []
    numbers = found.n, found.points, found.points, found.only_first, found.only_second, pair.p
    return list(zip(text.comparison(pair), numbers, strict=True))


def _study(path: str, found: Mapping[str, Any], folder: str, out: str) -> dict[str, Any]:
    head, *rows = study.cells(found)
    shown = {"name": found["study"], "path": path, "href": _href(folder, path, out)}
    return shown | {"head": head, "rows": rows, "notes": study.notes(found)}


def _missing(lacks: Iterable[Any]) -> list[Missing]:
    """What is missing, together for each command. lacks: of tables, and of figures, which have a `reason`."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    for one in lacks:
        key = _number(one.exhibit) or one.exhibit, one.source, one.command
        groups.setdefault(key, {})[one.what if isinstance(one, tables.Missing) else one.reason] = None
    return [Missing(*key, tuple(what)) for key, what in groups.items()]


def _number(exhibit: str) -> str:
    """ "Figure 2"; "" for what is not in the paper."""
    found = re.fullmatch(r"(table|figure)(\d)", exhibit)
    return f"{found[1].capitalize()} {found[2]}" if found else ""
