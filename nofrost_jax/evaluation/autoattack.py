"""Robustness of any JAX function of images in [0, 1]: the engine on arrays in memory."""

import contextlib
import dataclasses
import functools
import numbers
import os
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from nofrost_jax import files, parallel, progress
from nofrost_jax.attacks import inputs
from nofrost_jax.attacks.inputs import LogitsFn
from nofrost_jax.classifier import Classifier, frozen
from nofrost_jax.evaluation import protocols, results, table
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.outcomes import COLUMNS
from nofrost_jax.evaluation.programs import Programs
from nofrost_jax.evaluation.protocols import Protocol

CHUNK_SIZE = 2048
_NEVER = types.SimpleNamespace(requested=lambda: False, local=True)  # in a notebook, Ctrl-C ends it as anything else


def autoattack(
    logits_fn: LogitsFn,
    images: ArrayLike,
    labels: ArrayLike,
    epsilon: float = 8 / 255,
    protocol: str = "aa_standard",
    seed: int = 0,
    batch_size: int = 256,
    folder: str | os.PathLike | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Robust accuracy of any JAX function under standard AutoAttack, or another protocol, as an evaluation of a run.

    logits_fn: images, float32 [n, H, W, C] in [0, 1] -> logits, float [n, K]; normalization is inside, no image's
    logits depend on another's. A `Classifier`, or another pytree of arrays that can be called, e.g. an Equinox module
    or `jax.tree_util.Partial(apply, variables)`, compiles faster than a function that closes over large arrays. A
    Classifier's kernels are standardized once, in float64, so its logits may differ in their last bits.
    images: [N, H, W, C], uint8 or float in [0, 1]; those of 8 bits are attacked as such. labels: int [N].
    epsilon: l-infinity radius on the [0, 1] scale.
    protocol: `aa_standard`, `aa_fast_20`, `aa_few_classes`, or an attack of `attacks.NAMES` as it is by default.
    seed: of all random numbers; an image's own depend only on this and its place in `images`.
    batch_size: images that are attacked together over this process's devices.
    folder: where outcomes are kept; the same call continues there after a kill, also with another batch size. Several
    processes must all make the same call, and share the folder. quiet: print nothing.

    Returns a dict as in a run's evaluations/NAME.json ("clean", "attacks", "worst_case", "flags", ...; accuracies with
    95 % intervals), and "rows": {"clean" | the protocol | each of its attacks: {name: array [N]}}. There "robust" is
    True where an image is right when clean, and neither this attack nor one before it fooled the function.

    Raises ValueError for arguments that do not fit, with their shapes, dtypes or values.
    """
    images, labels = _arrays(images, labels)
    batch_size, seed = _whole("batch_size", batch_size, 1), _whole("seed", seed, 0)
    if jax.process_count() > 1 and not folder:
        raise ValueError("with several processes give a folder that all of them share")
    devices = parallel.Devices(tuple(jax.local_devices()))
    share = -(-min(batch_size, len(images)) // len(devices.local))
    classes = inputs.count_classes(logits_fn, jax.ShapeDtypeStruct((share, *images.shape[1:]), np.float32))
    _check_values(images, labels, classes)
    protocol = _protocol(protocol, epsilon, classes)
    fn, variables, freeze = _as_program(logits_fn)
    programs = Programs({"float32": fn}, classes, devices, share * len(devices.local), freeze)
    start = time.perf_counter()
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        net = {"function": _sha256(fn, variables, (1, *images.shape[1:]), protocol) if folder else ""}
        evaluator = Evaluator(programs, Arrays(images, labels), net, seed, protocols=(protocol,))
        outcomes = evaluator.run(variables, _NEVER, place, progress=not quiet)
    summary = results.summarize(evaluator.protocols, outcomes, classes, programs.compile_seconds)
    n, settings = len(images), results.circumstances(programs.batch_size, evaluator.images.chunk_size)
    result = {
        "schema": 1,
        "name": protocol.name,
        "dataset": {
            "source": "arrays",
            "split": "given",
            "n": n,
            "of": n,
            "choice": "all",
            "label_set": f"{classes} classes",
        },
        "precision": "verdict float32 highest, attacks float32",
        "seed": seed,
        **settings,
        **summary,
    }
    if not quiet:
        print(table.render(result))
        print(f"({progress.duration(time.perf_counter() - start)})", flush=True)
    return result | {"rows": _rows(protocol, outcomes)}


class Arrays:
    """Images in memory, a set. count: how many; chunk_size: how many are attacked at once."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self._images, self._labels, self.count = images, labels, len(images)
        self.chunk_size = min(CHUNK_SIZE, -(-self.count // jax.process_count()))

    def batches(self, size: int, process: int, processes: int, wanted: Callable[[int], bool]) -> Iterator[dict]:
        """As `Dataset.eval_batches`."""
        share = size // processes
        for turn in range(-(-self.count // size)):
            first = turn * size + process * share
            if wanted(turn):
                index = np.arange(first, min(first + share, self.count), dtype=np.int32)
                found = {"image": self._images[index], "label": self._labels[index], "index": index}
                yield found | {"mask": np.ones(len(index), bool)}

    def ranks(self) -> np.ndarray:
        return np.arange(self.count)

    def identity(self) -> dict[str, Any]:
        """What makes these images and labels different from others, plain values."""
        kind = f"{self._images.dtype} {self._images.shape}"
        return {"data": [kind, files.sha256(self._images, self._labels)]}


def _arrays(images: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 or float32 [N, H, W, C], int32 [N]) on the host. Raises ValueError for other dtypes and shapes."""
    images, labels = inputs.as_array(images, "images", np.asarray), inputs.as_array(labels, "labels", np.asarray)
    inputs.check_pair(images, labels, may_be_pixels=True)
    images, labels = np.asarray(images), np.asarray(labels, np.int32)
    if not len(images):
        raise ValueError(f"there are no images: shape {images.shape}")
    return images if images.dtype == np.uint8 else _as_pixels(images.astype(np.float32)), labels


def _whole(name: str, value: Any, least: int) -> int:
    """`value` as an int. Raises ValueError unless it is a whole number, at least `least` and below 2**32."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) < 2**32:
        raise ValueError(f"{name} must be a whole number from {least} to {2**32 - 1}, got {value!r}")
    return int(value)


def _as_pixels(images: np.ndarray) -> np.ndarray:
    """Float images in [0, 1] as uint8 where they are 8-bit images, up to rounding; otherwise as they are."""
    with np.errstate(invalid="ignore"):
        pixels = np.round(images * np.float32(255)).astype(np.uint8)
    return pixels if (np.abs(images - pixels / np.float32(255)) <= inputs.SLACK).all() else images


def _check_values(images: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Raises ValueError for pixels outside [0, 1] and labels that are not classes."""
    for first in range(0, len(images), CHUNK_SIZE):
        some = images[first : first + CHUNK_SIZE]
        some = jnp.zeros((len(some), 1, 1, 1)) if some.dtype == np.uint8 else jnp.asarray(some)
        inputs.good(some, jnp.asarray(labels[first : first + CHUNK_SIZE]), classes)


def _protocol(name: str, epsilon: float, classes: int) -> Protocol:
    radius = round(255 * float(epsilon), 9)
    protocol = protocols.make(name, {"name": name, "epsilon_255": radius, "protocol": name})
    for member in protocol.members:
        try:
            member.attack.check_classes(classes)
        except ValueError as error:
            raise ValueError(f"{error}; protocol='aa_few_classes' is for 2 and 3") from error
    return protocol


def _as_program(logits_fn: LogitsFn) -> tuple[Callable, Any, Callable]:
    """(`fn(variables, images)`, variables, `freeze(variables)`) of `logits_fn`: where it is a pytree of arrays they are
    its variables, otherwise they are ()."""
    freeze = lambda variables: variables  # noqa: E731
    if isinstance(logits_fn, Classifier):  # the engine has checked its images
        logits_fn = dataclasses.replace(logits_fn, inputs_are_checked=True)
        freeze = lambda net: dataclasses.replace(net, variables=frozen(net.model, net.variables))  # noqa: E731
    leaves = jax.tree.leaves(logits_fn)
    if leaves and all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves):
        return lambda variables, images: variables(images), logits_fn, freeze
    return lambda variables, images: logits_fn(images), (), freeze


def _sha256(fn: Callable, variables: Any, shape: tuple[int, ...], protocol: Protocol) -> str:
    """A hash of the lowered function with its constants and, if the attacks need it, its gradient."""

    def traced(variables, images):
        logits, pull = jax.vjp(functools.partial(fn, variables), images)
        return pull(logits)

    needed = any(member.attack.passes(10)[1] for member in protocol.members)
    images = jax.ShapeDtypeStruct(shape, np.float32)
    return files.sha256(jax.jit(traced if needed else fn).lower(variables, images).as_text())


def _rows(protocol: Protocol, outcomes: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """{"clean", each attack, the protocol: {name: array [N]}}."""
    outcome = outcomes["protocols"][protocol.name]
    found = {"clean": {name: outcomes[name] for name in ("index", "label", "correct", "nan")}}
    for member, rows in zip(protocol.members, outcome["members"], strict=True):
        found[member.name] = {name: rows[name] for name in COLUMNS} | {"robust": rows["survivors"]}
    whole = {name: outcome[name] for name in ("robust", "robust_uint8")}
    return found | {protocol.name: found.get(protocol.name, {}) | whole}
