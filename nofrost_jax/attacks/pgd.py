"""Projected gradient descent (Madry et al., 2018), untargeted and targeted, as the paper trains and evaluates."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, losses, threat
from nofrost_jax.keys import named

STARTS = ("uniform", "zero")


@dataclasses.dataclass(frozen=True)
class PGD(base.Attack):
    """Untargeted PGD on the cross-entropy: a random start and sign steps; the last iterate is returned in any case.

    epsilon: radius on the [0, 1] scale. steps: gradient steps. step_rule: see `threat.step_size`; the paper used
    `nofrost`, whose steps add up to only 1.25 epsilon, `madry` is the stronger common default. start: uniform | zero.
    norm: linf | l2, which steps along the normalized gradient. restarts: starts to try; several cost one more forward
    pass each, which finds the images that are fooled already.
    """

    NUMBERS = base.STEPPED

    epsilon: float = 8 / 255
    steps: int = 20
    step_rule: str = "madry"
    start: str = "uniform"
    norm: str = "linf"
    restarts: int = 1

    attacks_misclassified = True

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon, self.steps, self.restarts, self.norm)
        threat.step_size(self.step_rule, self.epsilon, self.steps, self.norm)
        if self.start not in STARTS:
            raise ValueError(f"unknown start {self.start!r}; choose one of {', '.join(STARTS)}")
        if self.start == "zero" and self.restarts > 1:
            raise ValueError(f"restarts={self.restarts} needs start=uniform; otherwise all restarts are the same")

    def stages(self, num_classes: int) -> int:
        return self.restarts

    def passes(self, num_classes: int) -> tuple[int, int]:
        return self.restarts * (self.steps + (self.restarts > 1)), self.restarts * self.steps

    def loss(self, logits: Array, labels: Array, keys: Array) -> Array:
        """The loss that is maximised, [N]. keys: one for each image, the same in all restarts."""
        return losses.cross_entropy(logits, labels)

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        points = images
        if self.start == "uniform":
            points = threat.uniform_start(images, self.epsilon, named(base.fold(keys, index), "start"), self.norm)
        points, blind = self.ascend(logits_fn, images, labels, keys, points)
        found, forwards = jnp.ones_like(state.done), self.steps
        done = found
        if self.restarts > 1:
            done, forwards = ~base.right(logits_fn, points, labels), forwards + 1
        return base.update(
            state, points, found=found, done=done, forwards=forwards, backwards=self.steps, zero_gradient=blind
        )

    def ascend(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, points: Array
    ) -> tuple[Array, Array]:
        """(the last of `steps` iterates from `points`, whether the first gradient was all zeros)."""
        size = threat.step_size(self.step_rule, self.epsilon, self.steps, self.norm)

        def step(number, loop):
            points, blind = loop
            _, _, gradients = base.evaluate(logits_fn, lambda logits: self.loss(logits, labels, keys), points)
            moved = points + size * threat.direction(gradients, self.norm)
            return threat.project(moved, images, self.epsilon, self.norm), blind | (
                (number == 0) & base.all_zero(gradients)
            )

        return jax.lax.fori_loop(0, self.steps, step, (points, jnp.zeros(len(images), bool)))


@dataclasses.dataclass(frozen=True)
class TargetedPGD(PGD):
    """PGD towards a wrong class that each image draws once, uniformly; any wrong prediction counts (Figure 7)."""

    def loss(self, logits: Array, labels: Array, keys: Array) -> Array:
        return -losses.cross_entropy(logits, random_targets(labels, logits.shape[-1], keys))


def random_targets(labels: Array, count: int, keys: Array) -> Array:
    """A wrong class of `count` for each image, uniform over the others: int [N]."""
    shift = jax.vmap(lambda key: jax.random.randint(key, (), 1, count))(named(keys, "target"))
    return (labels + shift) % count
