"""TRADES-FAT (Zhang et al., 2020): the loss of TRADES, with the attack of FAT on the KL divergence.

`attack.tau` and `method.tau_epochs` are as in `fat`; the code of its authors goes from 0 to 3, one more after epochs
30, 50 and 70 of 85.
"""

from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax.methods import fat, trades
from nofrost_jax.methods.base import Optimizer, Step

passes = trades.passes


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """At most `attack.steps` gradient steps, and two train-mode forwards and backwards per image."""
    return fat.with_tau(trades.make_loss, model, optimizer, config, steps_per_epoch)
