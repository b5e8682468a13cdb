"""What training methods share: train-mode forwards, the frozen classifier to attack, losses, metrics, the update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array
from ml_collections import ConfigDict

from nofrost_jax import keys, parallel
from nofrost_jax.attacks import threat
from nofrost_jax.attacks.base import Attack, AttackResult
from nofrost_jax.classifier import Classifier, normalize
from nofrost_jax.state import TrainState, join

Optimizer = optax.GradientTransformation
Tree = dict[str, Any]  # parameters, statistics or gradients
# One shard's training step: (state, {view: uint8 [n, H, W, 3], "label": int [n]}, key) -> (state, {name: float32 [2]})
Step = Callable[[TrainState, dict[str, Array], Array], tuple[TrainState, dict[str, Array]]]

PRECISIONS = ("default", "high", "highest")


def train_forward(
    model: nn.Module,
    config: ConfigDict,
    params: Tree,
    stats: Tree,
    images: Array,
    image_keys: Array,
    branch: str = "clean",
) -> tuple[Array, Tree]:
    """Train-mode logits [N, K] of images [N, H, W, 3] in [0, 1], and the batch statistics after this forward."""
    inputs = normalize(images, config.data.mean, config.data.std)
    logits, updated = model.apply(
        join(params, stats), inputs, train=True, branch=branch, image_keys=image_keys, mutable=["batch_stats"]
    )
    return logits, updated.get("batch_stats", stats)


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


def attacked_forwards(
    model: nn.Module,
    config: ConfigDict,
    attack: Attack,
    params: Tree,
    stats: Tree,
    streams: dict[str, Array],
    images: Array,
    labels: Array,
    image_keys: Array,
) -> tuple[dict[str, Array], AttackResult, Tree]:
    """({stream: train-mode logits}, AttackResult, statistics) of `streams`, and of "adversarial" versions of `images`.

    Statistics pass from the streams to the (frozen) attack to the adversarial forward, as in the authors' code. A net
    without statistics is attacked first.
    """
    logits, waiting = {}, streams
    if model.has_batch_stats:
        logits, stats = forwards(model, config, params, stats, streams, image_keys)
        waiting = {}
    target = frozen_classifier(model, config, params, stats)
    result = attack(target, images, labels, keys.named(image_keys, "attack"))
    last, stats = forwards(model, config, params, stats, {**waiting, "adversarial": result.images}, image_keys)
    return logits | last, result, stats


def frozen_classifier(model: nn.Module, config: ConfigDict, params: Tree, stats: Tree) -> Classifier:
    """What an attack sees: the classifier in evaluation mode, with fixed parameters and an MBN's adversarial branch.
    Batches hold uint8 images and valid labels, so inputs are not checked again."""
    variables = jax.lax.stop_gradient(join(model.frozen(params), stats))
    return Classifier(variables, model, tuple(config.data.mean), tuple(config.data.std), inputs_are_checked=True)


def smoothed_cross_entropy(logits: Array, labels: Array, smoothing: float) -> Array:
    """Mean over the shard of (1 - smoothing) (-log p_y) + smoothing mean_k(-log p_k) (Szegedy et al., 2016)."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def accuracy(logits: Array, labels: Array) -> Array:
    """(correct, count) of a shard, float32 [2]."""
    return over_images(jnp.argmax(logits, -1) == labels)


def over_images(values: Array) -> Array:
    """(sum, count) of one value for each image of a shard, float32 [2]."""
    return jnp.stack([jnp.sum(values.astype(jnp.float32)), jnp.float32(values.shape[0])])


def linf_255(perturbed: Array, images: Array) -> Array:
    """(sum, count) of each image's greatest pixel change, in pixel values."""
    return over_images(jnp.max(jnp.abs(perturbed - images), axis=(1, 2, 3)) * 255)


def l2_255(perturbed: Array, images: Array) -> Array:
    """(sum, count) of the l2 length of each image's change, in pixel values."""
    return over_images(threat.lengths(perturbed - images) * 255)


def clip_pixels(images: Array) -> Array:
    """Clips to [0, 1]. A pixel on the border passes its gradient on (PyTorch before 2.14 did, too); outside it is 0."""
    return jnp.where(images < 0, 0, jnp.where(images > 1, 1, images))


def gradient_step(loss_fn: Callable, optimizer: optax.GradientTransformation) -> Step:
    """`step(state, batch, key) -> (state, metrics)` of one shard, from `loss_fn(params, stats, batch, image_keys)`.

    `loss_fn` returns the shard's mean loss and (statistics, {name: (sum, count)}). Gradients are averaged over the
    devices, metrics are summed, so that both mean the same on any number of devices.
    """

    def step(state, batch, key):
        arguments = state.params, state.batch_stats, batch, keys_of(state, batch, key)
        (loss, (stats, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(*arguments)
        state, metrics = update(state.replace(batch_stats=stats), grads, loss, metrics, optimizer)
        return state.replace(step=state.step + 1), metrics

    return step


def at_precision(step: Step, name: str) -> Step:
    """`step` with its matrix products and convolutions at one of PRECISIONS; "default" changes nothing."""
    if name == "default":
        return step

    def precise(state, batch, key):
        with jax.default_matmul_precision(name):
            return step(state, batch, key)

    return precise


def keys_of(state: TrainState, batch: dict[str, Array], key: Array) -> Array:
    """One key for each image of the shard: a function of (key, step, the image's position in the global batch)."""
    positions = parallel.global_positions(batch["label"].shape[0])
    return keys.per_image(jax.random.fold_in(key, state.step), positions)


def update(
    state: TrainState, grads: Tree, loss: Array, metrics: dict[str, Array], optimizer: optax.GradientTransformation
) -> tuple[TrainState, dict[str, Array]]:
    """(state, metrics) after one optimizer step with the shards' mean gradients; `state.step` stays."""
    grads = parallel.mean(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = parallel.total(metrics | {"loss": jnp.stack([loss, jnp.ones_like(loss)])})
    # The norms also reveal a NaN that never reaches the loss: XLA's relu may drop it on a CPU.
    metrics["gradient_norm"] = jnp.stack([optax.tree.norm(grads), 1.0])
    metrics["parameter_norm"] = jnp.stack([optax.tree.norm(params), 1.0])
    return state.replace(params=params, opt_state=opt_state), metrics
