"""What a run costs on a given machine, on paper: a roofline for the passes, a ring for what devices tell each other.

Nothing is compiled, and no device of the kind is needed. The shares of the published peaks are assumptions; what others
published of ResNet-50 is compared in docs/performance.md, "Scale on paper". No run of this code was measured.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nofrost_jax import costs, methods
from nofrost_jax.accelerators import Machine, hosts_of
from nofrost_jax.methods import at
from nofrost_jax.methods.augmented import TERMS
from nofrost_jax.tables import aligned

COMPUTE, MEMORY, LINK = 0.5, 0.4, 0.7  # assumed shares of the peaks that are reached
KERNEL, PER_CONVOLUTION = 4e-6, 3  # seconds that a kernel takes at least; kernels of a convolution and what follows it
TOUCHED = 4  # how often a forward pass reads or writes a convolution's output: by it, by what follows, by the next


@dataclasses.dataclass(frozen=True)
class Net:
    """Of one image's forward pass: floating-point operations, values that convolutions write, convolutions. parameters
    and statistics: bytes. residuals: bytes that an image keeps for the backward pass."""

    flops: float
    values: int
    convolutions: int
    parameters: int
    statistics: int
    residuals: int


def measure(model: nn.Module, variables: Any, size: int) -> Net:
    """A net's figures, from shapes alone."""
    with costs.xla_convolutions():
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        traced = jax.make_jaxpr(lambda variables, x: model.apply(variables, x, train=False))(variables, images)
        written = list(_convolution_outputs(traced.jaxpr))
        flops, residuals = costs.forward_flops(model, variables, size), costs.residual_bytes(model, variables, size)
    stored = costs.bytes_of(variables["params"]), costs.bytes_of(variables.get("batch_stats", {}))
    return Net(flops, sum(written), len(written), *stored, residuals)


def _convolution_outputs(jaxpr: Any) -> Iterator[int]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation.outvars[0].aval.size
        for inner in equation.params.values():
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from _convolution_outputs(getattr(inner, "jaxpr", inner))


def reduced_bytes(config: ConfigDict, net: Net, devices: int) -> int:
    """Bytes that each device adds up with the others in a training step, but for metrics, which take 8 bytes each: the
    gradients of each update, the running statistics once for each term of the loss, and, if groups of batch norm span
    devices, mean and variance in each train-mode forward and their gradients in its backward."""
    method = methods.TABLE[config.method.name]
    updates, (*_, backwards) = method.updates(config), method.passes(config)
    if devices == 1:
        return 0
    total = updates * (net.parameters + net.statistics * _terms(config))
    group, shard = config.model.bn_group_size, config.batch_size // devices
    if net.statistics and (group == "global" or int(group) > shard):
        trained = backwards + (config.method.name == "fast")  # its attack is in train mode
        moved = net.statistics // (2 if config.model.norm == "mbn" else 1)
        total += moved * (2 * trained + _is_statistics_only(config))
    return total


def _terms(config):
    """Terms of the loss (`methods.base.Loss`) of a net with batch statistics."""
    if config.method.name == "augmented":
        names = TERMS[config.method.terms]
        return 1 + ("adversarial" in names and len(names) > 1)
    return 1 + (config.method.name in ("at", "fat") and config.method.adversarial_weight > 0 and at.sees_clean(config))


def _is_statistics_only(config):
    """Whether the clean images pass for the statistics alone."""
    return config.method.name in ("at", "fat") and config.method.adversarial_weight == 1 and at.sees_clean(config)


