"""What the parity tests share: deterministic weights by tensor name, and timm itself where PyTorch is installed."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
import zlib
from types import ModuleType

import jax
import numpy as np

from nofrost_jax import models
from nofrost_jax.convert.timm import timm_key

# The allowed error, as a fraction of the largest logit or of the largest input gradient; float32 and float64.
TOLERANCE = 2e-5
FLOAT64_TOLERANCE = 1e-10


def stream(name: str) -> np.random.RandomState:
    """Random numbers that depend on a name alone. RandomState, because NumPy promises never to change its streams."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def as_if_trained(path: str, shape: tuple) -> np.ndarray:
    """A leaf of our variables like a trained net's: no dead branch, running statistics that are not a fresh net's."""
    z = stream(path).standard_normal(shape)
    if path.endswith("kernel"):
        return z * (2 / np.prod(shape[:-1])) ** 0.5
    if path.endswith("var"):
        return np.exp(0.3 * z)
    return 0.1 * z if path.endswith(("bias", "mean")) else 1 + 0.3 * z


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight `name` of timm's network, with no dead branch: gains and scales are 1 + 0.3 z, biases 0.1 z.

    Kernels are z * sqrt(s / fan_in), s = 1 (2 for networks with batch normalization); running variances are uniform
    in [0.5, 1.5], running means 0.1 z.
    """
    draw = stream(name)
    if name.endswith("running_var"):
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    z = draw.standard_normal(shape)
    if name.endswith(("bias", "running_mean")):
        z = 0.1 * z
    elif name.endswith("gain") or len(shape) == 1:
        z = 1 + 0.3 * z
    else:
        normalizer_free = name.startswith(("stem.", "stages.", "head."))
        z = z * ((1 if normalizer_free else 2) / np.prod(shape[1:])) ** 0.5
    return z.astype(np.float32)


def torch_shapes(model) -> dict[str, tuple[int, ...]]:
    """Name and PyTorch shape of every tensor that timm's network of the same kind has, counters left out."""
    shapes = models.abstract_variables(model, 64)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        path = tuple(entry.key for entry in path)[1:]
        shape = leaf.shape
        if path[-1] == "kernel":
            shape = tuple(shape[i] for i in ((3, 2, 0, 1) if len(shape) == 4 else (1, 0)))
        elif path[-1] == "gain":
            shape = (*shape, 1, 1, 1)
        found[timm_key(path, normalizer_free=not model.has_batch_stats)] = shape
    return found


def state_dict(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def inputs(size: int, classes: int, batch: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Normalized images [N, size, size, 3] and the logit weights [N, classes] whose product is differentiated."""
    images = stream(f"images {size}").standard_normal((batch, size, size, 3))
    weights = stream(f"weights {classes}").standard_normal((batch, classes))
    return images.astype(np.float32), weights.astype(np.float32)


def float32_logits(model, variables, images) -> np.ndarray:
    """Logits in eval mode."""
    return np.asarray(jax.jit(model.apply)(variables, images))


def float64_logits_and_input_gradient(model, variables, images, weights) -> tuple[np.ndarray, np.ndarray]:
    """Logits in eval mode and the gradient of sum(weights * logits) with respect to the images, all in float64.

    In float32 two correct networks disagree by percents of the largest gradient whenever rounding moves one ReLU's
    input across zero, which happens to one image in a few; in float64 it does not happen.
    """

    def weighted(x, variables, weights):
        logits = model.clone(dtype=np.dtype("float64")).apply(variables, x)
        return (weights * logits).sum(), logits

    with jax.enable_x64(True):
        compiled = jax.jit(jax.grad(weighted, has_aux=True))
        gradient, logits = compiled(images.astype(np.float64), variables, weights.astype(np.float64))
        return np.asarray(logits), np.asarray(gradient)


def torch_float64_logits_and_input_gradient(net, images, weights) -> tuple[np.ndarray, np.ndarray]:
    """The same of a PyTorch network on the same NHWC arrays; the network is float64 afterwards."""
    import torch

    x = torch.from_numpy(images).double().permute(0, 3, 1, 2).contiguous().requires_grad_()
    logits = net.double().eval()(x)
    (gradient,) = torch.autograd.grad((torch.from_numpy(weights) * logits).sum(), x)
    return logits.detach().numpy(), gradient.permute(0, 2, 3, 1).numpy()


def timm_network(timm, name: str, weights: dict[str, np.ndarray], classes: int):
    """timm's network `name` with the given weights."""
    import torch

    net = timm.create_model(name, num_classes=classes)
    tensors = {key: torch.from_numpy(value) for key, value in weights.items()}
    counters = {key: value for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")}
    net.load_state_dict(tensors | counters, strict=True)
    return net


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


class _PlaceholderType(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _PlaceholderModule(types.ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, _PlaceholderType(name, (), {}))
        return self.__dict__[name]


class _PlaceholderFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a `torchvision` whose every name is an empty class."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _PlaceholderModule(spec.name)

    def exec_module(self, module):
        module.__path__ = []


def import_timm() -> ModuleType:
    """timm. It imports torchvision at its top, for transforms and for a frozen batch normalization that its ResNets
    do not use; where torchvision is not installed, or not for this build of PyTorch, empty classes stand in for it
    during the import. Raises ImportError without PyTorch or timm."""
    importlib.import_module("torch")
    finder = None if importlib.util.find_spec("torchvision") else _PlaceholderFinder()
    if finder:
        sys.meta_path.append(finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("timm")
    finally:
        if finder:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
