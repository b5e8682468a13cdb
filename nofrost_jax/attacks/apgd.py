"""Auto-PGD (Croce & Hein, 2020b): PGD with momentum whose step halves, from the best point so far, when it stalls.

Untargeted on the cross-entropy or the DLR loss (`APGD`), and on the targeted DLR loss, class after class
(`TargetedAPGD`). Both follow the authors' code step by step, constants and quirks included.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, losses, threat
from nofrost_jax.keys import named

MOMENTUM = 0.75  # share of the new step in an update
RHO = 0.75  # share of increases in a window below which the step halves
LOSSES = {"ce": (losses.cross_entropy, 2), "dlr": (losses.dlr, 3)}  # and the classes that each needs


class _Loop(NamedTuple):
    """What one iteration passes to the next; every leaf has a row for each image."""

    points: jax.Array
    previous: jax.Array
    gradient: jax.Array
    loss: jax.Array
    size: jax.Array
    best: Any  # (points, gradient, loss)
    fooled: jax.Array
    adversarial: jax.Array
    increases: jax.Array
    loss_at_check: jax.Array
    halved_at_check: jax.Array
    blind: jax.Array


def schedule(steps: int | Array) -> tuple[int | Array, Callable]:
    """When the step may halve: (the first window, `following(window)`). After each window of iterations there is a
    check; windows shrink from 22 % to 6 % of the steps, by 3 %, in whole iterations (truncated)."""
    first, least, decrease = (jnp.maximum(percent * steps // 100, 1) for percent in (22, 6, 3))
    return first, lambda window: jnp.maximum(window - decrease, least)


def maximise(
    evaluate: Callable, images: Array, start: Array, epsilon: float | Array, steps: int | Array
) -> tuple[Array, ...]:
    """Maximises a loss over the l-infinity ball. `evaluate(points) -> (fooled, loss, gradient)`, the loss [N].

    images, start: [N, H, W, C]; start in [0, 1]. Returns (fooled [N], adversarial images: the latest fooled iterate or
    the start, loss and points of the best iterate, all_zero of the first gradient).
    """
    window, following = schedule(steps)
    count = len(images)

    def step(number, carry):
        loop, window, check = carry
        # The start is evaluated by the loop's own pass, number 0: one net to compile instead of two.
        is_start = number == 0
        share = jnp.where(number == 1, 1.0, MOMENTUM).astype(images.dtype)
        drift = loop.points - loop.previous
        moved = threat.project_box(loop.points + loop.size * jnp.sign(loop.gradient), images, epsilon)
        moved = loop.points + (moved - loop.points) * share + drift * (1 - share)
        moved = jnp.where(is_start, start, threat.project_box(moved, images, epsilon))
        wrong, loss, gradient = evaluate(moved)
        loss = loss.astype(images.dtype)
        better = is_start | (loss > loop.best[2])
        best = jax.tree.map(lambda new, old: base.select(better, new, old), (moved, gradient, loss), loop.best)
        loop = loop._replace(
            points=moved,
            previous=loop.points,
            gradient=gradient,
            loss=jnp.where(is_start, 0, loss),  # the reference compares its first iterate with an empty row
            best=best,
            fooled=loop.fooled | wrong,
            adversarial=base.select(wrong, moved, loop.adversarial),
            increases=loop.increases + (~is_start & (loss > loop.loss)),
            loss_at_check=jnp.where(is_start, loss, loop.loss_at_check),
            blind=jnp.where(is_start, base.all_zero(gradient), loop.blind),
        )
        due = number == check
        loop = _check(loop, due, window)
        window = jnp.where(due, following(window), window)
        return loop, window, jnp.where(due, check + window, check)

    none, no, blank = jnp.zeros(count, images.dtype), jnp.zeros(count, bool), jnp.zeros_like(start)
    loop = _Loop(
        points=start,
        previous=start,
        gradient=blank,
        loss=none,
        size=jnp.full((count, 1, 1, 1), 2 * epsilon, images.dtype),
        best=(start, blank, none),
        fooled=no,
        adversarial=start,
        increases=jnp.zeros(count, jnp.int32),
        loss_at_check=none,
        halved_at_check=~no,
        blind=no,
    )
    last, _, _ = jax.lax.fori_loop(0, steps + 1, step, (loop, window, window))
    return last.fooled, last.adversarial, last.best[2], last.best[0], last.blind


def _check(loop, due, window):
    """Where a check is `due`, halves the step and returns to the best point if the last `window` iterations stalled."""
    stalled = loop.increases <= RHO * window
    unchanged = ~loop.halved_at_check & (loop.loss_at_check >= loop.best[2])
    halve = due & (stalled | unchanged)
    return loop._replace(
        points=base.select(halve, loop.best[0], loop.points),  # `previous` stays: the reference does not reset it
        gradient=base.select(halve, loop.best[1], loop.gradient),
        size=base.select(halve, loop.size / 2, loop.size),
        increases=jnp.where(due, 0, loop.increases),
        loss_at_check=jnp.where(due, loop.best[2], loop.loss_at_check),
        halved_at_check=jnp.where(due, halve, loop.halved_at_check),
    )


@dataclasses.dataclass(frozen=True)
class APGD(base.Attack):
    """Untargeted APGD. epsilon: l-infinity radius on the [0, 1] scale. steps: iterations. loss: ce | dlr.

    restarts: random starts to try; each costs steps + 1 forward and backward passes. The DLR loss needs 3 classes.
    The result is the latest fooled iterate, or the image itself where there was none.
    """

    NUMBERS = base.STEPPED

    epsilon: float = 8 / 255
    steps: int = 100
    loss: str = "ce"
    restarts: int = 1

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon, self.steps, self.restarts)
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; choose one of {', '.join(LOSSES)}")

    @property
    def min_classes(self) -> int:
        return LOSSES[self.loss][1]

    def stages(self, num_classes: int) -> int:
        return self.restarts

    def passes(self, num_classes: int) -> tuple[int, int]:
        return self.restarts * (self.steps + 1), self.restarts * (self.steps + 1)

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        loss, _ = LOSSES[self.loss]
        return _restart(self, logits_fn, images, labels, keys, state, index, lambda logits: loss(logits, labels))


@dataclasses.dataclass(frozen=True)
class TargetedAPGD(base.Attack):
    """APGD on the targeted DLR loss: towards one runner-up class of the clean image after another, until it is fooled.

    targets: how many runner-up classes, fewer where there are fewer; 9 in AutoAttack. Any wrong prediction counts.
    Needs 4 classes. The other fields are APGD's. A target costs steps + 1 passes of both kinds and one more forward.
    """

    NUMBERS = base.STEPPED

    epsilon: float = 8 / 255
    steps: int = 100
    targets: int = 9
    restarts: int = 1

    min_classes = 4

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon, self.steps, self.restarts)
        threat.require_count("target", targets=self.targets)

    def stages(self, num_classes: int) -> int:
        return self.restarts * min(self.targets, num_classes - 1)

    def passes(self, num_classes: int) -> tuple[int, int]:
        stages = self.stages(num_classes)
        return stages * (self.steps + 2), stages * (self.steps + 1)

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        targets = runner_up(logits_fn(images), index // self.restarts)

        def loss(logits):
            return losses.dlr_targeted(logits, labels, targets)

        return _restart(self, logits_fn, images, labels, keys, state, index, loss, extra_forwards=1)


def runner_up(logits: Array, rank: Array) -> Array:
    """The class of rank 2 + `rank` (int32 scalar) in each image's logits [N, K], int32 [N]."""
    return jnp.take(jnp.argsort(-logits, axis=-1), rank + 1, axis=-1).astype(jnp.int32)


def _restart(attack, logits_fn, images, labels, keys, state, index, loss, extra_forwards=0):
    """One random start of an attack: maximises the loss of logits and keeps what is fooled."""

    def evaluate(points):
        logits, values, gradients = base.evaluate(logits_fn, loss, points)
        return jnp.argmax(logits, axis=-1) != labels, values, gradients

    start = threat.largest_start(images, attack.epsilon, named(base.fold(keys, index), "start"))
    fooled, adversarial, _, _, blind = maximise(evaluate, images, start, attack.epsilon, attack.steps)
    passes = attack.steps + 1
    return base.update(
        state,
        adversarial,
        found=fooled,
        done=fooled,
        forwards=passes + extra_forwards,
        backwards=passes,
        zero_gradient=blind,
    )
