"""Square against AutoAttack's, on the same squares: the random numbers are drawn once and given to both."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import torch
from pyautoattack.square import SquareAttack

from nofrost_jax.attacks.square import Square
from tests.parity import fixture
from tests.parity.fixture import Row

EPSILON, QUERIES, IMAGES = 1.5 / 255, 200, 400


class _Numbers:
    """One square for all images in each query, as the reference draws them; stripes differ from image to image."""

    def __init__(self, queries, count, width=fixture.SIZE):
        rng = np.random.default_rng(1)
        self.stripes = rng.random((count, width, 3)) < 0.5
        self.places = rng.random((queries, 2))
        self.signs = rng.random((queries, 3)) < 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class _Replayed(Square):
    numbers: _Numbers = None

    def stripes(self, images, keys):
        return jnp.asarray(self.numbers.stripes)

    def squares(self, images, keys, query):
        every = lambda row: jnp.broadcast_to(row, (len(images), *row.shape))  # noqa: E731
        square = jnp.maximum(query - 1, 0)
        places, signs = jnp.asarray(self.numbers.places), jnp.asarray(self.numbers.signs)
        return every(places[square]), every(signs[square])


class _Reference(SquareAttack):
    """The reference on the recorded numbers, in the order in which it asks for them."""

    def replay(self, numbers):
        self.places = iter(numbers.places.ravel())
        stripes = np.moveaxis(numbers.stripes, 1, 2)[:, :, None]
        self.signs = iter([stripes, *numbers.signs[:, :, None, None]])

    def random_int(self, low=0, high=1, shape=(1,)):
        return int(low + (high - low) * next(self.places))

    def random_choice(self, shape):
        signs = torch.from_numpy(np.where(next(self.signs), 1.0, -1.0))
        assert list(signs.shape) == list(shape)
        return signs


def _theirs(fix, numbers, rescale):
    attack = _Reference(fix.torch_net, eps=EPSILON, n_queries=QUERIES, resc_schedule=rescale)
    attack.init_hyperparam(fix.torch_images)
    attack.replay(numbers)
    queries, points = attack.attack_single_run(fix.torch_images, fix.torch_labels)
    return fixture.nhwc(points), queries.numpy()


def _ours(fix, numbers, rescale):
    """(best points, fooled or not, queries, fooled); AutoAttack's count of queries has the first one extra."""
    attack = _Replayed(EPSILON, QUERIES, rescale=rescale, strict_budget=False, numbers=numbers)

    @jax.jit
    def run(images, labels, keys):
        state = attack.begin(images, jnp.ones(len(images), bool))
        for index in range(attack.stages(fixture.CLASSES)):
            state = attack.stage(fix.logits, images, labels, keys, state, jnp.int32(index))
        return attack.points(images, state.carry[0]), state

    points, state = run(fix.images, fix.labels, fix.keys)
    assert np.array_equal(state.images, np.where(np.asarray(state.done)[:, None, None, None], points, fix.images))
    return np.asarray(points), np.asarray(state.forwards), np.asarray(state.done)


def _sides_that_differ():
    """How many of the squares' sides differ from those of the reference's shares of the image."""
    different = 0
    for queries in range(200, 5001, 48):
        for size, rescale in ((224, True), (32, False)):
            theirs = SquareAttack(None, n_queries=queries, resc_schedule=rescale)
            shares = np.array([theirs.p_selection(number) for number in range(queries)])
            expected = np.clip(np.round(np.sqrt(shares * size * size)), 1, size)
            ours = Square(queries=queries, rescale=rescale, strict_budget=False).sides(size, size)
            different += int((expected != ours).sum())
    return different


def rows():
    found = []
    for activation in fixture.ACTIVATIONS:
        fix = fixture.make(IMAGES, activation)
        numbers = _Numbers(QUERIES, IMAGES)
        for rescale in (True, False):
            points, queries = _theirs(fix, numbers, rescale)
            our_points, our_queries, fooled = _ours(fix, numbers, rescale)
            assert 0.2 < fooled.mean() < 0.9
            what = f"{activation}, {QUERIES} queries, {'rescaled' if rescale else 'raw'}"
            found.append(Row("Square", f"{what}: points", np.abs(our_points - points).max(), 1e-12))
            found.append(Row("Square", f"{what}: counts", np.abs(our_queries - queries).max(), 0))
    found.append(Row("Square", "sides that differ, 200 to 5000 queries", _sides_that_differ(), 0))
    return found
