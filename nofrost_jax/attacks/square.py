"""The Square attack (Andriushchenko et al., 2020): random search on the margin, one square of new signs a query.

Its points are corners of the l-infinity ball, so it keeps one sign for each value of an image. Details are as in
AutoAttack (Croce & Hein, 2020b), except that each image draws its own squares and does not depend on the others.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import base, losses, threat
from nofrost_jax.keys import named

STAGE = 250  # queries
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # the squares after which `p` halves


@dataclasses.dataclass(frozen=True)
class Square(base.Attack):
    """Score-based black-box attack. epsilon: l-infinity radius on the [0, 1] scale. queries: forward passes to spend.

    p: share of the image that the first squares cover. It halves after the squares number 10, 50, ... 8000; with
    `rescale`, after the same shares of a budget of 10,000. strict_budget: the first query (vertical stripes) counts;
    otherwise the attack spends 1 + queries, as AutoAttack's does: Square(queries=5000, rescale=False,
    strict_budget=False).

    An image stops as soon as no logit is below its label's: the caller's verdict counts an exact tie as it likes.
    forwards is the number of queries spent, backwards is 0.
    """

    epsilon: float = 8 / 255
    queries: int = 5000
    p: float = 0.8
    rescale: bool = True
    strict_budget: bool = True

    def __post_init__(self) -> None:
        threat.check_budget(self.epsilon)
        threat.require_count("query", queries=self.queries)
        if not 0 < self.p <= 1:
            raise ValueError(f"p is a share of the image and must lie in (0, 1], got p={self.p:g}")

    def carry(self, images: Array) -> tuple[Array, Array]:
        """(up, margin): where the best point so far is above the image, bool [N, H, W, C], and its margin [N]."""
        least = jnp.full(len(images), -jnp.inf, jnp.promote_types(images.dtype, jnp.float32))
        return jnp.zeros(images.shape, bool), least

    def stages(self, num_classes: int) -> int:
        return math.ceil(self.passes(num_classes)[0] / STAGE)

    def passes(self, num_classes: int) -> tuple[int, int]:
        return self.queries + (not self.strict_budget), 0

    def sides(self, height: int, width: int) -> list[int]:
        """Side in pixels of the square of each query, from the second query on: a list of ints."""
        return [self._side(number, height, width) for number in range(self.passes(2)[0] - 1)]

    def _side(self, number, height, width):
        reached = int(number / self.queries * 10_000) if self.rescale else number
        share = self.p / 2 ** sum(reached > halving for halving in HALVINGS)
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)

    def stripes(self, images: Array, keys: Array) -> Array:
        """The random signs of the first query's vertical stripes, bool [N, W, C], each image's from its own key."""
        _, _, width, channels = images.shape
        return jax.vmap(lambda key: jax.random.bernoulli(key, shape=(width, channels)))(_split(keys, 0)[:, 0])

    def squares(self, images: Array, keys: Array, query: Array) -> tuple[Array, Array]:
        """The random numbers of query number `query` (int32 scalar), each image's from its own key: (where its square
        lies between the first and the last possible row and column, [N, 2] in [0, 1); its signs, bool [N, C])."""
        each = _split(keys, query)
        place = jax.vmap(lambda key: jax.random.uniform(key, (2,), jnp.float32))(each[:, 1])
        return place, jax.vmap(lambda key: jax.random.bernoulli(key, shape=images.shape[-1:]))(each[:, 2])

    def points(self, images: Array, up: Array) -> Array:
        """The corners of the ball with the signs `up` (bool, as the images), clipped to [0, 1]."""
        return jnp.clip(jnp.where(up, images + self.epsilon, images - self.epsilon), 0, 1)

    def stage(
        self, logits_fn: base.LogitsFn, images: Array, labels: Array, keys: Array, state: base.State, index: Array
    ) -> base.State:
        _, height, width, _ = images.shape
        total, _ = self.passes(2)
        sides = jnp.asarray([0, *self.sides(height, width)], jnp.int32)
        # All at once: in the loop the small programs of the generator would take a tenth of a small net's time.
        stripes, queries = self.stripes(images, keys), index * STAGE + jnp.arange(STAGE)
        places, signs = jax.vmap(lambda query: self.squares(images, keys, query))(queries)

        def more(loop):
            step, state = loop
            return (step < STAGE) & (index * STAGE + step < total) & ~jnp.all(state.done)

        def spend(loop):
            step, state = loop
            query, (up, best) = index * STAGE + step, state.carry
            inside = _square(places[step], sides[query], height, width)
            square = jnp.where(inside, signs[step][:, None, None], up)
            trial = jnp.where(query == 0, jnp.broadcast_to(stripes[:, None], up.shape), square)
            points = self.points(images, trial)
            margin = losses.margin(logits_fn(points), labels).astype(best.dtype)
            fooled = margin >= 0
            better = (margin > best) | fooled
            carry = base.select(better, trial, up), jnp.where(better, margin, best)
            return step + 1, base.update(state, points, found=fooled, done=fooled, forwards=1, backwards=0, carry=carry)

        return jax.lax.while_loop(more, spend, (jnp.int32(0), state))[1]


def _split(keys, query):
    """Keys [N, 3] of a query: of the stripes, of the square's place and of its signs."""
    return jax.vmap(lambda key: jax.random.split(key, 3))(base.fold(named(keys, "square"), query))


def _square(place, side, height, width):
    """bool [N, H, W, 1]: the square of `side` pixels (int32 scalar) at `place`; the last row and column start none."""

    def span(share, size):
        first = jnp.floor(share * (size - side)).astype(jnp.int32)[:, None]
        pixel = jnp.arange(size)
        return (pixel >= first) & (pixel < first + side)

    return (span(place[:, 0], height)[:, :, None] & span(place[:, 1], width)[:, None, :])[..., None]
