"""The figures that the README gives for the digits: the default run on three seeds, and standard training.

    python benchmarks/digits.py

Runs `main.py` as a user would, cold, in a temporary folder, and writes benchmarks/results/digits.json. Other
arguments, --config.FIELD=VALUE, go to `main.py`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import ROOT, parser, save_result

RUNS = (("nofrost", 0), ("nofrost", 1), ("nofrost", 2), ("st", 0))


def run(row: str, seed: int, folder: str, more: list[str]) -> dict:
    """A run's seconds, from the command to its end, and its evaluation result. more: arguments of main.py."""
    workdir = f"{folder}/{row}_{seed}"
    command = [sys.executable, "main.py", f"--config=configs/digits.py:{row}", f"--config.seed={seed}", *more]
    start = time.perf_counter()
    subprocess.run([*command, f"--workdir={workdir}"], cwd=ROOT, check=True)
    seconds = time.perf_counter() - start
    result = json.loads(pathlib.Path(f"{workdir}/evaluations/final.json").read_text())
    attacks = {entry["name"]: entry["robust_accuracy"] for entry in result["attacks"]}
    return {
        "command": " ".join(["python", *command[1:]]),
        "row": row,
        "seed": seed,
        "seconds": round(seconds, 1),
        "clean": result["clean"]["accuracy"],
        **attacks,
        "epsilon_255": result["attacks"][0]["epsilon_255"],
        "n": result["clean"]["n"],
        "params_sha256": result["checkpoint"]["params_sha256"],
        "versions": result["versions"],
    }


def main() -> None:
    options, more = parser(__doc__).parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [run(row, seed, folder, more) for row, seed in RUNS]
    rows = {}
    for row in dict(RUNS):
        chosen = [one for one in runs if one["row"] == row]
        columns = [name for name, value in chosen[0].items() if isinstance(value, float) and name != "epsilon_255"]
        rows[row] = {name: float(np.mean([one[name] for one in chosen])) for name in columns}
        rows[row]["seeds"] = len(chosen)
        shown = "  ".join(f"{name} {rows[row][name]:.4f}" for name in columns if name != "seconds")
        print(f"{row:8} {shown}  {rows[row]['seconds']:.0f} s  (mean of {len(chosen)})")
    save_result(options.output, "digits.json", {"cores": os.cpu_count(), "means": rows, "runs": runs})


if __name__ == "__main__":
    main()
