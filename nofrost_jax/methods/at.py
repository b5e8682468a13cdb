"""Adversarial training: the paper's Equation 1 (Madry et al., 2018).

`method.adversarial_weight` is its lambda: 0 = ST, 1 = PGDAT, 0.5 = SAT; with `method.sum_losses` both losses count 1,
as AdvProp's code adds them (the same up to the learning rate at lambda 0.5). NoFrost is this very step on a
normalizer-free net, MBNAT (Xie & Yuille, 2020) this very step on a mixture-BN net.
"""

from nofrost_jax import attacks, keys
from nofrost_jax.classifier import to_float
from nofrost_jax.methods import standard
from nofrost_jax.methods.base import (
    accuracy,
    frozen_classifier,
    gradient_step,
    linf_255,
    over_images,
    paired_forwards,
    smoothed_cross_entropy,
    train_forward,
)


def make_step(model, optimizer, config, steps_per_epoch=None):
    """The attack's passes, and one or two train-mode forwards and backwards per image."""
    if config.method.adversarial_weight == 0:
        return standard.make_step(model, optimizer, config, steps_per_epoch)
    return gradient_step(make_loss(model, config, attacks.create(**config.attack)), optimizer)


def make_loss(model, config, attack):
    """`loss_fn(params, stats, batch, image_keys)` of Equation 1 on images that `attack` makes.

    Statistics thread clean -> (attack, frozen) -> adversarial, as in the authors' code: the attack already sees those
    that the clean forward left. Where a net has none the attack comes first.
    """
    weight = config.method.adversarial_weight
    clean_weight, adversarial_weight = (1, 1) if config.method.sum_losses else (1 - weight, weight)

    def loss_fn(params, stats, batch, image_keys):
        images, labels = to_float(batch["image"]), batch["label"]
        clean, adversarial, result, stats = forwards(model, config, attack, params, stats, images, labels, image_keys)
        loss = adversarial_weight * smoothed_cross_entropy(adversarial, labels, config.label_smoothing)
        metrics = attack_metrics(adversarial, labels, result, images)
        if clean is not None:
            metrics["clean_accuracy"] = accuracy(clean, labels)
        if weight < 1:
            loss += clean_weight * smoothed_cross_entropy(clean, labels, config.label_smoothing)
        return loss, (stats, metrics)

    return loss_fn


def forwards(model, config, attack, params, stats, images, labels, image_keys):
    """(clean logits or None, adversarial logits, AttackResult, statistics)."""
    clean, clean_keys = None, keys.named(image_keys, "clean")
    if sees_clean(config) and model.has_batch_stats:
        clean, stats = train_forward(model, config, params, stats, images, clean_keys, "clean")
    target = frozen_classifier(model, config, params, stats)
    result = attack(target, images, labels, keys.named(image_keys, "attack"))
    if sees_clean(config) and not model.has_batch_stats:
        clean, adversarial, stats = paired_forwards(model, config, params, stats, images, result.images, image_keys)
    else:
        adversarial_keys = keys.named(image_keys, "adversarial")
        adversarial, stats = train_forward(model, config, params, stats, result.images, adversarial_keys, "adversarial")
    return clean, adversarial, result, stats


def sees_clean(config):
    """Whether clean images pass in train mode. At weight 1 the authors' code does so still, for BN's statistics."""
    return config.method.adversarial_weight < 1 or config.method.pgdat_clean_forward


def attack_metrics(adversarial, labels, result, images):
    """What a method that attacks reports, as (sum, count); attack_steps: gradient steps that an image took."""
    return {
        "adversarial_accuracy": accuracy(adversarial, labels),
        "perturbation_linf_255": linf_255(result.images, images),
        "attack_steps": over_images(result.backwards),
    }


def passes(config):
    """(forward, backward to the image, backward to the parameters) passes per training image, at most."""
    if config.method.adversarial_weight == 0:
        return standard.passes(config)
    forward, backward = attacks.create(**config.attack).passes(config.model.num_classes)
    return forward + 1 + sees_clean(config), backward, 1 + (config.method.adversarial_weight < 1)
