"""The PyTorch loops that the training step is compared with; tests/parity/test_step.py has the plain one and ours."""

import contextlib

import pytest

from benchmarks.tasks import torch_step
from tests.models import reference


def test_the_tuned_loop_takes_the_plain_step(monkeypatch):
    """But for compilation and bfloat16: the early backward pass and the frozen parameters change nothing."""
    torch, timm = pytest.importorskip("torch"), reference.import_timm()
    monkeypatch.setattr(torch, "compile", lambda net, **_: net)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    losses = {}
    for tuned in (False, True):
        torch.manual_seed(0)
        net = timm.create_model("resnet50", num_classes=10, **torch_step.TINY["resnet50"]).double()
        step = torch_step.Step(net, torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), tuned, steps=2)
        pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
        losses[tuned] = [step(pixels, torch.arange(4)).item() for _ in range(3)]
        assert all(parameter.requires_grad for parameter in net.parameters()) and net.training
    torch.set_num_threads(threads)
    assert losses[True] == pytest.approx(losses[False], rel=1e-6)
    assert losses[True][2] < 0.9 * losses[True][0]
