"""All nets of a collection, also those of no table of the paper, such as weights that were trained elsewhere."""

import dataclasses
from collections.abc import Iterator, Sequence

from nofrost_jax.report import paper
from nofrost_jax.report.collect import IMAGENET, Collection, Measured
from nofrost_jax.report.exhibits import EXHIBITS, METHODS, PROTOCOLS, Column, Exhibit, Net
from nofrost_jax.report.tables import Line, Table, make_line

PUBLIC = "public measurement"
NAME, TITLE = "nets", "every attack at the radius of the training"


def tables(collection: Collection) -> list[Table]:
    """A table for each data set: its nets under both protocols and every other attack that one of them met."""
    return [_table(collection, source) for source in collection.sources]


def _table(collection: Collection, source: str) -> Table:
    order = {row: place for place, row in enumerate(METHODS)}
    nets = [net for net in collection.nets if net.source == source]
    nets.sort(key=lambda net: (order.get(net.row, len(order)), net.depth or 0, net.epsilon_255 or 0))
    exhibit = Exhibit(NAME, TITLE, (), tuple(_columns(nets)))
    return Table(exhibit, source, tuple(_lines(exhibit, source, nets)), (), ())


def _columns(nets: Sequence[Measured]) -> Iterator[Column]:
    """Clean, what the paper's tables have in their order, then the others by name."""
    results = [one.result for net in nets for one in net.evaluations]
    keys = {"clean", *PROTOCOLS, *(entry["name"] for one in results for entry in one["attacks"])}
    keys |= {
        f"shift.{entry['name']}" for one in results for entry in one.get("shift") or () if entry["name"] != "clean"
    }
    keys |= {"shift.imagenet_c" for one in results if one.get("corruptions")}
    keys |= set().union(*(paper.public()["values"] for net in nets if _is_released(net)))
    titles = {column.key: column.title for one in EXHIBITS.values() for column in one.columns}
    yield from (Column(title, key) for key, title in titles.items() if key in keys)
    others = sorted(key for key in keys - titles.keys() if "eps_" not in key and not key.endswith("_all"))
    yield from (Column(key.removeprefix("shift."), key) for key in others)


def _lines(exhibit: Exhibit, source: str, nets: Sequence[Measured]) -> Iterator[Line]:
    """Nets that differ by their seeds share a line; where two lines would have one name, each net has its own."""
    groups = {}
    for one in nets:
        depth = f", ResNet-{one.depth}" if one.depth else ""
        at = f", eps {one.epsilon_255:g}/255" if one.epsilon_255 else ""
        groups.setdefault((f"{one.label}{depth}{at}", one.settings), []).append(one)
    labels = [label for label, _ in groups]
    for (label, _), mine in groups.items():
        is_one = len({one.seed for one in mine}) == len(mine) and labels.count(label) == 1
        for some, where in [(mine, "")] if is_one else [([one], f" ({one.folder})") for one in mine]:
            line = make_line(exhibit, source, Net(some[0].row, some[0].depth or 0), f"{label}{where}", some)
            yield _with_public(line) if _is_released(some[0]) else line


def _is_released(net: Measured) -> bool:
    """Whether a net is the one that the authors released, as far as the name of its file and its model say."""
    file, model = net.evaluations[0].result["checkpoint"].get("file") or "", dict(net.settings).get("model")
    return net.source == IMAGENET and file.startswith("best_RA") and model == "nf_resnet50"


def _with_public(line: Line) -> Line:
    """With what somebody else measured of the authors' net in place of the paper's values."""
    known = paper.public()["values"]
    cells = tuple(dataclasses.replace(cell, paper=known.get(cell.column.key)) for cell in line.cells)
    return dataclasses.replace(line, cells=cells, reference=PUBLIC)
