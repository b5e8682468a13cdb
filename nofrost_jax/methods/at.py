"""Adversarial training: the paper's Equation 1 (Madry et al., 2018).

`method.adversarial_weight` is its lambda: 0 = ST, 1 = PGDAT, 0.5 = SAT; with `method.sum_losses` both losses count 1,
as AdvProp's code adds them (the same up to the learning rate at lambda 0.5). NoFrost is this very step on a
normalizer-free net, MBNAT (Xie & Yuille, 2020) this very step on a mixture-BN net.
"""

from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import attacks
from nofrost_jax.classifier import to_float
from nofrost_jax.methods import standard
from nofrost_jax.methods.base import Loss, Optimizer, Step, gradient_step
from nofrost_jax.methods.streams import weighted_loss


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """The attack's passes, and one or two train-mode forwards and backwards per image."""
    if config.method.adversarial_weight == 0:
        return standard.make_step(model, optimizer, config, steps_per_epoch)
    return gradient_step(make_loss(model, config, attacks.create(**config.attack)), optimizer, config)


def make_loss(model: nn.Module, config: ConfigDict, attack: attacks.Attack) -> Loss:
    """Equation 1 on images that `attack` makes."""
    weight = config.method.adversarial_weight
    clean, adversarial = (1, 1) if config.method.sum_losses else (1 - weight, weight)
    weights = ({"clean": clean} if sees_clean(config) else {}) | {"adversarial": adversarial}
    return weighted_loss(model, config, attack, weights, lambda _, batch, image_keys: to_float(batch["image"]))


def sees_clean(config: ConfigDict) -> bool:
    """Whether clean images pass in train mode. At weight 1 the authors' code does so still, for BN's statistics."""
    return config.method.adversarial_weight < 1 or config.method.pgdat_clean_forward


def passes(config: ConfigDict) -> tuple[int, int, int]:
    """(forwards, backwards to the image, backwards to the parameters) per training image, at most."""
    if config.method.adversarial_weight == 0:
        return standard.passes(config)
    forward, backward = attacks.create(**config.attack).passes(config.model.num_classes)
    return forward + 1 + sees_clean(config), backward, 1 + (config.method.adversarial_weight < 1)
