"""Standard training: clean images only (the paper's ST; Equation 1 with adversarial weight 0)."""

from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import keys
from nofrost_jax.classifier import to_float
from nofrost_jax.methods.base import Optimizer, Step, accuracy, gradient_step, smoothed_cross_entropy, train_forward


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """One forward and one backward pass per image."""

    def loss_fn(params, stats, batch, image_keys):
        images, labels = to_float(batch["image"]), batch["label"]
        logits, stats = train_forward(model, config, params, stats, images, keys.named(image_keys, "clean"))
        loss = smoothed_cross_entropy(logits, labels, config.label_smoothing)
        return loss, (stats, {"clean_accuracy": accuracy(logits, labels)})

    return gradient_step(loss_fn, optimizer, config)


def passes(config: ConfigDict) -> tuple[int, int, int]:
    """(forwards, backwards to the image, backwards to the parameters) per training image."""
    return 1, 0, 1
