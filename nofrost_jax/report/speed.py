"""Tables of an accelerator's speed, from the results of the queue's tasks `train_step`, `torch_step` and `profile`.

    python -m nofrost_jax.report.speed             of benchmarks/results/accelerator
    python -m nofrost_jax.report.speed FOLDER

`nofrost_jax.report.accelerator` shows them with all other tasks. Exit codes as in `nofrost_jax.report.study`.
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from nofrost_jax import errors
from nofrost_jax.tables import markdown

RESULTS = "benchmarks/results/accelerator"
NONE = (
    "No accelerator has been measured yet; on one, `python benchmarks/accelerator.py --minutes=9 --data=FOLDER` "
    "measures what waits for it (FOLDER: CIFAR-10 as JPEGs in `train/CLASS` and `test/CLASS`)."
)
Results = Mapping[str, Mapping[str, Any]]  # {task: what it measured}, of one device

NETS = {"nf_resnet50": "NF-ResNet50", "resnet50": "ResNet50, BN"}
PROGRAMS = {  # of train_step, then of torch_step
    "bfloat16": "ours, bfloat16",
    "float32": "ours, float32",
    "plain": "PyTorch, plain",
    "tuned": "PyTorch, tuned",
}
STEP_NOTE = (
    "The PGD-10 adversarial training step at 224 pixels; clean images a second, medians, without compilation, and the "
    "most that the kernels of our program allow on an H100 (`benchmarks/gpu_program.py`, before any was measured); of "
    "PyTorch, Compile is the first step, which compiles. float32 may use TF32. "
    "PyTorch's plain loop is written as the authors', its tuned one has bfloat16 and `torch.compile`. Memory: what XLA "
    "planned for our program, the peak of PyTorch's allocations. Operations are counted from the passes; their rate is "
    "divided by a large matrix product's in the same dtype. Parts: ten input gradients and one parameter gradient of "
    "twice the images."
)
OPTIONS_NOTE = (
    "The attack of that step for NF-ResNet50 in bfloat16, alone and computed in other ways (`benchmarks/options.py`); "
    "predicted: the ratio of the bounds that `benchmarks/gpu_program.py` finds for an H100."
)
PROFILE_NOTE = "The ten most expensive operations of a step, in % of the time in which the device was busy."


def read(folder: str | os.PathLike) -> dict[str, Results]:
    """{device: {task: result}} of a folder of result files, by name. Raises UserError for one that is none."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*/*.json")):
        try:
            result = json.loads(path.read_text())
            result["complete"], result["figures"]
        except (OSError, ValueError, KeyError, TypeError):
            raise errors.UserError(
                f"{path} is not a result of benchmarks/accelerator.py; give the folder that it wrote to"
            ) from None
        found.setdefault(result.get("device", path.parent.name), {})[path.stem] = result
    return found


def tables(results: Results) -> list[tuple[list[str], list[list[str]], str]]:
    """[(head, rows, note)] of what a device's {task: result} has, all cells text."""
    found = []
    if rows := step_rows(results):
        head = "Net; Program; Batch; Images/s; Bound on an H100; Memory, GiB; Of the matrix rate, %; Step / parts; "
        found.append(((head + "Compile, s; From cache, s").split("; "), rows, STEP_NOTE))
    if rows := option_rows(figures(results, "options")):
        found.append((["The attack", "ms", "Time / own way", "Predicted"], rows, OPTIONS_NOTE))
    if operations := figures(results, "profile").get("operations"):
        rows = [[row["operation"], f"`{row['scope'] or '?'}`", f"{100 * row['share']:.1f}"] for row in operations]
        found.append((["Operation", "Where", "Share, %"], rows, PROFILE_NOTE))
    return found


def figures(results: Results, task: str) -> dict[str, Any]:
    return results.get(task, {}).get("figures", {})


def step_rows(results: Results) -> list[list[str]]:
    """A row for each net, batch size and program that was measured or did not fit."""
    measured = figures(results, "train_step") | figures(results, "torch_step")
    rows = {}
    for name, figure in measured.items():
        net, program, batch = (*name.split(" "), "", "")[:3]
        if net in NETS and program in PROGRAMS and name == f"{net} {program} {batch}":
            order = list(NETS).index(net), int(batch), list(PROGRAMS).index(program)
            parts = measured.get(f"{name} parts", {})
            rows[order] = [NETS[net], PROGRAMS[program], batch, *step_cells(figure, parts)]
    return [rows[order] for order in sorted(rows)]


def step_cells(figure: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    """The cells of a row; "–" where nothing was measured."""
    for sign, text in (("out_of_memory", "too large"), ("failed", "failed")):
        if sign in figure:
            return [text, "–", "–", "–", "–", "–", "–"]
    memory = figure["memory"]["program_bytes"] if "memory" in figure else figure["peak_bytes"]
    cold = figure["compile_seconds"] if figure.get("compilation") == "cold" else figure.get("first_step_seconds")
    values = (
        (figure["images_per_second"], ".0f"),
        (figure.get("bound_on_h100"), ".0f"),
        (memory and memory / 2**30, ".1f"),
        ("share_of_matrix_rate" in figure and 100 * figure["share_of_matrix_rate"], ".0f"),
        (parts.get("step_over_parts"), ".2f"),
        (cold, ".0f"),
        (parts.get("cached_compile_seconds"), ".0f"),
    )
    return [format(value, unit) if value else "–" for value, unit in values]


def option_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """A row for each way to compute the attack that was measured."""
    rows = []
    for name, figure in found.items():
        if "seconds" in figure and name != "input gradient":
            ratio = figure.get("over_own_way"), figure.get("predicted_over_own_way")
            cells = [f"{1e3 * figure['seconds']['median']:.1f}", *(f"{value:.3f}" if value else "–" for value in ratio)]
            whole = f" ({figure['over_parts']:.3f} of ten input gradients)" if "over_parts" in figure else ""
            rows.append([name + whole, *cells])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = errors.Parser("report.speed", __doc__)
    parser.add_argument("folder", nargs="?", default=RESULTS, help=f"of the result files; default: {RESULTS}")
    with errors.exit_codes():
        found = read(parser.parse_args(arguments).folder)
        parts = [part for device, results in found.items() for part in _sections(device, results)]
        print("\n\n".join(parts) or NONE)


def _sections(device: str, results: Results) -> list[str]:
    parts = [part for head, rows, note in tables(results) for part in (markdown(head, rows), note)]
    return [f"**{device}**", *(parts or ["Nothing on speed was measured here."])]


if __name__ == "__main__":
    main()
