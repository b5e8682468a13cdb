"""FreeAT, "free" adversarial training (Shafahi et al., 2019): every gradient serves both the weights and the noise.

Each batch is trained on `method.replays` times (m = 4 in their code, which divides the epochs by m). A replay is one
train-mode forward and one backward pass; its gradient to the image moves the noise by `attack.step_rule` (epsilon
there), its gradient to the parameters makes an optimizer step. The noise carries over from batch to batch: one tensor
for the positions of the global batch, zero at first, saved in the checkpoint.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from ml_collections import ConfigDict

from nofrost_jax import keys, parallel
from nofrost_jax.attacks import base as attack_base
from nofrost_jax.attacks import threat
from nofrost_jax.classifier import to_float
from nofrost_jax.methods.base import (
    Optimizer,
    Step,
    accuracy,
    clip_pixels,
    keys_of,
    linf_255,
    over_micro_batches,
    smoothed_cross_entropy,
    train_forward,
    update,
)


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """m train-mode forwards, each with one backward to both the image and the parameters. Metrics are over replays."""
    epsilon = config.attack.epsilon_255 / 255
    size = threat.step_size(config.attack.step_rule, epsilon, 1)

    def loss_fn(params, noise, stats, images, labels, image_keys):
        perturbed = clip_pixels(images + noise)
        logits, stats = train_forward(model, config, params, stats, perturbed, image_keys)
        metrics = {
            "adversarial_accuracy": accuracy(logits, labels),
            "perturbation_linf_255": linf_255(perturbed, images),
        }
        return smoothed_cross_entropy(logits, labels, config.label_smoothing), (stats, metrics)

    def step(state, batch, key):
        images, labels = to_float(batch["image"]), batch["label"]
        image_keys = keys.named(keys_of(state, batch, key), "adversarial")

        def replay(carry, number):
            state, noise = carry

            def gradients(noise, *others):
                gradient_fn = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)
                arguments = state.params, noise, state.batch_stats, *others
                (loss, (stats, metrics)), (grads, noise_gradients) = gradient_fn(*arguments)
                noise = jnp.clip(noise + size * jnp.sign(noise_gradients), -epsilon, epsilon)
                return grads, (loss, stats, metrics), noise

            rows = noise, images, labels, attack_base.fold(image_keys, number)
            grads, (loss, stats, metrics), noise = over_micro_batches(gradients, rows, state.params, config)
            state, metrics = update(state.replace(batch_stats=stats), grads, loss, metrics, optimizer)
            return (state, noise), metrics

        noise = parallel.own_rows(state.method["noise"], len(images))
        # Unrolled: as a loop the updates take 1.6 times as long on a CPU.
        (state, noise), metrics = jax.lax.scan(replay, (state, noise), jnp.arange(config.method.replays), unroll=True)
        state = state.replace(step=state.step + 1, method={"noise": parallel.all_rows(noise)})
        return state, jax.tree.map(lambda pairs: jnp.sum(pairs, axis=0), metrics)

    return step


def begin(config: ConfigDict, image_size: int) -> dict[str, Array]:
    """The noise before the first step: float32 [batch_size, H, W, 3], for the global batch."""
    return {"noise": jnp.zeros((config.batch_size, image_size, image_size, 3), jnp.float32)}


def updates(config: ConfigDict) -> int:
    """Optimizer steps of one training step."""
    return config.method.replays


def passes(config: ConfigDict) -> tuple[int, int, int]:
    """(forwards, backwards to the image, backwards to the parameters) per training image."""
    return (config.method.replays,) * 3
