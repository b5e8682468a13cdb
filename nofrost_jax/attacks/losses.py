"""Attack losses: one number per image, not averaged, so that no image's gradient depends on its neighbours.

logits [N, K] of any float type, labels int [N]; losses are at least float32 [N], and greater is more adversarial.
Maxima over classes are picked at their index, so that among equal logits only one gets the gradient.
"""

import jax
import jax.numpy as jnp
from jax import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """-log p(label), without label smoothing."""
    return -pick(jax.nn.log_softmax(_wide(logits)), labels)


def kl_divergence(logits: Array, clean_logits: Array) -> Array:
    """KL(p || q) = sum_k p_k (log p_k - log q_k), p of `clean_logits`, q of `logits`, both [N, K] (TRADES)."""
    clean, other = jax.nn.log_softmax(_wide(clean_logits)), jax.nn.log_softmax(_wide(logits))
    return jnp.sum(jnp.exp(clean) * (clean - other), axis=-1)


def margin(logits: Array, labels: Array) -> Array:
    """Greatest other logit minus the label's: positive where the image is misclassified (Carlini & Wagner, 2017)."""
    logits = _wide(logits)
    others = jnp.where(jax.nn.one_hot(labels, logits.shape[-1], dtype=bool), -jnp.inf, logits)
    return pick(logits, jnp.argmax(others, axis=-1)) - pick(logits, labels)


def dlr(logits: Array, labels: Array) -> Array:
    """Difference of logits ratio (Croce & Hein, 2020b): -(z_y - z_other) / (z_1 - z_3), for at least 3 classes."""
    logits = _wide(logits)
    first, second, third = _greatest(logits, 3)
    other = jnp.where(first == labels, second, first)
    return -(pick(logits, labels) - pick(logits, other)) / (pick(logits, first) - pick(logits, third) + 1e-12)


def dlr_targeted(logits: Array, labels: Array, targets: Array) -> Array:
    """Its targeted form: -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2), for at least 4 classes."""
    logits = _wide(logits)
    first, _, third, fourth = _greatest(logits, 4)
    scale = pick(logits, first) - 0.5 * (pick(logits, third) + pick(logits, fourth)) + 1e-12
    return -(pick(logits, labels) - pick(logits, targets)) / scale


def pick(logits: Array, classes: Array) -> Array:
    """logits[i, classes[i]], [N], or NaN where there is no such class. The gradient of indexing would be a scatter."""
    chosen = jax.nn.one_hot(classes, logits.shape[-1], dtype=bool)
    return jnp.where(jnp.any(chosen, axis=-1), jnp.sum(jnp.where(chosen, logits, 0), axis=-1), jnp.nan)


def _greatest(logits, count):
    """The classes of the `count` greatest logits, each [N]."""
    return jnp.moveaxis(jax.lax.top_k(jax.lax.stop_gradient(logits), count)[1], -1, 0)


def _wide(logits):
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
