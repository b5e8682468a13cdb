"""The fast gradient sign method (Goodfellow et al., 2015)."""

import dataclasses

import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, losses, threat


@dataclasses.dataclass(frozen=True)
class FGSM(base.Attack):
    """One step of size `epsilon` (on the [0, 1] scale) along the sign of the cross-entropy's gradient at the image."""

    epsilon: float = 8 / 255

    attacks_misclassified = True

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon)

    def passes(self, num_classes: int) -> tuple[int, int]:
        return 1, 1

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        _, _, gradients = base.evaluate(logits_fn, lambda logits: losses.cross_entropy(logits, labels), images)
        points = threat.project(images + self.epsilon * jnp.sign(gradients), images, self.epsilon)
        always = jnp.ones_like(state.done)
        blind = base.all_zero(gradients)
        return base.update(state, points, found=always, done=always, forwards=1, backwards=1, zero_gradient=blind)
