"""FAT, friendly adversarial training (Zhang et al., 2020): the attack stops soon after an image is misclassified.

The loss is Equation 1's (`at`), with adversarial weight 1 in the paper's rows; the attack is `friendly`. `attack.tau`
is how many more steps an image then takes: 1 in the paper. `method.tau_epochs` makes it grow by one after each of
these epochs, as the code of FAT's authors does by default: from 0, after epochs 50 and 90 of 120.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import attacks
from nofrost_jax.methods import at, standard
from nofrost_jax.methods.base import Optimizer, Step, gradient_step

passes = at.passes


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """At most `attack.steps` gradient steps, and one train-mode forward and backward per image."""
    if config.method.adversarial_weight == 0:
        return standard.make_step(model, optimizer, config, steps_per_epoch)
    return with_tau(at.make_loss, model, optimizer, config, steps_per_epoch)


def with_tau(
    make_loss: Callable,
    model: nn.Module,
    optimizer: Optimizer,
    config: ConfigDict,
    steps_per_epoch: int | None,
) -> Step:
    """The step of `make_loss(model, config, attack)` whose attack has the tau of the current epoch."""
    attack, epochs = attacks.create(**config.attack), tuple(config.method.tau_epochs)
    if not epochs:
        return gradient_step(make_loss(model, config, attack), optimizer, config)
    if not steps_per_epoch:
        raise ValueError("config.method.tau_epochs needs steps_per_epoch, to know when an epoch begins")
    if not isinstance(attack, attacks.FriendlyPGD) or attack.tau is None:
        raise ValueError(f"config.method.tau_epochs needs an attack with a tau, not {attack}")
    first = attack.tau

    def step(state, batch, key):
        passed = jnp.sum(state.step // steps_per_epoch >= jnp.asarray(epochs))
        now = dataclasses.replace(attack, tau=first + passed.astype(jnp.int32))
        return gradient_step(make_loss(model, config, now), optimizer, config)(state, batch, key)

    return step
