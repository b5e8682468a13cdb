"""Tables as text: for the screen, and in Markdown."""

from collections.abc import Collection, Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], sides: str) -> list[str]:
    """Lines of equally wide columns, the first row being the head; columns without a cell below it are left out.

    sides: "<" or ">" for each column, those of numbers to the right.
    """
    head, *rows = rows
    shown = [column for column in range(len(head)) if any(row[column] for row in rows)]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in shown]
    lines = []
    for row in (head, *rows):
        cells = (f"{row[column]:{sides[column]}{width}}" for column, width in zip(shown, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return lines


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str] = ()) -> str:
    """A table in GitHub Markdown: the first column and those named by `left` to the left, the others to the right."""
    sides = ["---", *("---" if name in left else "---:" for name in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, sides, *rows))
