"""Decision margin, boundary thickness and model smoothness of each image (paper, Section 4.3 and Table 5).

The paper leaves three choices of the boundary thickness open. Its text takes for j the class predicted for x*, the code
of its source (Yang et al., 2020) the class that the attack aims at; both are measured. Its values are longer than any
perturbation within 8/255 in pixel units, so its distances are probably those of normalized images; both are measured.
And x* comes from targeted PGD of 20 steps, of which the paper gives neither norm nor radius: `Thickness.ball`.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from nofrost_jax import files
from nofrost_jax.attacks import PGD, TargetedPGD, base, losses, threat
from nofrost_jax.attacks.inputs import LogitsFn
from nofrost_jax.attacks.pgd import random_targets
from nofrost_jax.keys import named

TITLES = {  # what is measured, in the order of a table
    "margin": "decision margin",
    "thickness": "boundary thickness, class predicted for x*",
    "thickness_pixels": "  in [0, 1] pixel units",
    "thickness_target": "boundary thickness, class aimed at",
    "thickness_target_pixels": "  in [0, 1] pixel units",
    "smoothness": "smoothness, KL divergence",
}
BALLS = ("l2", "training")
VALUES = tuple(TITLES)
NAMES = (*VALUES, "predicted", "target", "reached")  # what `measure` returns


@dataclasses.dataclass(frozen=True)
class Thickness:
    """How boundary thickness is measured. The defaults are those of Yang et al. (2020); the paper gives `steps`,
    `alpha` and `beta`.

    x* is the last iterate of targeted PGD from the image itself. ball: l2, where radius and step are lengths in
    normalized units; or training, with the radius, norm and step rule of the smoothness's attack. points: on the
    segment between x and x*, both ends included. alpha, beta: bounds of the difference of probabilities. Raises
    ValueError.
    """

    ball: str = "l2"
    radius: float = 5.0
    step: float = 1.0
    steps: int = 20
    points: int = 128
    alpha: float = 0.0
    beta: float = 0.75

    def __post_init__(self):
        if self.ball not in BALLS:
            raise ValueError(f"unknown ball {self.ball!r}; choose one of {', '.join(BALLS)}")
        if not (self.radius > 0 and self.step > 0 and self.alpha < self.beta):
            raise ValueError(
                f"radius={self.radius:g} and step={self.step:g} must be greater than 0, and alpha={self.alpha:g} less "
                f"than beta={self.beta:g}"
            )


@dataclasses.dataclass(frozen=True)
class Properties:
    """What an evaluation measures of each image; see `measure` for the fields."""

    std: tuple[float, ...]
    attack: PGD
    options: Thickness = Thickness()

    @property
    def key(self) -> str:
        """A file name: a hash of all its numbers."""
        return f"properties-{files.sha256(repr(self))[:10]}"

    @property
    def passes(self) -> tuple[int, int]:
        """(forwards, backwards) of an image."""
        forwards, backwards = self.attack.passes(2)
        return forwards + self.options.steps + self.options.points + 3, backwards + self.options.steps

    def __call__(self, logits_fn: LogitsFn, images: Array, labels: Array, keys: Array) -> dict[str, Array]:
        return measure(logits_fn, images, labels, keys, self.std, self.attack, self.options)


def measure(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    keys: Array,
    std: Sequence[float],
    attack: PGD,
    options: Thickness = Thickness(),
) -> dict[str, Array]:
    """The three properties of each image. Jit-able; no image depends on another.

    images: float [N, H, W, C] in [0, 1]; labels: int [N]; keys: one PRNG key for each image; std: the normalization's,
    for each channel. attack: finds x* for the smoothness. options: of the thickness.

    Returns float [N]: `margin`, `smoothness` (nats), and the thickness in normalized units, `thickness` (j predicted
    for x*) and `thickness_target` (j aimed at), and on the [0, 1] scale, the same with `_pixels`. And int [N]:
    `predicted`, `target`, `reached` (predicted for the thickness's x*). Floats are NaN where logits are not finite.
    """
    logits = logits_fn(images)
    adversarial = attack(logits_fn, images, labels, named(keys, "smoothness")).images
    target = random_targets(labels, logits.shape[-1], keys)
    if options.ball == "l2":
        far = targeted_l2(logits_fn, images, target, std, options)
    else:  # it draws the same target
        towards = TargetedPGD(attack.epsilon, options.steps, attack.step_rule, start="zero", norm=attack.norm)
        far = towards(logits_fn, images, labels, keys).images
    far_logits = logits_fn(far)
    classes = {"predicted": jnp.argmax(logits, -1), "target": target, "reached": jnp.argmax(far_logits, -1)}
    finite = jnp.isfinite(logits).all(-1) & jnp.isfinite(far_logits).all(-1)
    shares = shares_between(logits_fn, images, far, classes, options)
    lengths = (threat.lengths((far - images) / unit)[:, 0, 0, 0] for unit in (jnp.asarray(std), 1))
    normalized, pixels = (jnp.where(finite, length, jnp.nan) for length in lengths)
    return {
        "margin": decision_margin(logits, labels),
        "smoothness": losses.kl_divergence(logits_fn(adversarial), logits),
        "thickness": normalized * shares["reached"],
        "thickness_pixels": pixels * shares["reached"],
        "thickness_target": normalized * shares["target"],
        "thickness_target_pixels": pixels * shares["target"],
        **classes,
    }


def decision_margin(logits: Array, labels: Array) -> Array:
    """M(x) = p_y - max_{i != y} p_i, [N] in [-1, 1]; negative where the prediction is wrong (Kim et al., 2021)."""
    return -losses.margin(jax.nn.softmax(logits), labels)


def targeted_l2(logits_fn: LogitsFn, images: Array, targets: Array, std: Sequence[float], options: Thickness) -> Array:
    """x*: the last iterate of PGD towards `targets`, in an l2 ball of normalized images, without a random start.

    The iterates stay in [0, 1]; the published code cuts them to the extremes of the batch instead, so that an image's
    outcome depends on its neighbours.
    """
    unit = jnp.asarray(std, images.dtype)

    def step(_, points):
        _, _, gradients = base.evaluate(logits_fn, lambda logits: -losses.cross_entropy(logits, targets), points)
        delta = (points - images) / unit + options.step * threat.direction(gradients * unit, "l2")
        delta *= jnp.minimum(1, options.radius / jnp.maximum(threat.lengths(delta), 1e-12))
        return jnp.clip(images + delta * unit, 0, 1)

    return jax.lax.fori_loop(0, options.steps, step, images)


def shares_between(
    logits_fn: LogitsFn, images: Array, far: Array, classes: dict[str, Array], options: Thickness
) -> dict[str, Array]:
    """{name: [N]}, the share of points between `images` and `far` with alpha < p_i - p_j < beta, i being
    `classes["predicted"]` and j, by name, each of the others."""
    others = {name: value for name, value in classes.items() if name != "predicted"}

    def count(counts, share):
        p = jax.nn.softmax(logits_fn(share * images + (1 - share) * far))
        gaps = {name: losses.pick(p, classes["predicted"]) - losses.pick(p, j) for name, j in others.items()}
        inside = {name: (options.alpha < gap) & (gap < options.beta) for name, gap in gaps.items()}
        return jax.tree.map(jnp.add, counts, inside), None

    none = jnp.zeros(len(images), jnp.int32)
    weights = np.linspace(0, 1, options.points).astype(images.dtype)
    counts, _ = jax.lax.scan(count, dict.fromkeys(others, none), weights)
    return {name: found / options.points for name, found in counts.items()}
