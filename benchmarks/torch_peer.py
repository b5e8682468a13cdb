"""The other side of the comparison in `attacks`: the same NF-ResNet in PyTorch, and pyautoattack on it."""

import contextlib
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from nofrost_jax.classifier import Classifier
from nofrost_jax.models.blocks import block_specs
from nofrost_jax.models.nf_resnet import ALPHA, activation_scales
from nofrost_jax.models.standardized import standardize


def twin(classifier: Classifier, device: str):
    """The NF-ResNet of a Classifier in PyTorch: NCHW in [0, 1] -> logits; kernels are standardized beforehand."""
    import torch
    from torch.nn import functional

    params = jax.device_get(classifier.variables["params"])
    specs = block_specs(classifier.model.stage_sizes, classifier.model.width, 0.0)

    def tensor(array):
        return torch.tensor(np.asarray(array), device=device)

    def fold(layer):
        kernel = np.asarray(standardize(jnp.asarray(layer["kernel"]), jnp.asarray(layer["gain"])))
        return tensor(kernel.transpose(3, 2, 0, 1)), tensor(layer["bias"])

    mean, std = (tensor(np.asarray(value, np.float32))[:, None, None] for value in (classifier.mean, classifier.std))
    stem, blocks = fold(params["stem"]), []
    for spec in specs:
        blocks.append({name: fold(layer) for name, layer in params[spec.name].items()})
    head = tensor(params["head"]["kernel"].T), tensor(params["head"]["bias"])

    def conv(x, layer, stride=1):
        return functional.conv2d(x, *layer, stride=stride, padding=layer[0].shape[-1] // 2)

    class Twin(torch.nn.Module):
        def forward(self, x):
            x = conv((x - mean) / std, stem)
            for spec, beta, layers in zip(specs, activation_scales(specs), blocks, strict=True):
                out = functional.relu(x) * beta
                if "shortcut" in layers:
                    x = conv(functional.avg_pool2d(out, 2) if spec.stride > 1 else out, layers["shortcut"])
                out = conv(out, layers["conv1"])
                out = conv(functional.relu(out), layers["conv2"], spec.stride)
                x = conv(functional.relu(out), layers["conv3"]) * ALPHA + x
            return functional.linear(functional.relu(x).mean((2, 3)), *head)

    return Twin().eval()


def to_torch(images: np.ndarray, labels: np.ndarray, device: str) -> tuple:
    """NHWC images in [0, 1] and labels as PyTorch's, NCHW."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return pixels.to(device), torch.from_numpy(labels.astype(np.int64)).to(device)


def logit_difference(net, images, classifier: Classifier, our_images: np.ndarray) -> float:
    """The largest between the logits of a PyTorch net and of a Classifier, of the same images."""
    import torch

    logits = jax.jit(lambda classifier, images: classifier(images))(classifier, our_images)
    with torch.no_grad():
        return float(np.abs(net(images).cpu().numpy() - np.asarray(logits)).max())


def attack(
    net, images, labels, chosen: list[str], epsilon: float, batch_size: int, seed: int, apgd_steps: int = 100
) -> dict[str, float]:
    """Seconds of pyautoattack's attacks `chosen` on a PyTorch net, and the robust accuracy. Its checks of the net (some
    forward passes of a batch) are inside its time; a run of a few steps beforehand, which warms PyTorch up, is not."""
    import torch
    from pyautoattack import AutoAttack

    peer = AutoAttack(net, norm="Linf", eps=epsilon, version="standard", seed=seed, device=images.device)
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        peer.attacks_to_run, peer.apgd.n_iter = ["apgd-ce"], 2
        peer.run_standard_evaluation(images[:batch_size], labels[:batch_size], batch_size=batch_size)
        peer.attacks_to_run, peer.apgd.n_iter = chosen, apgd_steps
        start = time.perf_counter()
        adversarial, _ = peer.run_standard_evaluation(images, labels, batch_size=batch_size)
        seconds = time.perf_counter() - start
    right = 0
    with torch.no_grad():
        for some, wanted in zip(adversarial.split(batch_size), labels.split(batch_size), strict=True):
            right += int((net(some).argmax(1) == wanted).sum())
    return {"pyautoattack": seconds, "peer_robust_accuracy": right / len(labels)}


def choose_threads(net, images) -> int:
    """Sets, and returns, the number of PyTorch's threads with which 20 forward passes are fastest here."""
    import torch

    seconds = {}
    for threads in {1, os.cpu_count() or 1}:
        torch.set_num_threads(threads)
        for _ in range(2):  # the first to warm up
            start = time.perf_counter()
            with torch.no_grad():
                for _ in range(20):
                    net(images)
            seconds[threads] = time.perf_counter() - start
    best = min(seconds, key=seconds.__getitem__)
    torch.set_num_threads(best)
    return best
