"""Adversarial training: the paper's Equation 1 (Madry et al., 2018).

`method.adversarial_weight` is its lambda: 0 = ST, 1 = PGDAT, 0.5 = SAT. NoFrost is this very step on a normalizer-free
net, MBNAT (Xie & Yuille, 2020) this very step on a mixture-BN net.
"""

import jax.numpy as jnp

from nofrost_jax import attacks, keys
from nofrost_jax.classifier import to_float
from nofrost_jax.methods import standard
from nofrost_jax.methods.base import (
    accuracy,
    frozen_classifier,
    gradient_step,
    smoothed_cross_entropy,
    train_forward,
)


def make_step(model, optimizer, config):
    """`attack.steps` input gradients, and one or two train-mode forwards and backwards per image.

    Where the net has batch statistics the forwards are separate and thread them clean -> (attack, frozen) ->
    adversarial, as the authors' code does; a mixture-BN net routes each through its own branch. Elsewhere the order
    cannot matter, and both batches pass in one concatenated forward.
    """
    weight = config.method.adversarial_weight
    if weight == 0:
        return standard.make_step(model, optimizer, config)
    attack = attacks.create(**config.attack)
    forwards = separate_forwards if model.has_batch_stats else concatenated_forward

    def loss_fn(params, stats, batch, image_keys):
        images, labels = to_float(batch["image"]), batch["label"]
        clean, adversarial, perturbed, stats = forwards(
            model, config, attack, params, stats, images, labels, image_keys
        )
        loss = weight * smoothed_cross_entropy(adversarial, labels, config.label_smoothing)
        linf = jnp.max(jnp.abs(perturbed - images), axis=(1, 2, 3)) * 255
        metrics = {
            "adversarial_accuracy": accuracy(adversarial, labels),
            "perturbation_linf_255": jnp.stack([jnp.sum(linf), jnp.float32(linf.shape[0])]),
        }
        if clean is not None:
            metrics["clean_accuracy"] = accuracy(clean, labels)
            loss += (1 - weight) * smoothed_cross_entropy(clean, labels, config.label_smoothing)
        return loss, (stats, metrics)

    return gradient_step(loss_fn, optimizer)


def sees_clean(config):
    """Whether clean images pass in train mode. At weight 1 the authors' code does so still, for BN's statistics."""
    return config.method.adversarial_weight < 1 or config.method.pgdat_clean_forward


def separate_forwards(model, config, attack, params, stats, images, labels, image_keys):
    """Clean forward, attack on the statistics that it left, adversarial forward: the order of the authors' code."""
    clean = None
    if sees_clean(config):
        clean, stats = train_forward(model, config, params, stats, images, keys.named(image_keys, "clean"), "clean")
    target = frozen_classifier(model, config, params, stats)
    perturbed = attack(target, images, labels, keys.named(image_keys, "attack")).images
    adversarial, stats = train_forward(
        model, config, params, stats, perturbed, keys.named(image_keys, "adversarial"), "adversarial"
    )
    return clean, adversarial, perturbed, stats


def concatenated_forward(model, config, attack, params, stats, images, labels, image_keys):
    """Attack first, then clean and adversarial images as one batch of 2N: no image of it sees another."""
    target = frozen_classifier(model, config, params, stats)
    perturbed = attack(target, images, labels, keys.named(image_keys, "attack")).images
    inputs, input_keys = perturbed, keys.named(image_keys, "adversarial")
    if sees_clean(config):
        inputs = jnp.concatenate([perturbed, images])
        input_keys = jnp.concatenate([input_keys, keys.named(image_keys, "clean")])
    logits, stats = train_forward(model, config, params, stats, inputs, input_keys)
    count = images.shape[0]
    return (logits[count:] if sees_clean(config) else None), logits[:count], perturbed, stats


def passes(config):
    """(forward, backward to the image, backward to the parameters) passes per training image."""
    if config.method.adversarial_weight == 0:
        return standard.passes(config)
    trained = 1 + sees_clean(config)
    return config.attack.steps + trained, config.attack.steps, trained
