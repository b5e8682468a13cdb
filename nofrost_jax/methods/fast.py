"""FastAT (Wong et al., 2020): one large step from a random start, "FGSM-RS", in train mode.

The noise is uniform in the ball and not clipped to the image range: the forward clips, so a pixel outside the range has
no gradient. Both forwards normalize with batch statistics and update them. `attack.step_rule` is the size of the
step, 1.25 epsilon in their code.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import keys
from nofrost_jax.attacks import losses, threat
from nofrost_jax.classifier import to_float
from nofrost_jax.methods.base import (
    Optimizer,
    Step,
    accuracy,
    clip_pixels,
    gradient_step,
    linf_255,
    smoothed_cross_entropy,
    train_forward,
)


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """Two train-mode forwards, one backward to the image and one to the parameters per image."""
    epsilon = config.attack.epsilon_255 / 255
    size = threat.step_size(config.attack.step_rule, epsilon, 1)

    def loss_fn(params, stats, batch, image_keys):
        images, labels = to_float(batch["image"]), batch["label"]
        noise = threat.uniform(images, keys.named(image_keys, "start"), -epsilon, epsilon)

        def attacked(noise):
            fixed, attack_keys = jax.lax.stop_gradient(params), keys.named(image_keys, "attack")
            logits, updated = train_forward(model, config, fixed, stats, clip_pixels(images + noise), attack_keys)
            return jnp.sum(losses.cross_entropy(logits, labels)), updated

        gradients, stats_after = jax.grad(attacked, has_aux=True)(noise)
        noise = jnp.clip(noise + size * jnp.sign(gradients), -epsilon, epsilon)
        perturbed = clip_pixels(images + noise)
        logits, stats_after = train_forward(
            model, config, params, stats_after, perturbed, keys.named(image_keys, "adversarial")
        )
        loss = smoothed_cross_entropy(logits, labels, config.label_smoothing)
        metrics = {
            "adversarial_accuracy": accuracy(logits, labels),
            "perturbation_linf_255": linf_255(perturbed, images),
        }
        return loss, (stats_after, metrics)

    return gradient_step(loss_fn, optimizer, config)


def passes(config: ConfigDict) -> tuple[int, int, int]:
    """(forwards, backwards to the image, backwards to the parameters) per training image."""
    return 2, 1, 1
