"""The paper's tables and figures, and one page with all of them, from the result files below a folder.

    python -m nofrost_jax.report runs --output=report
    python -m nofrost_jax.report benchmarks/results --output=report --into=RESULTS.md

Reads every evaluation result and study below the folder, loads no jax, and writes OUT/index.html (one file, opens
without a network), OUT/tables/*.md and *.csv, OUT/figures/*.svg and *.png. What is missing is listed with the command
that makes it. --into replaces the tables of a document, each between `<!-- table NAME -->` and the next `<!-- end -->`:
table1 to table7, nets, the name of a study, accelerator.

Exit codes: 0 done; 1 the machine failed; 2 the folder has no results, or OUT is something else.
"""

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence

from nofrost_jax import buckets, errors, files
from nofrost_jax.report import accelerator, figures, markers, overview, page, study, tables, text
from nofrost_jax.report.collect import Collection, collect
from nofrost_jax.report.reading import printable
from nofrost_jax.report.tables import Table

_OURS = {  # folder in OUT: the names of its files
    "tables": r"(table\d+|nets)\.(md|csv)",
    "figures": r"[\w.-]+\.(svg|png)",
}
_SHOWN = 10  # refused files on the screen


def main(arguments: Sequence[str] | None = None) -> None:
    parser = errors.Parser("report", __doc__)
    parser.add_argument("folder", type=os.path.expanduser, help="of runs, or of their results")
    parser.add_argument("--output", metavar="OUT", type=os.path.expanduser, required=True, help="folder of the report")
    parser.add_argument("--into", metavar="FILE", type=os.path.expanduser, help="document whose tables are replaced")
    with errors.exit_codes():
        options = parser.parse_args(arguments)
        report(options.folder, options.output, options.into)


def report(folder: str, out: str, into: str | None = None) -> None:
    """Writes the report, and says what. Raises UserError."""
    for path, flag in ((folder, ""), (out, "--output="), (into or "", "--into=")):
        buckets.refuse(path, f"{flag}{path}")
    collection = collect(folder)
    for one in collection.refused[:_SHOWN]:
        print(f"not used: {printable(one.path)}: {one.reason}", file=sys.stderr)
    if len(collection.refused) > _SHOWN:
        print(f"not used: {len(collection.refused) - _SHOWN} more, which the page lists", file=sys.stderr)
    if not collection.evaluations and not collection.studies:
        raise errors.UserError(f"{folder} holds no result files; give a folder with runs, or with their results")
    _check_output(out)
    if into:
        markers.require(into)
    made, lacking = tables.tables(collection)
    made += overview.tables(collection)
    _write_tables(made, out)
    drawn, undrawn = figures.draw_all(collection, out)
    _remove_old(out, {f"{one.exhibit.name}.{kind}" for one in made for kind in ("md", "csv")}, drawn)
    index = os.path.join(out, "index.html")
    files.write(index, page.render(collection, made, drawn, [*lacking, *undrawn], out))
    print(f"written: {index}  ({page.counts(collection)}: {len(made)} tables, {len(drawn)} figures)")
    if into:
        names = _write_into(into, collection, made)
        print(f"written: the tables {', '.join(names)} in {into}")


def _check_output(out: str) -> None:
    """Makes the folder. Raises UserError where it holds something other than an earlier report."""
    try:
        os.makedirs(out, exist_ok=True)
        for name in sorted(os.listdir(out)):
            path = os.path.join(out, name)
            if name in _OURS and os.path.isdir(path):
                for inner in sorted(os.listdir(path)):
                    if not re.fullmatch(_OURS[name], inner) and not files.is_temporary(inner):
                        raise _foreign(out, f"{name}/{inner}")
            elif not files.is_temporary(name) and not (name == "index.html" and _is_ours(path)):
                raise _foreign(out, name)
    except OSError as error:
        raise errors.refused(f"the report cannot be written to {out}", error, "give another --output") from error


def _is_ours(path: str) -> bool:
    with open(path, "rb") as file:
        return f'name="generator" content="{page.GENERATOR}"'.encode() in file.read(4096)


def _foreign(out: str, name: str) -> errors.UserError:
    return errors.UserError(f"{out} holds {name}, which is not of a report; give another --output, or an empty folder")


def _write_tables(made: Sequence[Table], out: str) -> None:
    os.makedirs(os.path.join(out, "tables"), exist_ok=True)
    for name, mine in _by_exhibit(made).items():
        for kind, content in (("md", text.exhibit(mine) + "\n"), ("csv", text.sheet(mine))):
            files.write(os.path.join(out, "tables", f"{name}.{kind}"), content)


def _by_exhibit(made: Sequence[Table]) -> dict[str, list[Table]]:
    groups = {}
    for one in made:
        groups.setdefault(one.exhibit.name, []).append(one)
    return groups


def _remove_old(out: str, kept: set[str], drawn: Sequence[figures.Drawn]) -> None:
    """Removes the tables and figures of an earlier report that this one does not have, and what killed ones left."""
    current = {"tables": kept, "figures": {os.path.basename(name) for one in drawn for name in one.files}}
    files.remove_leftovers(out, time.time())
    for folder, names in current.items():
        files.remove_leftovers(os.path.join(out, folder), time.time())
        for name in os.listdir(os.path.join(out, folder)):
            if name not in names and not files.is_temporary(name):
                os.remove(os.path.join(out, folder, name))


def _write_into(path: str, collection: Collection, made: Sequence[Table]) -> list[str]:
    """Replaces the tables that the document has a place for; returns their names."""
    written = []

    def make(names: list[str]) -> Mapping[str, str]:
        found = {name: text.exhibit(mine) for name, mine in _by_exhibit(made).items()}
        found |= {one["study"]: study.render(one) for _, one in collection.studies}
        if "accelerator" in names:
            found["accelerator"] = accelerator.render(accelerator.read(os.path.join(collection.folder, "accelerator")))
        if unknown := [name for name in names if name not in found]:
            raise errors.UserError(f"there is no result for <!-- table {unknown[0]} --> below {collection.folder}")
        written.extend(name for name in names)
        return {name: found[name] for name in names}

    markers.write_all(path, make)
    return written


if __name__ == "__main__":
    main()
