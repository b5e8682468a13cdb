"""A result of evaluation sets as text for the screen: one row a set, the grid of corruptions, what is missing."""

from collections.abc import Iterator, Mapping
from typing import Any

from nofrost_jax.flag_texts import DESCRIPTIONS
from nofrost_jax.shift.scores import SEVERITIES
from nofrost_jax.tables import aligned


def render(result: Mapping[str, Any]) -> str:
    """The tables of a result with `shift`, a plain dict of schema 1."""
    step = "export" if result["checkpoint"]["step"] < 0 else f"step {result['checkpoint']['step']}"
    lines = [f"{result['checkpoint']['path']}, {step}: accuracy under distribution shift"]
    rows: list[tuple[str, ...]] = [("", "accuracy", "95 % interval", "images", "label set", "crop", "flags")]
    rows += [_row(entry["name"], entry, entry["n"]) for entry in result["shift"]]
    corrupted = result["corruptions"]
    if corrupted:
        rows += _corruption_rows(corrupted)
    rows += [(one["name"], "missing", "", "", "", "", "") for one in result["missing"]]
    lines += [f"  {line}" for line in aligned(rows, "<>><<<<")]
    if corrupted:
        lines += ["", f"{corrupted['name']}, accuracy in % by severity:"]
        lines += [f"  {line}" for line in aligned(_grid(corrupted), "<>>>>>>>")]
        made = corrupted["made"]
        if "jpeg_quality" in made:
            quality, textures = made["jpeg_quality"], made["frost_textures"]
            saved = f"JPEG quality {quality}" if quality else "no JPEG"
            lines.append(f"  made {made['how']}: {saved}" + f", {textures} frost" * bool(textures))
        lines += [f"  {note}" for note in corrupted["notes"]]
    lines += [f"  {name}: {DESCRIPTIONS[name]}" for name in result["flags"]]
    return "\n".join(lines)


def _row(name: str, entry: Mapping[str, Any], n: int) -> tuple[str, ...]:
    interval = "{:.1%} to {:.1%}".format(*entry["ci95"]) if "ci95" in entry else ""
    marks = ", ".join(entry["flags"])
    if "partial" in entry["flags"]:
        marks += f": {n:,} of {entry['expected']:,}"
    return name, f"{entry['accuracy']:.2%}", interval, f"{n:,}", entry["label_set"], entry["crop"], marks


def _corruption_rows(corrupted: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    cells = corrupted["cells"]
    marks = ", ".join(f"cropped: of {corrupted['side']}" if one == "cropped" else one for one in corrupted["flags"])
    name, rest = corrupted["name"], (corrupted["label_set"], corrupted["crop"], marks)
    n = min(cell["n"] for cell in cells)
    yield f"{name}, mean", f"{corrupted['mean_accuracy']:.2%}", "", f"{len(cells)} x {n:,}", *rest
    if corrupted["mce"] is not None:
        yield f"{name}, mCE", f"{corrupted['mce']:.2%}", "", "", f"error over that of {corrupted['reference']}", "", ""


def _grid(corrupted: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    accuracy = {(cell["corruption"], cell["severity"]): cell["accuracy"] for cell in corrupted["cells"]}
    ratios = bool(corrupted["ratios"])
    yield "", *map(str, SEVERITIES), "error", *(["ratio"] * ratios)
    for name in dict.fromkeys(name for name, _ in accuracy):
        shares = (accuracy.get((name, severity)) for severity in SEVERITIES)
        last = [corrupted["errors"].get(name)] + [corrupted["ratios"].get(name)] * ratios
        yield name, *(_percent(share) for share in (*shares, *last))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
