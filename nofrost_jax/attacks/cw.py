"""PGD on the margin of Carlini & Wagner (2017): the paper's column "CW", which follows FAT (Zhang et al., 2020)."""

import dataclasses

import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import losses
from nofrost_jax.attacks.pgd import PGD


@dataclasses.dataclass(frozen=True)
class CW(PGD):
    """PGD that maximises min(margin, kappa), the margin being the greatest other logit minus the label's.

    No Adam, no binary search, no tanh. Where the margin exceeds `kappa` the gradient is zero. Fields as PGD's.
    """

    kappa: float = 50.0

    def loss(self, logits: Array, labels: Array, keys: Array) -> Array:
        # jnp.maximum(x, 0) would have the gradient 1/2 at 0; the reference's clamp passes the gradient there.
        excess = self.kappa - losses.margin(logits, labels)
        return -jnp.where(excess >= 0, excess, 0)
