"""What training methods share: train-mode forwards, the frozen classifier to attack, losses, metrics, the update."""

import dataclasses
import functools
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
from nofrost_jax.classifier import Classifier, normalize
from nofrost_jax.models import layers
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


@dataclasses.dataclass(frozen=True)
class Loss:
    """A sum of terms, each `term(params, stats, batch, image_keys) -> (loss, (statistics, {name: (sum, count)}))`, and
    itself such a function. A term begins with the statistics that the one before it left, after `share`."""

    terms: tuple[Callable, ...]
    share: Callable = lambda stats: stats

    def __call__(
        self, params: Tree, stats: Tree, batch: dict[str, Array], image_keys: Array
    ) -> tuple[Array, tuple[Tree, dict[str, Array]]]:
        first, *others = self.terms
        total, (stats, metrics) = first(params, stats, batch, image_keys)
        for term in others:
            loss, (stats, own) = term(params, self.share(stats), batch, image_keys)
            total, metrics = total + loss, metrics | own
        return total, (stats, metrics)


def gradient_step(loss_fn: Callable, optimizer: optax.GradientTransformation, config: ConfigDict) -> Step:
    """`step(state, batch, key) -> (state, metrics)` of one shard, from a `Loss` or the only term of one.

    A term is the mean over its images. Gradients are averaged over the devices, metrics are summed, so that both mean
    the same on any number of devices, and for any number of micro-batches (`config.accumulate`). Of several, all pass
    through a term before any passes through the next, which needs the statistics of all.
    """
    terms, share = getattr(loss_fn, "terms", (loss_fn,)), functools.partial(shared_statistics, config)
    turns = terms if config.accumulate > 1 else (Loss(terms, share),)

    def step(state, batch, key):
        rows, stats, loss, metrics = (batch, keys_of(state, batch, key)), state.batch_stats, 0.0, {}
        grads: Tree = {}
        for turn in turns:
            gradients = functools.partial(_gradients, turn, state.params, stats)
            more, (own, stats, counted), _ = over_micro_batches(gradients, rows, state.params, config)
            grads = jax.tree.map(jnp.add, grads, more) if grads else more
            loss, metrics = loss + own, metrics | counted
        state, metrics = update(state.replace(batch_stats=stats), grads, loss, metrics, optimizer)
        return state.replace(step=state.step + 1), metrics

    return step


def _gradients(term, params, stats, batch, image_keys):
    """For `over_micro_batches`."""
    (loss, (stats, metrics)), grads = jax.value_and_grad(term, has_aux=True)(params, stats, batch, image_keys)
    return grads, (loss, stats, metrics), ()


def over_micro_batches(gradient_fn: Callable, rows: Any, params: Tree, config: ConfigDict) -> tuple:
    """`gradient_fn(*rows) -> (gradients like params, (loss, statistics, metrics), more rows)` of a shard's `rows` (a
    tree of [n, ...]), computed for `config.accumulate` consecutive parts of them, one after the other.

    Gradients and losses are averaged, metrics are added up, the statistics become those of all parts of all shards.
    """
    count = config.accumulate
    if count == 1:
        grads, (loss, stats, metrics), more = gradient_fn(*rows)
        return grads, (loss, shared_statistics(config, stats), metrics), more

    def add(total, part):
        grads, *others = gradient_fn(*part)
        return jax.tree.map(jnp.add, total, grads), others

    parts = jax.tree.map(lambda row: row.reshape(count, -1, *row.shape[1:]), rows)
    grads, ((loss, stats, metrics), more) = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), parts)
    stats = jax.tree.map(lambda leaf: leaf[0] if config.model.bn_running == "first" else leaf.mean(0), stats)
    results = loss.mean(0), shared_statistics(config, stats), jax.tree.map(lambda pairs: pairs.sum(0), metrics)
    more = jax.tree.map(lambda row: row.reshape(-1, *row.shape[2:]), more)
    return jax.tree.map(lambda total: total / count, grads), results, more


def shared_statistics(config: ConfigDict, stats: Tree) -> Tree:
    """Inside a mapped step: the running statistics of the global batch, from those of this shard's part."""
    return layers.shared_statistics(stats, config.model.bn_running, parallel.AXIS)


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
    state: TrainState,
    grads: Tree,
    loss: float | Array,
    metrics: dict[str, Array],
    optimizer: optax.GradientTransformation,
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
