"""Streams, several versions of each training image: their forwards, and losses that are a weighted sum over them."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from ml_collections import ConfigDict

from nofrost_jax import keys
from nofrost_jax.attacks.base import Attack, AttackResult
from nofrost_jax.classifier import to_float
from nofrost_jax.methods.base import (
    Loss,
    Tree,
    accuracy,
    frozen_classifier,
    l2_255,
    linf_255,
    over_images,
    smoothed_cross_entropy,
    train_forward,
)


def weighted_loss(
    model: nn.Module, config: ConfigDict, attack: Attack, weights: dict[str, float], make_stream: Callable
) -> Loss:
    """The sum of the streams' cross-entropies times `weights`, {stream: weight}, in the order of their forwards.

    `make_stream(name, batch, image_keys)` makes the images of all streams but "adversarial", which is last if it is
    there: the clean images, attacked. Statistics pass from the other streams to the (frozen) attack to the adversarial
    forward, as in the authors' code; so these are two terms. A net without statistics is attacked first, and all
    streams pass as one batch. A stream of weight 0 passes for its statistics.
    """

    def term(names):
        def loss_fn(params, stats, batch, image_keys):
            labels, metrics = batch["label"], {}
            streams = {name: make_stream(name, batch, image_keys) for name in names if name != "adversarial"}
            if "adversarial" in names:
                images, target = to_float(batch["image"]), frozen_classifier(model, config, params, stats)
                result = attack(target, images, labels, keys.named(image_keys, "attack"))
                streams["adversarial"] = result.images
            logits, stats = forwards(model, config, params, stats, streams, image_keys)
            if "adversarial" in names:
                metrics = attack_metrics(logits["adversarial"], labels, result, images)
                if config.attack.norm == "l2":
                    metrics["perturbation_l2_255"] = l2_255(result.images, images)
            metrics |= {f"{name}_accuracy": accuracy(logits[name], labels) for name in names}
            losses = {name: smoothed_cross_entropy(logits[name], labels, config.label_smoothing) for name in names}
            total = sum((weights[name] * losses[name] for name in names if weights[name]), jnp.zeros(()))
            return total, (stats, metrics)

        return loss_fn

    others = tuple(name for name in weights if name != "adversarial")
    if model.has_batch_stats and others and "adversarial" in weights:
        return Loss((term(others), term(("adversarial",))))
    return Loss((term(tuple(weights)),))


def forwards(
    model: nn.Module, config: ConfigDict, params: Tree, stats: Tree, streams: dict[str, Array], image_keys: Array
) -> tuple[dict[str, Array], Tree]:
    """({stream: train-mode logits}, statistics) of `streams`, {name: images}, each with the same N images' keys.

    With batch statistics every stream is a forward of its own, in the order given; "adversarial" takes a mixture-BN
    net's adversarial branch. Without them no image depends on another, and all pass as one batch.
    """
    stream_keys = {name: keys.named(image_keys, name) for name in streams}
    if model.has_batch_stats or len(streams) == 1:
        logits = {}
        for name, images in streams.items():
            branch = "adversarial" if name == "adversarial" else "clean"
            logits[name], stats = train_forward(model, config, params, stats, images, stream_keys[name], branch)
        return logits, stats
    order = tuple(streams)[::-1]
    inputs = jnp.concatenate([streams[name] for name in order])
    input_keys = jnp.concatenate([stream_keys[name] for name in order])
    joint, stats = train_forward(model, config, params, stats, inputs, input_keys)
    return dict(zip(order, jnp.split(joint, len(order)), strict=True)), stats


def attack_metrics(adversarial: Array, labels: Array, result: AttackResult, images: Array) -> dict[str, Array]:
    """What a method that attacks reports, as (sum, count); attack_steps: gradient steps that an image took."""
    return {
        "adversarial_accuracy": accuracy(adversarial, labels),
        "perturbation_linf_255": linf_255(result.images, images),
        "attack_steps": over_images(result.backwards),
    }
