"""The optimizer: SGD with momentum and coupled weight decay, as `torch.optim.SGD` does it (paper, Section 4.1)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from nofrost_jax.errors import UserError

SCHEDULES = ("cosine_epochs", "cosine", "constant", "points", "decay")


def learning_rate(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Schedule: int step -> learning rate.

    The peak is `optimizer.learning_rate` times batch_size / `optimizer.learning_rate_batch` (0: no scaling).
    `cosine_epochs` is the authors' staircase 0.5 lr (1 + cos(pi e / E)) in whole epochs e, `cosine` the same per step.
    `points` interpolates linearly between `optimizer.point_shares` of the peak at `optimizer.point_epochs` (FastAT);
    `decay` divides by 10 every `optimizer.decay_epochs` (FreeAT). `optimizer.warmup_epochs` (0 in the paper) of linear
    warm-up come first: the cosines then take the remaining epochs, the epochs of `points` and `decay` are the run's.
    """
    options = config.optimizer
    peak = options.learning_rate
    if options.learning_rate_batch:
        peak *= config.batch_size / options.learning_rate_batch
    warmup = round(options.warmup_epochs * steps_per_epoch)
    total, epochs = config.epochs * steps_per_epoch - warmup, config.epochs - warmup / steps_per_epoch

    def share(step):
        if options.schedule == "constant":
            return 1.0
        if options.schedule == "points":
            return jnp.interp(step / steps_per_epoch, *map(jnp.asarray, (options.point_epochs, options.point_shares)))
        if options.schedule == "decay":
            return 0.1 ** (step // steps_per_epoch // options.decay_epochs)
        step = jnp.maximum(step - warmup, 0)
        progress = step // steps_per_epoch / epochs if options.schedule == "cosine_epochs" else step / total
        return 0.5 * (1 + jnp.cos(jnp.pi * progress))

    def schedule(step):
        rate = peak * share(step)
        return rate * jnp.minimum(1.0, (step + 1) / warmup) if warmup else jnp.asarray(rate, jnp.float32)

    return schedule


def create(config: ConfigDict, steps_per_epoch: int, updates: int = 1) -> optax.GradientTransformation:
    """optax transformation: [adaptive gradient clipping] -> weight decay -> SGD with (Nesterov) momentum.

    updates: optimizer steps in one training step, which share a rate. `optimizer.agc` is the clipping threshold of
    Brock et al. (2021b), 0 = off; as there, the head is not clipped. `optimizer.decay_gains_and_biases`: every
    parameter decays, as in the authors' code.
    """
    options = config.optimizer
    chain = []
    if options.agc:
        chain.append(optax.masked(optax.adaptive_grad_clip(options.agc), not_head))
    decay_mask = (
        None if options.decay_gains_and_biases else lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    )
    chain.append(optax.add_decayed_weights(options.weight_decay, decay_mask))
    rate = learning_rate(config, steps_per_epoch)
    chain.append(optax.sgd(lambda count: rate(count // updates), momentum=options.momentum, nesterov=options.nesterov))
    return optax.chain(*chain)


def not_head(params: Any) -> Any:
    """True for every parameter outside the classifier head."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key != "head", params)


def check(config: ConfigDict) -> None:
    """Raises UserError unless the points of the schedule are valid, and the warm-up ends before the run."""
    optimizer = config.optimizer
    epochs, shares = list(optimizer.point_epochs), list(optimizer.point_shares)
    if not epochs or len(epochs) != len(shares) or min(epochs + shares) < 0 or epochs != sorted(set(epochs)):
        raise UserError(
            f"config.optimizer.point_epochs={tuple(epochs)} and point_shares={tuple(shares)} must be equally many "
            "numbers of 0 or more, with ascending epochs"
        )
    if optimizer.warmup_epochs >= config.epochs:
        raise UserError(
            f"config.optimizer.warmup_epochs={optimizer.warmup_epochs} must be less than config.epochs={config.epochs}"
        )
