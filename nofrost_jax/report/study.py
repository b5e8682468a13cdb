"""A study's table in GitHub Markdown: every row with its mean and standard deviation over the seeds.

    python -m nofrost_jax.report.study STUDY.json                    prints it
    python -m nofrost_jax.report.study STUDY.json --into=RESULTS.md  writes it between two lines of that file

The two lines are `<!-- table STUDY -->`, with the study's name, and the next `<!-- end -->`. STUDY.json is what
`nofrost_jax.tools.reproduce` writes. Exit codes: 0 done; 2 a file is missing, or is not what it should be.
"""

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nofrost_jax import errors
from nofrost_jax.report import markers, reading
from nofrost_jax.report.exhibits import METHODS
from nofrost_jax.report.text import escape, escape_all
from nofrost_jax.tables import markdown

ATTACKS = {  # the first columns; other names follow as they are
    "pgd_20": "PGD-20",
    "apgd_ce_20": "APGD-CE-20",
    "aa_fast_20": "aa_fast_20",
    "aa_standard": "aa_standard",
}
Study = Mapping[str, Any]


def read(path: str | os.PathLike) -> Study:
    """The study as a plain dict. Raises UserError where it cannot be read or is something else."""
    try:
        study = reading.read_json(os.fspath(path))
        reading.check(study, reading.STUDY)
    except ValueError as error:
        raise errors.UserError(f"{path} is not a study: {error}; give the study.json of a study") from error
    return study


def accuracy_cell(shares: Sequence[float], wanted: int) -> str:
    """ "62.4 ± 1.2": mean and sample standard deviation in %, of fractions; a single one has no deviation.

    Where there are fewer than `wanted`, the cell says so.
    """
    values = [100 * share for share in shares]
    text = f"{statistics.mean(values):.1f}" if values else "–"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.1f}"
    return text if len(shares) == wanted else f"{text} ({len(shares)} of {wanted})"


def table(study: Study) -> str:
    """The table, in Markdown."""
    head, *rows = [[escape(cell) for cell in row] for row in cells(study)]
    return markdown(head, rows)


def cells(study: Study) -> list[list[str]]:
    """The head and the rows of the table."""
    found = dict.fromkeys(name for run in study["runs"] for name in run["attacks"])
    names = [name for name in dict.fromkeys([*ATTACKS, *found]) if name in found]
    corrupted = any("corruptions" in run for run in study["runs"])
    last = [*["Corruptions"] * corrupted, "Seconds", "CPU seconds"]
    head = ["Method", "Learning rate", "Clean", *(ATTACKS.get(name, name) for name in names), *last]
    rows = []
    for row in study["rows"]:
        runs = [run for run in study["runs"] if run["row"] == row]
        columns = [[run["clean"] for run in runs]]
        columns += [[run["attacks"][name] for run in runs if name in run["attacks"]] for name in names]
        columns += [[run["corruptions"]["mean"] for run in runs if "corruptions" in run]] * corrupted
        rate = study["chosen"].get(row)
        numbers = [accuracy_cell(column, len(study["seeds"])) for column in columns]
        numbers += [_mean([run.get(field) for run in runs]) for field in ("seconds", "cpu_seconds")]
        rows.append([METHODS.get(row, row), "–" if rate is None else f"{rate:g}", *numbers])
    return [head, *rows]


def _mean(values: Iterable[float | None]) -> str:
    """A mean without decimals, of those that are known."""
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.0f}" if known else "–"


def notes(study: Study) -> str:
    """Below the table: what the numbers are, how the learning rates were found, which flags the evaluations raised."""
    runs, rates = study["runs"], ", ".join(f"{rate:g}" for rate in study["rates"])
    images = _listed(run["n"] for run in runs)
    radii = _listed(f"{run['epsilon_255']:g}/255" for run in runs if run.get("epsilon_255") is not None)
    seeds = ", ".join(map(str, study["seeds"]))
    where = f" on {study['device']}, {study['cores']} cores" if study.get("device") else ""
    text = f"Accuracy in %: mean ± sample standard deviation, n = {len(study['seeds'])} seeds ({seeds})"
    if len(study["seeds"]) == 1:
        text = f"Accuracy in %, of one seed ({seeds})"
    text += f" and {images or 'no'} images each" + _partial(runs) + f"; epsilon {radii}" * bool(radii) + "."
    text += f" Seconds: mean of a run's training and evaluation{where}; the seeds share compiled programs."
    if len(study["rates"]) > 1:
        text += f" Learning rates tried for every row: {rates}; chosen: {study['rule']}." + _edges(study)
    else:
        text += f" Learning rate of every row: {rates}; none was selected."
    changed = [f"{field}={value}" for field, value in study.get("settings", {}).items()]
    text += f" Changed for every run: {', '.join(changed)}." * bool(changed)
    corrupted = {tuple(run["corruptions"][name] for name in ("name", "cells")) for run in runs if "corruptions" in run}
    for name, cells in sorted(corrupted):
        text += f" Corruptions: mean accuracy over the {cells} cells of {name}, made on the fly."
    found = _flags(runs)
    return text + f" Flags, and in how many runs: {found}." * bool(found)


def _edges(study: Study) -> str:
    """Which rows chose the least or the greatest rate, so that a better one may lie beyond."""
    ends, parts = {min(study["rates"]): "least", max(study["rates"]): "greatest"}, []
    for rate, which in ends.items():
        rows = [METHODS.get(row, row) for row, chosen in study["chosen"].items() if chosen == rate]
        parts += [f"{', '.join(rows)} chose the {which}"] * bool(rows)
    return f" A better rate may lie beyond: {'; '.join(parts)}." * bool(parts)


def _partial(runs: list[dict]) -> str:
    """ " (aa_standard: 1000 of them)", for attacks that were for some images only."""
    counts = {f"{label}: {n} of them" for run in runs for label, n in run["attacked"].items() if n < run["n"]}
    return f" ({', '.join(sorted(counts))})" * bool(counts)


def _flags(runs: list[dict]) -> str:
    """ "pgd_20 weak_attack: SAT 3, FAT 1; ...": in how many runs of which row a flag was raised."""
    counts = defaultdict(Counter)
    for run in runs:
        for attack, names in run["flags"].items():
            for name in names:
                counts[f"{attack} {name}"][METHODS.get(run["row"], run["row"])] += 1
    parts = (f"{flag}: {', '.join(f'{row} {count}' for row, count in rows.items())}" for flag, rows in counts.items())
    return "; ".join(parts)


def _listed(values: Iterable) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def render(study: Study) -> str:
    """The table and its notes."""
    return f"{table(study)}\n\n{escape_all(notes(study))}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = errors.Parser("report.study", __doc__)
    parser.add_argument("study", type=os.path.expanduser, help="the study.json of nofrost_jax.tools.reproduce")
    parser.add_argument(
        "--into", type=os.path.expanduser, help="file whose table is replaced; without it the table is printed"
    )
    with errors.exit_codes():
        options = parser.parse_args(arguments)
        study = read(options.study)
        if not options.into:
            print(render(study))
            return
        markers.write_into(options.into, study["study"], render(study))
    print(f"written: the table {study['study']} in {options.into}")


if __name__ == "__main__":
    main()
