"""The most that the device can do: rates of large matrix products, and of copies in its memory.

    python -m benchmarks.tasks.ceiling --seconds=30 --output=FILE

A product's rate counts 2 n^3 operations, for chains of ten products of random matrices in one program. `float32` is
what a net computes in by default (TF32 on recent NVIDIA GPUs), `float32_highest` is true float32; each comes with its
error against float64. A copy counts the bytes read and the bytes written. Figures are medians over rounds.
"""

import functools
import math
import re
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import common

CHAIN = 10
KINDS = {  # dtype, precision, largest error that rounding explains
    "bfloat16": ("bfloat16", "default", 2e-2),
    "float32": ("float32", "default", 5e-3),
    "float32_highest": ("float32", "highest", 1e-4),
}
DATASHEETS = {  # dense 10^12 operations/s in bfloat16, and 10^12 bytes/s, as the vendor states them
    "H200": (989, 4.8),
    "H100": (989, 3.35),
    "A100": (312, 2.04),
}


def main() -> None:
    task = common.start("ceiling", __doc__)
    sizes, seconds = (128, 64) if task.rehearse else (8192, 4096), 0.1 if task.rehearse else 1.0
    work = work_of(sizes, (8,) if task.rehearse else (2048, 512), seconds)
    longest = 4.0
    for name, measure in work.items():
        if name not in task.figures and task.left() > longest:
            begun = time.perf_counter()
            task.record(name, measure())
            longest = max(longest, time.perf_counter() - begun)
    best = best_of(task.figures)
    if best.keys() < {*KINDS, "copy"}:  # with one of each it is complete, with or without the other sizes
        return
    task.record("best", best)
    task.record("notes", doubts(task.device, task.figures))
    units = f"TF/s: bf16 {best['bfloat16']:.3g}, f32 {best['float32']:.3g}, f32 highest {best['float32_highest']:.3g}"
    task.finish(f"{units}; copy {best['copy']:.3g} TB/s")


def work_of(sizes, copies, seconds):
    """{name of a figure: function that measures it}, the most wanted first: one of each kind, then other sizes."""

    def product(kind, size):
        return {f"matmul_{kind}_{size}": lambda: matmul(kind, size, seconds)}

    def copied(size):
        return {f"copy_{size}_MiB": lambda: copy(size << 20, seconds)}

    large, small = sizes
    work = product("bfloat16", large) | copied(copies[0])
    work |= product("float32", large) | product("float32_highest", large)
    work |= product("bfloat16", small) | product("bfloat16", 2 * large)
    for size in copies[1:]:
        work |= copied(size)
    return work


def best_of(figures):
    """{kind: the highest rate of its sizes} of the kinds that were measured, and of copies."""
    best = {}
    for name, figure in figures.items():
        kind = "copy" if name.startswith("copy_") else name.removeprefix("matmul_").rpartition("_")[0]
        if kind in (*KINDS, "copy"):
            unit = "tera_bytes_per_second" if kind == "copy" else "tera_operations_per_second"
            best[kind] = max(best.get(kind, 0.0), figure[unit])
    return best


def matmul(kind, size, seconds=1.0):
    """{"tera_operations_per_second", "seconds" of a product, "rounds", "relative_error"} of a kind in KINDS."""
    dtype, precision, _ = KINDS[kind]
    product = functools.partial(jnp.matmul, precision=precision)
    left, right = (jax.random.normal(key, (size, size), dtype) for key in jax.random.split(jax.random.key(0)))
    right = right / math.sqrt(size)  # keeps a product's entries at variance 1

    @jax.jit
    def chain(x, right):
        for _ in range(CHAIN):
            x = product(x, right)
        return x

    block = jax.jit(product)(left, right)[:8, :64]
    exact = np.asarray(left[:8], np.float64) @ np.asarray(right[:, :64], np.float64)
    error = np.linalg.norm(np.asarray(block, np.float64) - exact) / np.linalg.norm(exact)
    taken = repeat(lambda: chain(left, right), seconds)
    each = float(np.median(taken)) / CHAIN
    return {
        "tera_operations_per_second": 2 * size**3 / each / 1e12,
        "seconds": each,
        "rounds": len(taken),
        "relative_error": float(error),
    }


def copy(size, seconds=1.0):
    """{"tera_bytes_per_second", ...} of an array of `size` bytes: plainly copied, or read, changed and written; the
    better one."""
    array = jax.random.normal(jax.random.key(0), (size // 4,), jnp.float32)
    rates = {}
    for name, function in (("plain", jnp.copy), ("changed", lambda x: x + 1)):
        program = jax.jit(function)

        def ten(program=program):
            for _ in range(CHAIN):
                out = program(array)  # the queue is never empty, and one output at a time is alive
            return out

        rates[name] = 2 * size * CHAIN / float(np.median(repeat(ten, seconds / 2))) / 1e12
    return {"tera_bytes_per_second": max(rates.values()), **rates}


def repeat(function, seconds, most=200):
    """Seconds of each of five to `most` calls, about as many as fit `seconds`; two untimed calls first."""
    common.timed(function)
    (once,) = common.timed(function)
    return common.timed(function, min(most, max(5, int(seconds / once))))


def doubts(device, figures):
    """What cannot be: an error beyond rounding, a rate beyond the vendor's."""
    found = []
    for name, figure in figures.items():
        kind = name.removeprefix("matmul_").rpartition("_")[0]
        if kind in KINDS and not figure["relative_error"] < KINDS[kind][2]:
            found.append(f"{name}: relative error {figure['relative_error']:.3g}")
    matches = [rates for part, rates in DATASHEETS.items() if re.search(part, device)]
    for operations, byte_rate in matches[:1]:
        if figures["best"]["bfloat16"] > operations or figures["best"]["float32"] > operations:
            found.append(f"faster than the vendor's {operations} 10^12 operations/s")
        if figures["best"]["copy"] > byte_rate:
            found.append(f"faster than the vendor's {byte_rate} 10^12 bytes/s")
    return found


if __name__ == "__main__":
    main()
