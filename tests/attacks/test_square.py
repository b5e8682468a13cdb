"""Square: schedule, budget, a NumPy transcription on the same draws, the ball, each image by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import keys
from nofrost_jax.attacks import square
from nofrost_jax.attacks.square import Square

RNG = np.random.default_rng(0)
SHAPE, COUNT, EPSILON = (6, 5, 3), 12, 8 / 255  # not square
IMAGES = RNG.uniform(0, 1, (COUNT, *SHAPE)).astype(np.float32)
HIDDEN = RNG.normal(size=(90, 16)).astype(np.float32) / 4, RNG.normal(size=(16, 4)).astype(np.float32)
IMAGE_KEYS = keys.per_image(jax.random.key(1), jnp.arange(COUNT))


def network(images):
    return jnp.tanh((images.reshape(len(images), -1) - 0.5) @ HIDDEN[0]) @ HIDDEN[1]


LABELS = np.asarray(jnp.argmax(network(jnp.asarray(IMAGES)), -1), np.int32)


@functools.cache
def jitted(attack, logits_fn=network):
    return jax.jit(lambda *arguments: attack(logits_fn, *arguments))


def coarse(images):
    """The network with few values of the margin: many squares change nothing and must not be kept."""
    return jnp.round(8 * network(images)) / 8


def constant(images):
    """Always class 0, by the same margin."""
    return jnp.zeros((len(images), 2)).at[:, 0].set(1) + 0 * images.sum()


@pytest.mark.parametrize(
    ("queries", "rescale", "expected"),
    [
        (400, True, {0: 200, 1: 142, 3: 100, 9: 71, 21: 50, 41: 35, 81: 25, 161: 18, 241: 13, 321: 9}),
        (400, False, {0: 200, 11: 142, 51: 100, 201: 71}),
        (5000, False, {0: 200, 11: 142, 51: 100, 201: 71, 501: 50, 1001: 35, 2001: 25, 4001: 18}),
    ],
)
def test_sides_at_224_pixels(queries, rescale, expected):
    sides = Square(queries=queries, rescale=rescale, strict_budget=False).sides(224, 224)
    assert len(sides) == queries
    assert {i: side for i, side in enumerate(sides) if i == 0 or side != sides[i - 1]} == expected
    assert Square(queries=queries, rescale=rescale).sides(224, 224) == sides[:-1]


def test_sides_fit_any_image():
    assert set(Square(queries=50).sides(2, 300)) <= {1, 2}
    assert Square(queries=3, p=1).sides(5, 5)[0] == 5
    assert set(Square(queries=50).sides(1, 1)) == {1}
    quarter = Square(queries=60, p=1, rescale=False)  # from the 52nd square on
    # A half goes to the even neighbour: 5 / 2 = 2.5 to 2, 7 / 2 = 3.5 to 4.
    assert quarter.sides(5, 5)[51] == 2 and quarter.sides(7, 7)[51] == 4


@pytest.mark.parametrize(
    ("attack", "budget"),
    [
        (Square(queries=1), 1),
        (Square(queries=1, strict_budget=False), 2),
        (Square(queries=260), 260),  # more than a stage
        (Square(queries=500, rescale=False, strict_budget=False), 501),  # one query in the last stage
    ],
)
def test_spends_exactly_its_budget_where_nothing_helps(attack, budget):
    calls = []

    def counted(images):
        jax.debug.callback(lambda _: calls.append(len(images)), images[0, 0, 0, 0])
        return constant(images)

    result = jax.jit(lambda *a: attack(counted, *a, active=jnp.ones(1, bool)))(
        IMAGES[:1], np.zeros(1, np.int32), IMAGE_KEYS[:1]
    )
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert result.forwards.tolist() == [len(calls)] == [budget] == [attack.passes(2)[0]]
    assert attack.passes(2)[1] == 0 and result.backwards.tolist() == [0]
    assert not result.zero_gradient.any()
    np.testing.assert_array_equal(result.images, IMAGES[:1])


@functools.cache
def drawing(attack):
    return jax.jit(lambda key, query: attack.squares(jnp.zeros((1, *SHAPE)), key[None], query))


def draw(attack, key, query):
    """One image's square for a query, in NumPy."""
    return [np.asarray(numbers)[0] for numbers in drawing(attack)(key, query)]


def transcription(attack, image, label, key):
    """Square on one image as the paper's algorithm has it, in float64, with the attack's own draws."""
    height, width, _ = image.shape
    weights = [matrix.astype(float) for matrix in HIDDEN]
    net = lambda x: np.round(8 * np.tanh((x.ravel() - 0.5) @ weights[0]) @ weights[1]) / 8  # noqa: E731
    image = image.astype(float)
    stripes = np.asarray(attack.stripes(jnp.zeros((1, *SHAPE)), key[None]))[0]
    best = np.clip(image + EPSILON * np.where(stripes, 1, -1)[None], 0, 1)

    def margin(x):
        logits = net(x)
        return logits[label] - np.delete(logits, label).max()

    smallest, spent = margin(best), 1
    for query, side in enumerate(attack.sides(height, width), start=1):
        if smallest <= 0:
            break
        place, up = draw(attack, key, query)
        row, column = int(place[0] * (height - side)), int(place[1] * (width - side))
        trial = best.copy()
        trial[row : row + side, column : column + side] += 2 * EPSILON * np.where(up, 1, -1)
        trial = np.clip(np.minimum(np.maximum(trial, image - EPSILON), image + EPSILON), 0, 1)
        new, spent = margin(trial), spent + 1
        if new < smallest or new <= 0:
            best, smallest = trial, new
    return best, spent, smallest <= 0


