"""The parity certificate: attacks and training methods against references, from the same starts, mostly in float64.

    python -m tests.parity                the whole certificate: versions, and the largest deviation of each attack
    python -m tests.parity apgd fab       some of its parts
    python -m tests.parity --json         the same as JSON lines, for programs

Each line says what was compared, the largest deviation that was seen, and the bound that it must not exceed. Deviations
of images are in units of the [0, 1] scale, those of masks and counts are numbers of images. Exit code 1 if a bound is
exceeded. Needs requirements-parity.txt (see CONTRIBUTING.md).
"""

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time

PARTS = {  # of tests/parity, each with `rows()`: what they are compared with
    "pgd_family": "torchattacks; CW: a loop of PyTorch",
    "apgd": "pyautoattack, attack_single_run",
    "fab": "pyautoattack, FABAttack_PT",
    "square": "pyautoattack, SquareAttack with a replayed stream",
    "rays": "a NumPy reference, one image at a time",
    "cascade": "pyautoattack, AutoAttack",
    "float32": "torchattacks and pyautoattack, in float32",
}
METHODS = {"methods": "PyTorch transcriptions of the published training steps"}  # needs PyTorch alone
PACKAGES = ("jax", "numpy", "torch", "torchattacks", "pyautoattack")


def configure():
    """Float64 in both frameworks; before JAX starts."""
    os.environ["JAX_ENABLE_X64"] = "1"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # The nets are tiny: level 1 halves the compile time, at the same speed afterwards. AVX has no fused multiply-add,
    # which PyTorch's separate operations do not use either: points come out equal to the last bit.
    flags = "--xla_backend_optimization_level=1 --xla_cpu_max_isa=AVX"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


def main(arguments):
    as_json = "--json" in arguments
    parts = PARTS | METHODS
    chosen = [name for name in arguments if name != "--json"] or list(parts)
    if unknown := sorted(set(chosen) - set(parts)):
        print(f"unknown: {', '.join(unknown)}; choose some of {', '.join(parts)}", file=sys.stderr)
        return 2
    configure()
    if not as_json:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
        print(f"Parity certificate, CPU; Python {platform.python_version()}, {versions}")
    begin, count, broken = time.monotonic(), 0, 0
    for part in chosen:
        if not as_json:
            print(f"\n{part}: against {parts[part]}\n  {'attack':14} {'what':62} {'deviation':>9} {'bound':>8}")
        for row in importlib.import_module(f"tests.parity.{part}").rows():
            row = row._replace(deviation=float(row.deviation), tolerance=float(row.tolerance))
            count, broken = count + 1, broken + (not row.ok)
            if as_json:
                print(json.dumps({"part": part, **row._asdict()}), flush=True)
            else:
                verdict = "" if row.ok else "  BROKEN"
                print(f"  {row.attack:14} {row.what:62} {row.deviation:9.2g} {row.tolerance:8.2g}{verdict}", flush=True)
    if not as_json:
        print(f"\n{count - broken} of {count} within their bounds, {time.monotonic() - begin:.0f} s")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
