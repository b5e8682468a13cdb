"""The attacks of TRADES (Zhang et al., 2019) and of friendly adversarial training, FAT (Zhang et al., 2020)."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, losses, threat
from nofrost_jax.keys import named

LOSSES = ("ce", "kl")
NORMAL_SCALE = 0.001  # of TRADES's start, on the [0, 1] scale


@dataclasses.dataclass(frozen=True)
class FriendlyPGD(base.Attack):
    """Sign steps that stop for an image once it has been misclassified `tau` + 1 times.

    An image that is only just misclassified is friendlier to learn from than the worst one (Zhang et al., 2020). With
    either loss, predictions are compared with the label. Points are projected in the box form, as in both published
    algorithms. The loop ends when all images of the batch have stopped.

    epsilon: radius on the [0, 1] scale. steps: at most so many gradient steps. step_rule: see `threat.step_size`. loss:
    `ce`, or `kl`: the divergence from the prediction on the clean image, which costs one forward pass. start: `uniform`
    in the ball, or `normal`: 0.001 N(0, 1) around the image. clip_start: clip the start to the ball and [0, 1] (FAT
    does, TRADES does not). tau: int, or a traced int32 scalar; None never stops: the attack of TRADES. jitter_255:
    standard deviation in pixel values of normal noise added to each step (omega; 0.255 in FAT's CIFAR-10 code, else 0).
    """

    NUMBERS = base.STEPPED

    epsilon: float = 8 / 255
    steps: int = 10
    step_rule: str = "nofrost"
    loss: str = "ce"
    start: str = "uniform"
    clip_start: bool = True
    tau: int | Array | None = 1
    jitter_255: float = 0.0

    attacks_misclassified = True

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon, self.steps)
        threat.step_size(self.step_rule, self.epsilon, self.steps)
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; choose one of {', '.join(LOSSES)}")
        if self.start not in ("uniform", "normal"):
            raise ValueError(f"unknown start {self.start!r}; choose uniform or normal")
        whole = hasattr(self.tau, "__index__") and not isinstance(self.tau, bool)
        if not (self.tau is None or isinstance(self.tau, jax.Array) or (whole and self.tau >= 0)):
            raise ValueError(f"tau must be a whole number of 0 or more, or None, got {self.tau!r}")
        if not 0 <= self.jitter_255 <= 255:
            raise ValueError(f"jitter_255 must lie in 0 to 255, got {self.jitter_255!r}")

    def passes(self, num_classes: int) -> tuple[int, int]:
        return self.steps + (self.loss == "kl"), self.steps

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        keys = base.fold(keys, index)
        objective, clean_passes = losses.cross_entropy, 0
        targets = labels
        if self.loss == "kl":
            objective, clean_passes = losses.kl_divergence, 1
            targets = jax.lax.stop_gradient(logits_fn(images))
        points = self._start(images, named(keys, "start"))
        points, looks, moves, blind = self._ascend(logits_fn, objective, images, labels, targets, keys, points, state)
        return base.update(
            state, points, found=True, done=True, forwards=looks + clean_passes, backwards=moves, zero_gradient=blind
        )

    def _start(self, images, keys):
        if self.start == "uniform":
            points = images + threat.uniform(images, keys, -self.epsilon, self.epsilon)
        else:
            points = images + NORMAL_SCALE * threat.normal(images, keys)
        # To the ball, too: normal noise has no radius, and an image may stop here.
        return threat.project_box(points, images, self.epsilon) if self.clip_start else points

    def _ascend(self, logits_fn, objective, images, labels, targets, keys, points, state):
        """(last points, forward and backward passes of each image [N], whether its first gradient was all zeros)."""
        size = threat.step_size(self.step_rule, self.epsilon, self.steps)
        none = jnp.zeros(len(images), jnp.int32)
        budget = none if self.tau is None else none + self.tau

        def goes_on(loop):
            number, _, stopped, *_ = loop
            return (number < self.steps) & ~jnp.all(stopped)

        def step(loop):
            number, points, stopped, budget, looks, moves, blind = loop
            logits, _, gradients = base.evaluate(logits_fn, lambda logits: objective(logits, targets), points)
            looks += ~stopped
            if self.tau is not None:
                wrong = jnp.argmax(logits, axis=-1) != labels
                stopped |= wrong & (budget == 0)
                budget -= wrong & ~stopped
            moves += ~stopped
            blind |= (number == 0) & base.all_zero(gradients)
            moved = points + size * jnp.sign(gradients)
            if self.jitter_255:
                step_keys = base.fold(named(keys, "jitter"), number)
                moved += self.jitter_255 / 255 * threat.normal(images, step_keys)
            moved = threat.project_box(moved, images, self.epsilon)
            return number + 1, base.select(stopped, points, moved), stopped, budget, looks, moves, blind

        loop = (jnp.int32(0), points, state.done, budget, none, none, jnp.zeros(len(images), bool))
        _, points, _, _, looks, moves, blind = jax.lax.while_loop(goes_on, step, loop)
        return points, looks, moves, blind
