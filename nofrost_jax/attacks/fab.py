"""Targeted FAB (Croce & Hein, 2020a), l-infinity: the least perturbation that fools, by projections onto hyperplanes.

Each step linearizes the decision boundary between the label and a runner-up class and moves a little beyond the nearest
point of the hyperplane, biased towards the clean image; a point that fools then moves part of the way back.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, losses, threat
from nofrost_jax.attacks.apgd import runner_up
from nofrost_jax.keys import named

SHORTEST = 1e-8  # least length of a projection when two are weighed, so that two of length zero weigh the same


def project(points: Array, normals: Array, excess: Array) -> Array:
    """The smallest l-infinity displacements onto hyperplanes within [0, 1], float [N, D].

    points: [N, D] in [0, 1]. normals: [N, D]. excess: [N], <normal, point> minus the hyperplane's offset: the
    displacement changes the inner product by -excess. Where no point of [0, 1] reaches the hyperplane, it leads to the
    corner nearest to it. Components where the normal is zero do not move.

    When each component moves by min(reach, room), room being its way to 0 or 1, the inner product changes by a concave,
    piecewise linear function of `reach`. Newton's method from 0 is exact after about five steps; sorting the rooms, as
    the authors do, gives the same and takes 30 times as long. Further steps change nothing, so an image's outcome does
    not depend on its neighbours.
    """
    normals = jnp.where(excess[:, None] < 0, -normals, normals)
    needed = jnp.abs(excess)
    room = jnp.where(normals < 0, 1 - points, points)
    weights = jnp.abs(normals)

    def newton(loop):
        reach, _ = loop
        free = room > reach[:, None]
        slope = jnp.sum(jnp.where(free, weights, 0), axis=1)
        saturated = jnp.sum(jnp.where(free, 0, weights * room), axis=1)
        target = jnp.where(slope > 0, (needed - saturated) / jnp.where(slope > 0, slope, 1), 1)
        return jnp.clip(target, reach, 1), reach  # monotone: rounding cannot make it cycle

    start = jnp.zeros_like(needed)
    reach, _ = jax.lax.while_loop(lambda loop: jnp.any(loop[0] > loop[1]), newton, (start, start - 1))
    return -jnp.sign(normals) * jnp.minimum(reach[:, None], room)


def minimum_norm(
    logits_fn: base.LogitsFn,
    images: Array,
    labels: Array,
    targets: Array,
    start: Array,
    *,
    steps: int = 100,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
) -> tuple[Array, Array, Array]:
    """The nearest misclassified images found on the way to the boundary between `labels` and `targets`.

    images, start: float [N, H, W, C] in [0, 1]. labels, targets: int [N]. The other arguments are FAB's fields. Returns
    (l-infinity distances [N], infinite where nothing was found; the misclassified images, there the clean ones;
    all_zero of the first gradient). Costs 2 forward passes and 1 backward pass a step.
    """
    count = len(images)

    def difference(logits):
        logits = logits.astype(images.dtype)
        return losses.pick(logits, targets) - losses.pick(logits, labels)

    def step(number, loop):
        points, adversarial, best, blind = loop
        _, excess, normals = base.evaluate(logits_fn, difference, points)
        # The clean image has the same hyperplane, so its excess needs no forward of its own.
        excess_clean = excess + jnp.sum(normals * (images - points), axis=(1, 2, 3))
        here, clean = _project_both(points, images, normals, excess, excess_clean)
        lengths = [jnp.maximum(_distances(each), SHORTEST) for each in (here, clean)]
        share = jnp.minimum(lengths[0] / (lengths[0] + lengths[1]), alpha_max)[:, None, None, None]
        moved = jnp.clip((points + eta * here) * (1 - share) + (images + eta * clean) * share, 0, 1)
        wrong = ~base.right(logits_fn, moved, labels)
        distances = _distances(moved - images)
        better = wrong & (distances < best)
        return (
            base.select(wrong, images + beta * (moved - images), moved),  # move back, even if it is no better
            base.select(better, moved, adversarial),
            jnp.where(better, distances, best),
            jnp.where(number == 0, base.all_zero(normals), blind),
        )

    loop = (start, images, jnp.full(count, jnp.inf, images.dtype), jnp.zeros(count, bool))
    _, adversarial, best, blind = jax.lax.fori_loop(0, steps, step, loop)
    # Measured on the returned image: inside the loop XLA may round the distance differently.
    return jnp.where(best < jnp.inf, _distances(adversarial - images), jnp.inf), adversarial, blind


@dataclasses.dataclass(frozen=True)
class FAB(base.Attack):
    """Targeted FAB: one runner-up class of the clean image after another, until the image is fooled within epsilon.

    epsilon: l-infinity radius on the [0, 1] scale; it decides only which images count (without tolerance) and how far
    away random starts are. steps: iterations. targets: at most so many runner-up classes; 9 in AutoAttack. Any wrong
    prediction counts. restarts: starts for each target; the first is the image, the others are random. alpha_max:
    largest share of the clean image's projection. eta: factor by which a step goes beyond the hyperplane. beta: share
    of the perturbation kept after a success. Each start costs 2 steps + 1 forward and `steps` backward passes for each
    target. The result is the nearest misclassified image, or the image itself where none lies within epsilon.
    """

    NUMBERS = base.STEPPED

    epsilon: float = 8 / 255
    steps: int = 100
    targets: int = 9
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon, self.steps, self.restarts)
        threat.require_count("target", targets=self.targets)
        if not (0 <= self.alpha_max <= 1 and self.eta >= 1 and 0 < self.beta <= 1):
            raise ValueError(
                "FAB needs alpha_max in [0, 1], eta of at least 1 and beta in (0, 1], got "
                f"alpha_max={self.alpha_max}, eta={self.eta}, beta={self.beta}"
            )

    def stages(self, num_classes: int) -> int:
        return self.restarts * min(self.targets, num_classes - 1)

    def passes(self, num_classes: int) -> tuple[int, int]:
        stages = self.stages(num_classes)
        return stages * (2 * self.steps + 1), stages * self.steps

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        targets = runner_up(logits_fn(images), index // self.restarts)
        start = images
        if self.restarts > 1:
            random = threat.largest_start(images, 0.5 * self.epsilon, named(base.fold(keys, index), "start"))
            start = jnp.where(index % self.restarts == 0, images, random)
        distances, adversarial, blind = minimum_norm(
            logits_fn,
            images,
            labels,
            targets,
            start,
            steps=self.steps,
            alpha_max=self.alpha_max,
            eta=self.eta,
            beta=self.beta,
        )
        fooled = distances <= self.epsilon
        return base.update(
            state,
            adversarial,
            found=fooled,
            done=fooled,
            forwards=2 * self.steps + 1,
            backwards=self.steps,
            zero_gradient=blind,
        )


def _project_both(points, images, normals, *excesses):
    """Displacements of `points` and of `images` onto the same hyperplanes, projected as one batch."""
    count = len(images)
    stacked = jnp.concatenate([points, images]).reshape(2 * count, -1)
    normals = normals.reshape(count, -1)
    both = project(stacked, jnp.concatenate([normals, normals]), jnp.concatenate(excesses))
    return both[:count].reshape(images.shape), both[count:].reshape(images.shape)


def _distances(deltas):
    """l-infinity lengths [N] of [N, H, W, C]."""
    return jnp.max(jnp.abs(deltas), axis=(1, 2, 3))