def gathered_bytes(config: ConfigDict) -> int:
    """Bytes that every device has of all after a step: FreeAT's noise."""
    return 4 * config.batch_size * config.data.image_size**2 * 3 if config.method.name == "free" else 0


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds of a training step on a machine, and which of the limits ("compute", "memory", "kernels") holds."""

    passes: float
    limit: str
    update: float
    communication: float

    @property
    def seconds(self) -> float:
        return self.passes + self.update + self.communication


def step_on(config: ConfigDict, net: Net, machine: Machine) -> Step:
    """What a training step takes; communication does not overlap with the passes."""
    device, passes = machine.device, costs.step_passes(config)
    images = -(-config.batch_size // machine.devices)
    seconds = _pass_seconds(net, device, config.model.dtype, config.matmul_precision, images, config.accumulate)
    limit = max(seconds, key=seconds.get)
    views = methods.augmented.view_flops(config) * images / (COMPUTE * device.rate("float32", config.matmul_precision))
    updates = methods.TABLE[config.method.name].updates(config)
    update = updates * 5 * net.parameters / (MEMORY * device.bandwidth)  # reads three trees, writes two
    reduced = machine.ring_seconds(reduced_bytes(config, net, machine.devices), LINK)
    gathered = machine.ring_seconds(gathered_bytes(config), LINK) / 2
    return Step(passes * seconds[limit] + views, limit, update, reduced + gathered)


def _pass_seconds(net, device, dtype, precision, images, parts=1):
    """Seconds of a forward pass of `images` on one device, by each limit."""
    width = 2 if dtype == "bfloat16" else 4
    return {
        "compute": images * net.flops / (COMPUTE * device.rate(dtype, precision)),
        "memory": images * net.values * width * TOUCHED / (MEMORY * device.bandwidth),
        "kernels": parts * net.convolutions * PER_CONVOLUTION * KERNEL,
    }


def evaluation_hours(config: ConfigDict, net: Net, flops: float, machine: Machine) -> float:
    """Hours of an evaluation of `flops` operations at most; images are attacked in float32 at highest precision, or as
    `evaluation.attack_dtype` says."""
    images = max(config.evaluation.batch_size // machine.devices, 1)
    seconds = _pass_seconds(net, machine.device, config.evaluation.attack_dtype, "highest", images)
    return flops / net.flops / images / machine.devices * max(seconds.values()) / 3600


def memory_bytes(config: ConfigDict, net: Net, devices: int) -> float:
    """Bytes of a device: parameters, momentum, gradients, update, the sum of parts' gradients, activations."""
    images = costs.images_at_once(config, devices)
    return (4 + (config.accumulate > 1)) * net.parameters + net.residuals * images


def report(config: ConfigDict, net: Net, machine: Machine, steps: int | None, num_eval: int | None) -> Iterator[str]:
    """Lines on a training and its evaluation on `machine`, and on 8, 64 and 512 devices of its kind. steps, num_eval:
    None where the data is not known."""
    device, step = machine.device, step_on(config, net, machine)
    evaluated = costs.evaluation_costs(config, net.flops, num_eval)[1]
    reduced, gathered = reduced_bytes(config, net, machine.devices), gathered_bytes(config)
    yield f"on                 {machine}; assumed shares of the peaks: compute {COMPUTE}, memory {MEMORY}, links {LINK}"
    yield (
        f"  step             {step.seconds:.3g} s ({config.batch_size / step.seconds:,.0f} clean images/s): passes "
        f"{step.passes:.3g} s, by {step.limit}; update {step.update:.2g} s; communication {step.communication:.2g} s"
    )
    yield (
        f"  exchanged        {costs.gigabytes(reduced)} added up a step, by a ring"
        + f", {costs.gigabytes(gathered)} gathered" * bool(gathered)
    )
    needed = memory_bytes(config, net, machine.devices)
    fits = "of" if needed < 0.9 * device.memory else "- too much: see accumulate and model.remat - of"
    yield f"  memory           about {costs.gigabytes(needed)} {fits} {costs.gigabytes(device.memory)}"
    head = "devices", "images each", "step", "communication", "efficiency", "training", "device-hours", "evaluation"
    rows: list[tuple[str, ...]] = [head]
    alone = step_on(config, net, Machine(device, 1)).seconds
    for count in sorted({machine.devices, 8, 64, 512}):
        place = machine if count == machine.devices else Machine(device, count, hosts_of(device, count))
        if config.batch_size % count:
            rows.append((str(count), f"{config.batch_size} do not divide", *[""] * 6))
            continue
        one = step_on(config, net, place)
        hours = steps * one.seconds / 3600 if steps else None
        evaluation = evaluation_hours(config, net, evaluated, place)
        rows.append(
            (
                str(count),
                str(config.batch_size // count),
                f"{one.seconds:.3g} s",
                f"{one.communication / one.seconds:.0%}",
                f"{alone / count / one.seconds:.0%}",
                f"{hours:.3g} h" if hours else "unknown",
                f"{hours * count:.3g}" if hours else "unknown",
                f"{evaluation:.3g} h",
            )
        )
    yield from (f"  {line}" for line in aligned(rows, "><>>>>>>"))
    yield "  efficiency is against one device with the whole batch; an evaluation is faster where attacks succeed early"
