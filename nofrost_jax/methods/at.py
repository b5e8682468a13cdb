"""Adversarial training: the paper's Equation 1 (Madry et al., 2018).

`method.adversarial_weight` is its lambda: 0 = ST, 1 = PGDAT, 0.5 = SAT; with `method.sum_losses` both losses count 1,
as AdvProp's code adds them (the same up to the learning rate at lambda 0.5). NoFrost is this very step on a
normalizer-free net, MBNAT (Xie & Yuille, 2020) this very step on a mixture-BN net.
"""

from collections.abc import Callable

from flax import linen as nn
from jax import Array
from ml_collections import ConfigDict

from nofrost_jax import attacks
from nofrost_jax.classifier import to_float
from nofrost_jax.methods import standard
from nofrost_jax.methods.base import (
    Optimizer,
    Step,
    accuracy,
    attacked_forwards,
    gradient_step,
    l2_255,
    linf_255,
    over_images,
    smoothed_cross_entropy,
)


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """The attack's passes, and one or two train-mode forwards and backwards per image."""
    if config.method.adversarial_weight == 0:
        return standard.make_step(model, optimizer, config, steps_per_epoch)
    return gradient_step(make_loss(model, config, attacks.create(**config.attack)), optimizer)


def make_loss(model: nn.Module, config: ConfigDict, attack: attacks.Attack) -> Callable:
    """`loss_fn(params, stats, batch, image_keys)` of Equation 1 on images that `attack` makes."""
    weight = config.method.adversarial_weight
    clean_weight, adversarial_weight = (1, 1) if config.method.sum_losses else (1 - weight, weight)

    def loss_fn(params, stats, batch, image_keys):
        images, labels = to_float(batch["image"]), batch["label"]
        streams = {"clean": images} if sees_clean(config) else {}
        logits, result, stats = attacked_forwards(
            model, config, attack, params, stats, streams, images, labels, image_keys
        )
        loss = adversarial_weight * smoothed_cross_entropy(logits["adversarial"], labels, config.label_smoothing)
        metrics = attack_metrics(logits["adversarial"], labels, result, images)
        if config.attack.norm == "l2":
            metrics["perturbation_l2_255"] = l2_255(result.images, images)
        if "clean" in logits:
            metrics["clean_accuracy"] = accuracy(logits["clean"], labels)
        if weight < 1:
            loss += clean_weight * smoothed_cross_entropy(logits["clean"], labels, config.label_smoothing)
        return loss, (stats, metrics)

    return loss_fn


def sees_clean(config: ConfigDict) -> bool:
    """Whether clean images pass in train mode. At weight 1 the authors' code does so still, for BN's statistics."""
    return config.method.adversarial_weight < 1 or config.method.pgdat_clean_forward


def attack_metrics(adversarial: Array, labels: Array, result: attacks.AttackResult, images: Array) -> dict[str, Array]:
    """What a method that attacks reports, as (sum, count); attack_steps: gradient steps that an image took."""
    return {
        "adversarial_accuracy": accuracy(adversarial, labels),
        "perturbation_linf_255": linf_255(result.images, images),
        "attack_steps": over_images(result.backwards),
    }


def passes(config: ConfigDict) -> tuple[int, int, int]:
    """(forwards, backwards to the image, backwards to the parameters) per training image, at most."""
    if config.method.adversarial_weight == 0:
        return standard.passes(config)
    forward, backward = attacks.create(**config.attack).passes(config.model.num_classes)
    return forward + 1 + sees_clean(config), backward, 1 + (config.method.adversarial_weight < 1)