@pytest.mark.parametrize("rescale", [True, False])
def test_equals_a_numpy_transcription(rescale):
    attack = Square(EPSILON, 60, rescale=rescale)
    state = attack.begin(jnp.asarray(IMAGES), jnp.ones(COUNT, bool))
    state = jax.jit(lambda *a: attack.stage(coarse, IMAGES, LABELS, IMAGE_KEYS, *a))(state, jnp.int32(0))
    outcomes = [transcription(attack, *row) for row in zip(IMAGES, LABELS, IMAGE_KEYS, strict=True)]
    best, spent, found = zip(*outcomes, strict=True)
    assert 2 <= sum(found) <= COUNT - 2
    assert state.forwards.tolist() == list(spent) and state.done.tolist() == list(found)
    np.testing.assert_allclose(attack.points(IMAGES, state.carry[0]), np.stack(best), atol=1e-6)
    kept = np.where(np.asarray(found)[:, None, None, None], np.stack(best), IMAGES)
    np.testing.assert_allclose(state.images, kept, atol=1e-6)


def test_the_square_is_square_and_within_its_range():
    """Of H - s + 1 possible first rows the last is never drawn, as in AutoAttack, but for s = H."""
    height, width = 7, 4
    places = np.stack(np.meshgrid(np.linspace(0, 1 - 2**-24, 29), np.linspace(0, 1 - 2**-24, 29)), -1).reshape(-1, 2)
    for side in (1, 3, 4):
        masks = np.asarray(square._square(places.astype(np.float32), jnp.int32(side), height, width))[..., 0]
        rows, columns = masks.any(2), masks.any(1)
        assert np.all(masks == rows[:, :, None] & columns[:, None]) and np.all(masks.sum((1, 2)) == side**2)
        assert set(np.argmax(rows, 1)) == set(range(height - side))
        assert set(np.argmax(columns, 1)) == set(range(max(width - side, 1)))


def test_draws_differ_between_queries_and_images():
    images, image_keys = jnp.zeros((400, 3, 3, 2)), keys.per_image(jax.random.key(3), jnp.arange(400))
    drawn = Square().stripes(images, image_keys), *Square().squares(images, image_keys, 5)
    stripes, place, up = (np.asarray(x, float) for x in drawn)
    assert stripes.shape == (400, 3, 2) and place.shape == (400, 2) and up.shape == (400, 2)
    for draw in (stripes, place, up):
        flat = draw.reshape(400, -1)
        assert np.all(np.abs(flat.mean(0) - 0.5) < 0.1)
        assert np.abs(np.corrcoef(flat.T) - np.eye(flat.shape[1])).max() < 0.25
    other, _ = Square().squares(images, image_keys, 6)
    assert abs(np.corrcoef(place[:, 0], other[:, 0])[0, 1]) < 0.25


def test_a_constant_model_is_never_fooled_and_a_tie_is_no_wrong_prediction():
    labels = np.zeros(3, np.int32)
    result = jitted(Square(0.5, 20), constant)(IMAGES[:3], labels, IMAGE_KEYS[:3])
    np.testing.assert_array_equal(result.images, IMAGES[:3])
    assert result.forwards.tolist() == [20] * 3
    tied = jitted(Square(0.5, 20), lambda x: jnp.zeros((len(x), 3)))(IMAGES[:3], labels, IMAGE_KEYS[:3])
    assert tied.forwards.tolist() == [1] * 3


def test_fools_a_linear_model_exactly_where_the_ball_reaches_its_boundary():
    weights = RNG.choice([-1, 1], size=90).astype(np.float32) * RNG.uniform(0.5, 1, 90).astype(np.float32)
    images = np.full((4, *SHAPE), 0.5, np.float32)
    reach = EPSILON * np.abs(weights).sum()
    offsets = jnp.asarray([0.3, 0.5, 1.01, 2.0]) * reach  # the margin of each image at its centre

    def model(x):
        score = (x - 0.5).reshape(4, -1) @ weights + offsets
        return jnp.stack([score, -score], -1) / 2

    result = jax.jit(lambda *a: Square(EPSILON, 800)(model, *a))(images, np.zeros(4, np.int32), IMAGE_KEYS[:4])
    assert (jnp.argmax(model(result.images), -1) != 0).tolist() == [True, True, False, False]
    assert result.forwards[:2].max() < 800 and result.forwards[2:].tolist() == [800] * 2


def test_an_image_depends_on_its_own_key_only():
    attack = jitted(Square(EPSILON, 60))
    together = attack(IMAGES, LABELS, IMAGE_KEYS)
    alone = [attack(IMAGES[i : i + 1], LABELS[i : i + 1], IMAGE_KEYS[i : i + 1]) for i in range(COUNT)]
    np.testing.assert_array_equal(together.images, np.concatenate([result.images for result in alone]))
    np.testing.assert_array_equal(together.forwards, np.concatenate([result.forwards for result in alone]))
    other = attack(IMAGES, LABELS, keys.per_image(jax.random.key(9), jnp.arange(COUNT)))
    assert np.any(np.asarray(other.forwards) != together.forwards)


def test_the_length_of_a_stage_does_not_matter(monkeypatch):
    attack = Square(EPSILON, 60)
    one = jitted(attack)(IMAGES, LABELS, IMAGE_KEYS)
    monkeypatch.setattr(square, "STAGE", 7)
    assert attack.stages(4) == 9
    many = jax.jit(lambda *a: attack(network, *a))(IMAGES, LABELS, IMAGE_KEYS)
    jax.tree.map(np.testing.assert_array_equal, one, many)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epsilon": 8}, "pixel values"), ({"queries": 0}, "at least 1 query"), ({"p": 0}, "share of the image")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Square(**options)
