"""Threat models: the l-infinity or l2 ball around an image, clipped to [0, 1]; radii are on the [0, 1] scale."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

NORMS = ("linf", "l2")


def greatest(norm: str) -> float:
    """The largest radius of a norm: the whole pixel range for l-infinity; l2 has none."""
    return 1.0 if norm == "linf" else math.inf


def check_budget(epsilon: float | Array, steps: int | Array = 1, restarts: int = 1, norm: str = "linf") -> None:
    """Raises ValueError unless `epsilon` is a radius of `norm`, and `steps` and `restarts` are at least 1. A traced
    radius is checked when it is used (`inputs.good`), a traced number of steps is not."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}")
    shape, dtype = getattr(epsilon, "shape", ()), getattr(epsilon, "dtype", float)
    if isinstance(epsilon, bool) or not hasattr(epsilon, "__float__") or shape or not jnp.issubdtype(dtype, jnp.number):
        got = f"{dtype} {shape}" if shape else repr(epsilon)
        raise ValueError(f"epsilon must be one number, got {got}")
    if not isinstance(epsilon, jax.core.Tracer) and not 0 <= float(epsilon) <= greatest(norm):
        raise ValueError(f"epsilon must be on the [0, 1] scale, got {epsilon:g} (= {epsilon * 255:g} pixel values)")
    require_count("step", steps=steps)
    require_count("start", restarts=restarts)


def require_count(what: str, **field: Any) -> None:
    """Raises ValueError unless the one field, a number of `what`, is a whole number of 1 or more, or traced."""
    ((name, value),) = field.items()
    if isinstance(value, jax.core.Tracer):
        return
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"an attack needs at least 1 {what}, as a whole number, got {name}={value!r}")


def step_size(rule: str, epsilon: float | Array, steps: int | Array, norm: str = "linf") -> float | Array:
    """Step size on the [0, 1] scale, for `epsilon` on the [0, 1] scale in `norm`. Both numbers may be traced.

    `nofrost`: min(1.25 epsilon, epsilon + 4/255) / steps, the rule of the authors' code; `madry`: 2.5 epsilon / steps
    (Madry et al., 2018); `eps_over_4`: epsilon / 4 (Zhang et al., 2020); `fixed:A`: A pixel values, i.e. A / 255;
    `epsilon_times:A`: A epsilon (single steps: Wong et al., 2020, and Shafahi et al., 2019). Raises ValueError for any
    other rule.
    """
    if rule == "nofrost":
        least = jnp.minimum if isinstance(epsilon, jax.core.Tracer) else min
        return least(1.25 * epsilon, epsilon + 4 / 255) / steps
    if rule == "madry":
        return 2.5 * epsilon / steps
    if rule == "eps_over_4":
        return epsilon / 4
    name, _, value = str(rule).partition(":")
    try:
        number = float(value) if name in ("fixed", "epsilon_times") else -1.0
    except ValueError:
        number = -1.0
    if not 0 < number <= 255 * greatest(norm) or math.isinf(number):
        raise ValueError(
            f"unknown step_rule {rule!r}; choose nofrost, madry, eps_over_4, fixed:A with A in pixel values, or "
            "epsilon_times:A"
        )
    return number / 255 if name == "fixed" else number * epsilon


def uniform(images: Array, keys: Array, low: float | Array, high: float | Array) -> Array:
    """Uniform numbers in [low, high) of the images' shape and dtype; each image draws from its own key."""
    return jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:], images.dtype, low, high))(keys)


def normal(images: Array, keys: Array) -> Array:
    """Standard normal numbers of the images' shape and dtype; each image draws from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], images.dtype))(keys)


def uniform_start(images: Array, epsilon: float | Array, keys: Array, norm: str = "linf") -> Array:
    """A random point of the ball, clipped to [0, 1]. l2: a uniform direction, and a uniform share of the radius."""
    if norm == "linf":
        return jnp.clip(images + uniform(images, keys, -epsilon, epsilon), 0, 1)

    def direction(key):
        normal, share = jax.random.split(key)
        noise = jax.random.normal(normal, images.shape[1:], images.dtype)
        return noise / jnp.linalg.norm(noise) * jax.random.uniform(share, (), images.dtype)

    return jnp.clip(images + epsilon * jax.vmap(direction)(keys), 0, 1)


def largest_start(images: Array, share: float, keys: Array) -> Array:
    """A random point whose greatest pixel change is exactly `share`, then clipped to [0, 1] (APGD, FAB)."""
    noise = 2 * uniform(images, keys, 0, 1) - 1
    greatest = jnp.max(jnp.abs(noise), axis=(1, 2, 3), keepdims=True)
    return jnp.clip(images + share * (noise / (greatest + 1e-12)), 0, 1)


def project(points: Array, images: Array, epsilon: float | Array, norm: str = "linf") -> Array:
    """Nearest point of the ball, then of [0, 1], in the delta form: clip the perturbation, add it, clip the pixels."""
    delta = points - images
    if norm == "linf":
        return jnp.clip(images + jnp.clip(delta, -epsilon, epsilon), 0, 1)
    length = lengths(delta)
    return jnp.clip(images + delta * jnp.minimum(1, epsilon / jnp.maximum(length, 1e-12)), 0, 1)


def project_box(points: Array, images: Array, epsilon: float | Array) -> Array:
    """`project` for l-infinity in the box form, as AutoAttack does it; it differs in the last bit."""
    return jnp.clip(jnp.minimum(jnp.maximum(points, images - epsilon), images + epsilon), 0, 1)


def direction(gradients: Array, norm: str) -> Array:
    """Steepest ascent of unit length: the sign for l-infinity, the normalized gradient for l2 (0 where it is 0)."""
    return jnp.sign(gradients) if norm == "linf" else gradients / (lengths(gradients) + 1e-10)


def lengths(deltas: Array) -> Array:
    """l2 lengths [N, 1, 1, 1] of [N, H, W, C]."""
    return jnp.sqrt(jnp.sum(jnp.square(deltas), axis=(1, 2, 3), keepdims=True))
