"""The paper's figures, and some beyond it, as SVG and PNG: `draw_all`. Needs matplotlib."""

import dataclasses
import os
import re

from nofrost_jax.errors import UserError
from nofrost_jax.report.collect import IMAGENET, Collection


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure that was drawn. name: of its files; exhibit: what it is on any data set, e.g. "figure2"; files: paths
    below the report's folder: .svg and .png for one column, and where `wide` also NAME_wide for two."""

    name: str
    exhibit: str
    source: str
    title: str
    caption: str
    files: tuple[str, ...]
    wide: bool


@dataclasses.dataclass(frozen=True)
class Missing:
    """A figure that cannot be drawn, why, and the command that makes what it needs."""

    name: str
    exhibit: str
    source: str
    title: str
    reason: str
    command: str


def draw_all(collection: Collection, out: str | os.PathLike) -> tuple[list[Drawn], list[Missing]]:
    """Writes `OUT/figures/NAME.svg` and `.png` of every figure that the collection has values for, on each data set.
    The same collection gives the same bytes. Raises UserError without matplotlib."""
    try:
        from nofrost_jax.report.figures import style, table
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UserError("figures need matplotlib; run: pip install matplotlib jinja2") from error
    drawn, missing = [], []
    os.makedirs(os.path.join(out, "figures"), exist_ok=True)
    with style.applied():
        for source in collection.sources or (IMAGENET,):
            for figure in table.figures(collection, source):
                about = {"name": f"{figure.name}{_suffix(source)}", "exhibit": figure.exhibit, "source": source}
                about["title"] = figure.title
                try:
                    picture = figure.make()
                except table.NothingToDraw as why:
                    missing.append(Missing(**about, reason=str(why), command=figure.command))
                    continue
                files = []
                for wide in (False, True)[: 1 + figure.wide]:
                    base = os.path.join("figures", about["name"] + "_wide" * wide)
                    files += style.save(picture.draw(wide), os.path.join(out, base), figure.title)
                below = tuple(os.path.relpath(file, out) for file in files)
                drawn.append(Drawn(**about, caption=picture.caption, files=below, wide=figure.wide))
    return drawn, missing


def _suffix(source: str) -> str:
    """Of a file's name, for a data set: "" for ImageNet."""
    return "" if source == IMAGENET else "_" + (re.sub(r"[^A-Za-z0-9]+", "_", source).strip("_")[:40] or "other")
