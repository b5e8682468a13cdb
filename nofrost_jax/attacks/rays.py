"""RayS (Chen & Gu, 2020): hard labels only, a search for the direction of signs with the nearest decision boundary.

A direction is a sign for each value of the image, scaled to unit l2 length. The attack flips one block of signs after
the other, in halving sizes: a probe asks whether the flipped direction fools the model at the smallest distance known;
if it does, a bisection finds the new smallest distance. Nothing is random. The blocks run through the image channel by
channel, as in the authors' code, whose arrays are [C, H, W].
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, threat

STAGE = 250  # queries
OVERRUN = 32  # queries that a bisection begun within the budget can spend beyond it, at most (19 at 224 pixels)
TOLERANCE = 1e-3  # l2 distance at which a bisection ends
TOP_LEVEL = 30  # blocks have a single value long before


class Search(NamedTuple):
    """The state of each image's search; a row for each image.

    up: signs of the best direction. distance: l2 distance at which it fools the model, before the pixels are clipped;
    inf until there is one. level, block: the block of `up` that is flipped now. bisecting: between `low` and `high`;
    otherwise the next query is a probe. first_success: queries spent at the first success, 0 before it.
    """

    up: jax.Array
    distance: jax.Array
    level: jax.Array
    block: jax.Array
    bisecting: jax.Array
    low: jax.Array
    high: jax.Array
    first_success: jax.Array


@dataclasses.dataclass(frozen=True)
class RayS(base.Attack):
    """Untargeted hard-label attack. epsilon: l-infinity radius on the [0, 1] scale. queries: forward passes to spend.

    strict_budget: an image spends at most `queries`, and a bisection that they cut off keeps what it has reached;
    otherwise a bisection is finished, because the budget is checked before probes only.

    official: count as the authors' code does. No image stops at its success, so the perturbation shrinks further; the
    budget is checked before probes only; misclassified images are attacked, too. forwards is then what was spent,
    slightly more than `queries`. The authors report first_success of the state's carry (`Search`), clipped to
    `queries`, or `queries` where it is 0. One difference: an image so light that white is within epsilon is no success
    by itself.

    backwards is 0.
    """

    epsilon: float = 8 / 255
    queries: int = 400
    strict_budget: bool = True
    official: bool = False

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon)
        threat.require_count("query", queries=self.queries)

    @property
    def attacks_misclassified(self) -> bool:
        return self.official

    @property
    def strict(self) -> bool:
        """Whether no image can spend more than `queries`."""
        return self.strict_budget and not self.official

    def carry(self, images: Array) -> Search:
        count = len(images)
        # At least float32, as the authors' distances: it resolves 3e-5 on the longest ray at 224 pixels, 388, and 1e-6
        # where success lies, near 12. Bisections end at 1e-3.
        zero, number = jnp.zeros(count, jnp.promote_types(images.dtype, jnp.float32)), jnp.zeros(count, jnp.int32)
        return Search(
            up=jnp.ones(images.shape, bool),
            distance=zero + jnp.inf,
            level=number,
            block=number,
            bisecting=jnp.zeros(count, bool),
            low=zero,
            high=zero,
            first_success=number,
        )

    def stages(self, num_classes: int) -> int:
        return math.ceil(self.passes(num_classes)[0] / STAGE)

    def passes(self, num_classes: int) -> tuple[int, int]:
        return self.queries + (0 if self.strict else OVERRUN), 0

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        total, _ = self.passes(2)

        def more(loop):
            step, state = loop
            return (step < STAGE) & (index * STAGE + step < total) & ~jnp.all(state.done)

        def spend(loop):
            step, state = loop
            search, spent = state.carry, index * STAGE + step + 1  # all rows not done have spent the same
            trial, ends_level = _flip(search)
            asked = jnp.where(search.bisecting, (search.low + search.high) / 2, search.distance)
            fooled = jnp.argmax(logits_fn(_point(images, trial, asked)), axis=-1) != labels
            search, nearer = self._learn(search, trial, ends_level, asked, fooled, spent)
            best = _point(images, search.up, search.distance)
            change = jnp.max(jnp.abs(best - images), axis=(1, 2, 3))
            success = nearer & (change <= self.epsilon)
            first = jnp.where(success & (search.first_success == 0), spent, search.first_success)
            exhausted = (spent >= self.queries) & (self.strict | ~search.bisecting)
            return step + 1, base.update(
                state,
                best,
                found=success,
                done=exhausted | (success & (not self.official)),
                forwards=1,
                backwards=0,
                carry=search._replace(first_success=first),
            )

        return jax.lax.while_loop(more, spend, (jnp.int32(0), state))[1]

    def _learn(self, search, trial, ends_level, asked, fooled, spent):
        """The Search after an answer, and where it found a smaller distance (bool [N])."""
        longest = math.sqrt(math.prod(trial.shape[1:]))
        low = jnp.where(search.bisecting & ~fooled, asked, jnp.where(search.bisecting, search.low, 0))
        high = jnp.where(fooled, jnp.minimum(asked, longest), search.high)  # after a probe, `asked` is the distance
        bisected = search.bisecting & (high - low <= TOLERANCE)
        bisecting = (search.bisecting | fooled) & ~bisected
        commits = bisected | (bisecting & self.strict & (spent >= self.queries))
        nearer = commits & (high < search.distance)
        next_level = ~bisecting & ends_level
        search = search._replace(
            up=base.select(nearer, trial, search.up),
            distance=jnp.where(nearer, high, search.distance),
            level=jnp.minimum(search.level + next_level, TOP_LEVEL),
            block=jnp.where(next_level, 0, search.block + ~bisecting),
            bisecting=bisecting,
            low=low,
            high=high,
        )
        return search, nearer


def _flip(search):
    """The signs with the current block flipped, and whether this block is the last of its level (bool [N])."""
    _, height, width, channels = search.up.shape
    dimension = height * width * channels
    size = ((dimension - 1) >> search.level) + 1  # dimension / 2^level, rounded up
    end = (search.block + 1) * size
    order = jnp.arange(dimension).reshape(channels, height, width).transpose(1, 2, 0)
    row = lambda numbers: numbers[:, None, None, None]  # noqa: E731
    inside = (order >= row(end - size)) & (order < row(end))
    return search.up ^ inside, (search.block + 1 == 1 << search.level) | (end >= dimension)


def _point(images, up, distance):
    """The point at l2 `distance` [N] along the signs, clipped to [0, 1]; at inf, the image of zeros and ones."""
    step = distance[:, None, None, None] * (1 / math.sqrt(math.prod(images.shape[1:])))
    return jnp.clip(jnp.where(up, images + step, images - step), 0, 1).astype(images.dtype)
