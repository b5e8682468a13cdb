"""The l-infinity threat model: the ball around an image, cut by the pixel range. Images are float, radii on [0, 1]."""

import jax
import jax.numpy as jnp


def check_budget(epsilon, steps):
    """Raises ValueError unless `0 <= epsilon <= 1` and `steps >= 1`."""
    if not 0 <= epsilon <= 1:
        raise ValueError(
            f"epsilon is on the [0, 1] scale and must lie there, got {epsilon:g} (= {epsilon * 255:g} pixel values)"
        )
    if steps < 1:
        raise ValueError(f"an attack needs at least 1 step, got steps={steps}")


def step_size(rule, epsilon, steps):
    """Step size on the [0, 1] scale, for `epsilon` on the [0, 1] scale.

    `nofrost`: min(1.25 epsilon, epsilon + 4/255) / steps, the rule of the authors' code; `madry`: 2.5 epsilon / steps
    (Madry et al., 2018); `eps_over_4`: epsilon / 4 (Zhang et al., 2020); `fixed:A`: A pixel values, i.e. A / 255.
    Raises ValueError for any other rule.
    """
    if rule == "nofrost":
        return min(1.25 * epsilon, epsilon + 4 / 255) / steps
    if rule == "madry":
        return 2.5 * epsilon / steps
    if rule == "eps_over_4":
        return epsilon / 4
    name, _, value = rule.partition(":")
    try:
        pixels = float(value) if name == "fixed" else -1.0
    except ValueError:
        pixels = -1.0
    if not 0 < pixels <= 255:
        raise ValueError(
            f"unknown step_rule {rule!r}; choose nofrost, madry, eps_over_4, or fixed:A with A in pixel values"
        )
    return pixels / 255


def uniform_start(images, epsilon, keys):
    """A uniform point of the ball, cut to [0, 1]; each image [H, W, C] draws from its own key."""
    noise = jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:], images.dtype, -epsilon, epsilon))(keys)
    return jnp.clip(images + noise, 0, 1)


def project(points, images, epsilon):
    """Nearest point of the ball and of [0, 1], in the delta form: clip the perturbation, add it, clip the pixels."""
    return jnp.clip(images + jnp.clip(points - images, -epsilon, epsilon), 0, 1)
