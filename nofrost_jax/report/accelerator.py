"""What `benchmarks/accelerator.py` measured, in GitHub Markdown: for each device its tasks, and its study on CIFAR-10.

    python -m nofrost_jax.report.accelerator                    prints it
    python -m nofrost_jax.report.accelerator --into=RESULTS.md  writes it between two lines of that file

The two lines are `<!-- table accelerator -->` and the next `<!-- end -->`. Exit codes as in `nofrost_jax.report.study`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nofrost_jax import errors
from nofrost_jax.report import markers, speed
from nofrost_jax.report.exhibits import METHODS
from nofrost_jax.report.speed import NONE, RESULTS, Results, read
from nofrost_jax.report.study import ATTACKS, accuracy_cell
from nofrost_jax.tables import markdown

NAMES = METHODS | {"pgdat_nf": "PGDAT (NF)"}


def render(found: Mapping[str, Results]) -> str:
    """The tables of all devices, or the sentence that none has been measured."""
    return "\n\n".join(section for device, results in found.items() for section in sections(device, results)) or NONE


def sections(device: str, results: Results) -> Iterator[str]:
    """The parts of a device's report: its name and versions, tasks, speed, study."""
    versions = {pair for result in results.values() for pair in result.get("versions", {}).items()}
    yield f"**{device}** ({', '.join(sorted(map(' '.join, versions)))})"
    tasks = {name: result for name, result in results.items() if not name.startswith("study_")}
    if tasks:
        rows = [(name, f"{result.get('seconds', 0):.0f}", state(result)) for name, result in tasks.items()]
        yield markdown(["Task", "Seconds", "Result"], rows, left={"Result"})
    for head, rows, note in speed.tables(results):
        yield markdown(head, rows)
        yield note
    attacks, rows = study(results)
    if rows:
        yield markdown(["Method", "Seeds", "Epochs", "Clean", *(ATTACKS[name] for name in attacks)], rows)
        yield (
            "Accuracy in %, mean over the seeds and sample standard deviation: clean on all test images, attacks on "
            "1,000 evenly spread ones; epsilon 8/255. Three minutes' training for each row and seed. The images "
            "are JPEG copies of quality 75, so that accuracies are not comparable with published ones."
        )


def state(result: Mapping[str, Any]) -> str:
    """A task's headline, or why it has none."""
    if result["complete"]:
        return result["headline"]
    reason = result.get("failure", {}).get("reason", "")
    if not reason or (result["figures"] and reason.startswith("killed at")):  # its limit
        return "not finished yet"
    return f"failed: {reason}"


def study(results: Results) -> tuple[list[str], list[list[str]]]:
    """(attacks that some row has, in the usual order; the cells of each row of the study that is finished)."""
    runs = {}  # row -> figures of its seeds; those of a run that was not finite have no accuracies
    for name, result in results.items():
        row = name.removeprefix("study_").rpartition("_seed")[0]
        if name.startswith("study_") and result["complete"]:
            runs.setdefault(row, []).append(result["figures"])
    found = {entry["name"] for some in runs.values() for run in some for entry in run.get("attacks", ())}
    attacks = [name for name in ATTACKS if name in found]
    cells = []
    for row in (name for name in NAMES if name in runs):
        seeds = runs[row]
        robust = [{entry["name"]: entry["robust_accuracy"] for entry in run.get("attacks", ())} for run in seeds]
        shares = [[run["clean"]["accuracy"] for run in seeds if "clean" in run]]
        shares += [[run[name] for run in robust if name in run] for name in attacks]
        epochs = ", ".join(dict.fromkeys(str(run["epochs"]) for run in seeds))
        cells.append([NAMES[row], str(len(seeds)), epochs, *(accuracy_cell(share, len(seeds)) for share in shares)])
    return attacks, cells


def main(arguments: Sequence[str] | None = None) -> None:
    parser = errors.Parser("report.accelerator", __doc__)
    parser.add_argument("folder", nargs="?", default=RESULTS, help=f"of the result files; default: {RESULTS}")
    parser.add_argument("--into", help="file whose table is replaced; without it the tables are printed")
    with errors.exit_codes():
        options = parser.parse_args(arguments)
        text = render(read(options.folder))
        if not options.into:
            print(text)
            return
        markers.write_into(options.into, "accelerator", text)
    print(f"written: the table accelerator in {options.into}")


if __name__ == "__main__":
    main()
