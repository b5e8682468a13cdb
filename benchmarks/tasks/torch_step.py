"""The same training step in PyTorch, with timm's nf_resnet50 and resnet50: what `train_step` is compared with.

    python -m benchmarks.tasks.torch_step --seconds=90 --output=FILE

Two loops, both over `Step`. `plain` is written as the authors': float32 (TF32 allowed), channels_last, the networks as
they are. `tuned` has autocast to bfloat16 and torch.compile, static shapes, no value read from the device within a
step, a fused optimizer, and the clean loss's backward pass before the attack, so that its activations are gone. Clean
images a second, peak memory, seconds of the first step, which compiles.
"""

import dataclasses
import itertools
import math
import os

import numpy as np

from benchmarks.tasks import common, rows
from benchmarks.train_step import summary

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 8 / 255
NETS, LOOPS, BATCHES = ("nf_resnet50", "resnet50"), ("plain", "tuned"), (128, 256, 64)
TINY = {  # timm's options of a net of four narrow blocks
    "nf_resnet50": {"depths": (1, 1, 1, 1), "channels": (32, 64, 128, 256), "stem_chs": 8},
    "resnet50": {"layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64)},
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A net in a loop at a batch size; in rehearsal a tiny one."""

    model: str
    loop: str
    batch_size: int
    rehearse: bool = False

    @property
    def name(self):
        return f"{self.model} {self.loop} {self.batch_size}"

    @property
    def program(self):
        return self.loop


def main() -> None:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # jax only says the device's name here
    task = common.start("torch_step", __doc__)
    if rows.work_through(task, work_of(task.rehearse)):
        task.finish(headline(task.figures))


def work_of(rehearse):
    """{name of a figure: (figures, row)}, the most wanted first. A rehearsal has one net."""
    batches, nets = ((4,), NETS[:1]) if rehearse else (BATCHES, NETS)
    every = [Row(net, loop, batch, rehearse) for batch, net, loop in itertools.product(batches, nets, LOOPS)]
    return {row.name: (figures, row) for row in every}


def figures(task, row):
    """What is said of a row."""
    import torch

    device = torch.device("cpu" if row.rehearse else "cuda")
    prepare(device)
    step, pixels, labels = make_step(row, device)
    losses = []

    def run():
        losses.append(step(pixels, labels))
        if device.type == "cuda":
            torch.cuda.synchronize()

    (first,) = common.timed(run)
    seconds = rows.seconds_of(run, row.rehearse)
    if not math.isfinite(losses[0].item()):
        raise RuntimeError(f"{row.name}: the first step's loss is {losses[0].item()}")
    return {
        "model": row.model,
        "loop": row.loop,
        "batch_size": row.batch_size,
        "images_per_second": row.batch_size / float(np.median(seconds)),
        "seconds": summary(np.array(seconds)),
        "first_step_seconds": first,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "loss": losses[0].item(),
    }


def prepare(device):
    """Settings of both loops; frees the device's memory and resets its peak."""
    import torch

    torch.manual_seed(0)
    torch.compiler.reset()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32; convolutions have it by default
        torch.backends.cudnn.benchmark = True
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        torch.set_num_threads(1)  # tiny products, and others use the machine


def make_step(row, device):
    """(Step, pixels, labels) of a row."""
    import timm
    import torch

    classes, size, changes = (10, 32, TINY[row.model]) if row.rehearse else (1000, 224, {})
    net = timm.create_model(row.model, num_classes=classes, **changes).to(device, memory_format=torch.channels_last)
    tuned, rate = row.loop == "tuned", 0.1 * row.batch_size / 256
    fused = tuned and device.type == "cuda"
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=5e-5, fused=fused)
    step = Step(net, optimizer, tuned, backend="aot_eager" if row.rehearse else "inductor")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (row.batch_size, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, row.batch_size)
    return step, torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)


class Step:
    """One step of Equation 1 at lambda 0.5 with PGD: `step(pixels, labels)` is its loss, a scalar on the device.

    pixels: uint8 [N, H, W, 3]; labels: int64 [N]. In the authors' order: the clean forward pass in train mode, the
    attack in evaluation mode, the adversarial forward pass in train mode. The step is in the net's own dtype.
    """

    def __init__(self, net, optimizer, tuned=False, backend="inductor", *, steps=10, step_size=1 / 255, smoothing=0.0):
        import torch

        self.torch, self.net, self.optimizer, self.tuned = torch, net, optimizer, tuned
        self.steps, self.step_size, self.smoothing = steps, step_size, smoothing
        self.call = torch.compile(net, backend=backend, dynamic=False) if tuned else net
        self.like = next(net.parameters()).detach()
        self.mean, self.std = (self.like.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))

    def loss(self, images, labels, smoothing=0.0):
        """Mean cross-entropy of images [N, 3, H, W] in [0, 1]."""
        with self.torch.autocast(self.like.device.type, self.torch.bfloat16, enabled=self.tuned):
            logits = self.call((images - self.mean) / self.std)
        return self.torch.nn.functional.cross_entropy(logits.to(self.like.dtype), labels, label_smoothing=smoothing)

    def attack(self, images, labels, points):
        """The last of PGD's iterates from `points`."""
        self.net.eval()
        self.net.requires_grad_(not self.tuned)  # a compiled backward pass would compute the parameters' gradient, too
        for _ in range(self.steps):
            points.requires_grad_()
            (gradient,) = self.torch.autograd.grad(self.loss(points, labels), points)
            moved = points.detach() + self.step_size * gradient.sign()
            points = (images + (moved - images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
        self.net.train()
        self.net.requires_grad_(True)
        return points

    def __call__(self, pixels, labels, start=None):
        images = pixels.permute(0, 3, 1, 2).to(self.like.dtype) / 255  # channels_last, as the pixels are
        if start is None:
            start = (images + self.torch.empty_like(images).uniform_(-EPSILON, EPSILON)).clamp(0, 1)
        self.optimizer.zero_grad(set_to_none=True)
        self.net.train()
        clean = 0.5 * self.loss(images, labels, self.smoothing)
        if self.tuned:
            clean.backward()
        adversarial = 0.5 * self.loss(self.attack(images, labels, start), labels, self.smoothing)
        (adversarial if self.tuned else clean + adversarial).backward()
        self.optimizer.step()
        return clean.detach() + adversarial.detach()


def headline(found):
    """All rates at the first batch size, and what did not fit."""
    rates = [f"{name}: {row['images_per_second']:.4g} images/s" for name, row in found.items() if "loss" in row]
    return "; ".join(rates[: len(NETS) * len(LOOPS)] + rows.shortfalls(found))


if __name__ == "__main__":
    main()
