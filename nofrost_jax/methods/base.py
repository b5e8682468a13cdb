"""What every training method is made of: train-mode forwards, the frozen classifier to attack, the loss, the update."""

import jax
import jax.numpy as jnp
import optax

from nofrost_jax import keys, parallel
from nofrost_jax.classifier import Classifier, normalize
from nofrost_jax.state import join


def train_forward(model, config, params, stats, images, image_keys, branch="clean"):
    """Train-mode logits [N, K] of images [N, H, W, 3] in [0, 1], and the batch statistics after this forward."""
    inputs = normalize(images, config.data.mean, config.data.std)
    logits, updated = model.apply(
        join(params, stats), inputs, train=True, branch=branch, image_keys=image_keys, mutable=["batch_stats"]
    )
    return logits, updated.get("batch_stats", stats)


def frozen_classifier(model, config, params, stats):
    """What an attack sees: the classifier in evaluation mode, parameters fixed, an MBN's adversarial branch."""
    variables = jax.lax.stop_gradient(join(params, stats))
    return Classifier(variables, model, tuple(config.data.mean), tuple(config.data.std), mbn_gamma=1.0)


def smoothed_cross_entropy(logits, labels, smoothing):
    """Mean over the shard of (1 - smoothing) (-log p_y) + smoothing mean_k(-log p_k) (Szegedy et al., 2016)."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def accuracy(logits, labels):
    """(correct, count) of a shard, float32 [2]."""
    return jnp.stack([jnp.sum(jnp.argmax(logits, -1) == labels).astype(jnp.float32), jnp.float32(labels.shape[0])])


def gradient_step(loss_fn, optimizer):
    """`step(state, batch, key) -> (state, metrics)` of one shard, from `loss_fn(params, stats, batch, image_keys)`.

    `loss_fn` returns the shard's mean loss and (statistics, {name: (sum, count)}). Gradients are averaged over the
    devices, metrics are summed, so that both mean the same on any number of devices. The key of an image is a
    function of (key, step, its position in the global batch).
    """

    def step(state, batch, key):
        positions = parallel.global_positions(batch["label"].shape[0])
        image_keys = keys.per_image(jax.random.fold_in(key, state.step), positions)
        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (stats, metrics)), grads = gradient_fn(state.params, state.batch_stats, batch, image_keys)
        grads = parallel.mean(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics = parallel.total(metrics | {"loss": jnp.stack([loss, jnp.ones_like(loss)])})
        params = optax.apply_updates(state.params, updates)
        # The norms also reveal a NaN that never reaches the loss: XLA's relu may drop it on a CPU.
        metrics["gradient_norm"] = jnp.stack([optax.tree.norm(grads), 1.0])
        metrics["parameter_norm"] = jnp.stack([optax.tree.norm(params), 1.0])
        state = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=stats,
            opt_state=opt_state,
        )
        return state, metrics

    return step
