"""TRADES (Zhang et al., 2019): cross-entropy on clean images plus the divergence of the adversarial prediction from it.

    L = CE(p(clean), label) + method.beta * mean KL(p(clean) || p(adversarial))

The gradient flows through both predictions. Label smoothing is part of the first term only. `beta` is 1 / lambda in
their notation: 1 in the paper ("trade-off parameter 1"), 6 in their CIFAR-10 script.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import attacks, keys
from nofrost_jax.attacks import losses
from nofrost_jax.classifier import to_float
from nofrost_jax.methods.base import (
    Optimizer,
    Step,
    accuracy,
    frozen_classifier,
    gradient_step,
    smoothed_cross_entropy,
    train_forward,
)
from nofrost_jax.methods.streams import attack_metrics, forwards


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """The attack's passes, and two train-mode forwards and backwards per image, or three (`trades_forwards`)."""
    return gradient_step(make_loss(model, config, attacks.create(**config.attack)), optimizer, config)


def make_loss(model: nn.Module, config: ConfigDict, attack: attacks.Attack) -> Callable:
    """`loss_fn(params, stats, batch, image_keys)` on images that `attack` makes.

    The attack comes first and sees the statistics of the step before, then the clean forward, then the adversarial.
    """

    def loss_fn(params, stats, batch, image_keys):
        images, labels = to_float(batch["image"]), batch["label"]
        target = frozen_classifier(model, config, params, stats)
        result = attack(target, images, labels, keys.named(image_keys, "attack"))
        streams = {"clean": images, "adversarial": result.images}
        logits, stats = forwards(model, config, params, stats, streams, image_keys)
        clean, adversarial = logits["clean"], logits["adversarial"]
        reference = clean
        if config.method.trades_forwards == 3:  # as in the code of its authors: clean, adversarial, clean again
            again = keys.named(image_keys, "clean again")
            reference, stats = train_forward(model, config, params, stats, images, again, "clean")
        divergence = jnp.mean(losses.kl_divergence(adversarial, reference))
        loss = smoothed_cross_entropy(clean, labels, config.label_smoothing) + config.method.beta * divergence
        metrics = attack_metrics(adversarial, labels, result, images)
        return loss, (stats, metrics | {"clean_accuracy": accuracy(clean, labels)})

    return loss_fn


def passes(config: ConfigDict) -> tuple[int, int, int]:
    """(forwards, backwards to the image, backwards to the parameters) per training image, at most."""
    forward, backward = attacks.create(**config.attack).passes(config.model.num_classes)
    trained = config.method.trades_forwards
    return forward + trained, backward, trained
