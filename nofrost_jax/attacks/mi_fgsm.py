"""The momentum iterative attack MI-FGSM (Dong et al., 2018): the paper's column "MIA"."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, losses, threat
from nofrost_jax.attacks.pgd import PGD


@dataclasses.dataclass(frozen=True)
class MIFGSM(PGD):
    """Sign steps along g <- decay g + gradient / ||gradient||_1, on the cross-entropy. Fields as PGD's.

    The start is the image itself, as in the authors' `mia`; their `mipgd` starts at random (`start="uniform"`).
    The paper does not say which of the two it used. This attack flatters: APGD is far stronger.
    """

    start: str = "zero"
    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm != "linf":
            raise ValueError(f"MI-FGSM is an l-infinity attack, got norm={self.norm!r}")

    def ascend(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, points: Array
    ) -> tuple[Array, Array]:
        size = threat.step_size(self.step_rule, self.epsilon, self.steps)

        def step(number, loop):
            points, momentum, blind = loop
            _, _, gradients = base.evaluate(logits_fn, lambda logits: losses.cross_entropy(logits, labels), points)
            length = jnp.sum(jnp.abs(gradients), axis=(1, 2, 3), keepdims=True)
            zero = base.all_zero(gradients)
            momentum = base.select(zero, momentum, self.decay * momentum + gradients / jnp.maximum(length, 1e-6))
            points = threat.project(points + size * jnp.sign(momentum), images, self.epsilon)
            return points, momentum, blind | ((number == 0) & zero)

        loop = (points, jnp.zeros_like(points), jnp.zeros(len(images), bool))
        points, _, blind = jax.lax.fori_loop(0, self.steps, step, loop)
        return points, blind
