"""Projected gradient descent (Madry et al., 2018), as the authors of the paper train and evaluate with it."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nofrost_jax.attacks import losses, threat


class AttackResult(NamedTuple):
    """Adversarial images [N, H, W, C], and how many forward and backward passes each image took (int32 [N])."""

    images: jax.Array
    forwards: jax.Array
    backwards: jax.Array


@dataclasses.dataclass(frozen=True)
class PGD:
    """Untargeted l-infinity PGD on the cross-entropy: uniform start, sign steps, the last iterate is returned.

    epsilon: radius on the [0, 1] scale. steps: gradient steps. step_rule: see `threat.step_size`; the paper's numbers
    belong to `nofrost`, whose whole path is only 1.25 epsilon long, `madry` is the stronger common default.
    """

    epsilon: float = 8 / 255
    steps: int = 20
    step_rule: str = "madry"

    def __post_init__(self):
        threat.check_budget(self.epsilon, self.steps)
        threat.step_size(self.step_rule, self.epsilon, self.steps)

    def __call__(self, logits_fn, images, labels, keys):
        """Attacks `images` (float [N, H, W, C] in [0, 1]) of `labels` (int [N]) with one PRNG key per image.

        `logits_fn` maps images in [0, 1] to logits [N, K]; it must be in evaluation mode. Jit-able; the loop is a
        `lax.fori_loop`, so that one iteration is compiled whatever `steps` is.
        """
        size = threat.step_size(self.step_rule, self.epsilon, self.steps)
        gradient = jax.grad(lambda points: jnp.sum(losses.cross_entropy(logits_fn(points), labels)))

        def ascend(_, points):
            return threat.project(points + size * jnp.sign(gradient(points)), images, self.epsilon)

        points = jax.lax.fori_loop(0, self.steps, ascend, threat.uniform_start(images, self.epsilon, keys))
        count = jnp.full(images.shape[0], self.steps, jnp.int32)
        return AttackResult(jax.lax.stop_gradient(points), forwards=count, backwards=count)
