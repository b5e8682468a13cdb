"""The other side of `train_step --peer`: the same step in eager PyTorch with timm's net, in a process of its own.

A process of its own, because the threads of PyTorch and of XLA would wait for each other.
"""

import subprocess
import sys
import time
from typing import Any

from benchmarks import ROOT

LAYOUTS = ("NCHW", "channels_last")


def worker(options, layout):
    """(the process, a function that makes it run one step and returns the seconds)."""
    arguments = [options.model, options.image_size, options.batch_size, layout, *options.stage_sizes]
    command = [sys.executable, "-m", "benchmarks.torch_train", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run():
        process.stdin.write("step\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return process, run


def main() -> None:
    import os

    import numpy as np
    import timm
    import torch

    from benchmarks.tasks.torch_step import Step

    model, size, batch, layout, *stages = sys.argv[1:]
    field = "depths" if model.startswith("nf_") else "layers"
    options: dict[str, Any] = {field: tuple(map(int, stages))} if stages else {}
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    net = timm.create_model(model, **options)
    if layout == "channels_last":
        net = net.to(memory_format=torch.channels_last)
    step = Step(net, torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-5))
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (int(batch), int(size), int(size), 3), dtype=np.uint8))
    if layout == "NCHW":  # the step's own view of the pixels is channels_last
        pixels = pixels.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    labels = torch.from_numpy(rng.integers(0, 1000, int(batch)))
    for _ in sys.stdin:
        start = time.perf_counter()
        step(pixels, labels).item()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
