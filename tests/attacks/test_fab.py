"""FAB: its projection by brute force, its steps in NumPy, known distances, what counts and what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import keys
from nofrost_jax.attacks import base, threat
from nofrost_jax.attacks.fab import FAB, minimum_norm, project

RNG = np.random.default_rng(0)
SHAPE = (5, 4, 3)  # not square
COUNT = 8
IMAGES = np.clip(RNG.uniform(-0.1, 1.1, (COUNT, *SHAPE)), 0, 1).astype(np.float32)  # some pixels saturated
HIDDEN = RNG.normal(size=(60, 16)).astype(np.float32) / 4, RNG.normal(size=(16, 4)).astype(np.float32)
IMAGE_KEYS = keys.per_image(jax.random.key(1), jnp.arange(COUNT))
FREE = {"epsilon": 1.0, "steps": 10, "targets": 1}  # fools every image
TIGHT = {"epsilon": 0.05, "steps": 8, "restarts": 2}  # some images survive


def network(images):
    return jnp.tanh(images.reshape(images.shape[0], -1) @ HIDDEN[0]) @ HIDDEN[1]


LABELS = np.asarray(jnp.argmax(network(jnp.asarray(IMAGES)), -1), np.int32)
RUNNERS_UP = np.asarray(jnp.argsort(-network(jnp.asarray(IMAGES)), -1)[:, 1], np.int32)


@functools.cache
def attacking(attack, logits_fn=network):
    return jax.jit(functools.partial(attack, logits_fn))


def fab(images=IMAGES, labels=LABELS, image_keys=IMAGE_KEYS, logits_fn=network, **options):
    """An AttackResult of NumPy arrays."""
    return jax.tree.map(np.asarray, attacking(FAB(**options), logits_fn)(images, labels, image_keys))


def lengths(deltas):
    return np.abs(deltas).max((1, 2, 3))


def projected(point, normal, excess):
    """The projection of one point in float64, by bisection on how far its components go."""
    point, normal = np.asarray(point, np.float64), np.asarray(normal, np.float64) * (1 if excess >= 0 else -1)
    room = np.where(normal < 0, 1 - point, point) * (normal != 0)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = np.abs(normal) @ np.minimum(middle, room) >= abs(excess)
        low, high = (low, middle) if enough else (middle, high)
    return -np.sign(normal) * np.minimum(high, room)


@pytest.mark.parametrize("size", [1, 2, 13, 64])
@pytest.mark.parametrize("kind", ["inside", "border", "corner"])
def test_projection_is_the_smallest_by_brute_force(size, kind):
    rng = np.random.default_rng(size)
    uniform = rng.uniform(0, 1, (300, size))
    points = {"inside": uniform, "border": np.clip(3 * uniform - 1, 0, 1), "corner": np.round(uniform)}[kind]
    normals = rng.choice([-1, 1], uniform.shape) * rng.uniform(0.2, 2, uniform.shape)
    normals[::2] *= rng.uniform(size=normals[::2].shape) < 0.5
    normals[:3] = 0
    room = (np.abs(normals) * np.where(normals < 0, 1 - points, points)).sum(1)
    excess = np.sign(rng.normal(size=300)) * np.maximum(room, 0.1) * rng.choice([0, 0.01, 0.3, 0.9, 2], 300)
    points, normals, excess = (each.astype(np.float32) for each in (points, normals, excess))
    found = np.asarray(jax.jit(project)(points, normals, excess))
    expected = np.stack([projected(*each) for each in zip(points, normals, excess, strict=True)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.all(found[normals == 0] == 0) and np.all((points + found >= -1e-7) & (points + found <= 1 + 1e-7))
    changed = (found.astype(np.float64) * normals).sum(1)
    feasible = np.abs((expected * normals).sum(1) + excess) < 1e-6
    assert (size == 1 or 0 < feasible.sum() < 300) and np.abs(changed + excess)[feasible].max() < 1e-5 * size


def test_projection_does_not_depend_on_the_batch():
    rng = np.random.default_rng(1)
    points = np.clip(rng.uniform(-1, 2, (9, 40)), 0, 1).astype(np.float32)  # many equal rooms
    normals, excess = rng.normal(size=(9, 40)).astype(np.float32), rng.normal(size=9).astype(np.float32)
    alone = [jax.jit(project)(points[i : i + 1], normals[i : i + 1], excess[i : i + 1]) for i in range(9)]
    np.testing.assert_array_equal(jax.jit(project)(points, normals, excess), np.concatenate(alone))


def test_projection_is_not_led_astray_by_tiny_weights():
    """Where the change needed is just what the large weights can give, in float32, the tiny ones must not decide."""
    size, steps = 64, np.arange(-20, 21)
    points = np.linspace(0.29, 0.31, size, dtype=np.float32)
    normals = np.linspace(0.5, 1.5, size, dtype=np.float32)
    points[::4], normals[::4] = 0.9, 1e-9
    enough = np.float32(normals @ points)
    excess = (enough + steps * np.spacing(enough)).astype(np.float32)
    found = jax.jit(project)(np.tile(points, (len(steps), 1)), np.tile(normals, (len(steps), 1)), excess)
    np.testing.assert_allclose(found @ normals, -excess, rtol=1e-5)


def transcription(image, label, target, steps, alpha_max, eta, beta):
    """FAB on `network` in float64 for one image: (distance, adversarial image)."""
    image = image.reshape(-1).astype(np.float64)
    first, second = (each.astype(np.float64) for each in HIDDEN)
    point, adversarial, best = image, image, np.inf
    for _ in range(steps):
        hidden = np.tanh(point @ first)
        difference = second[:, target] - second[:, label]
        excess, normal = hidden @ difference, first @ (difference * (1 - hidden**2))
        offset = normal @ point - excess
        here, clean = projected(point, normal, excess), projected(image, normal, normal @ image - offset)
        one, two = max(np.abs(here).max(), 1e-8), max(np.abs(clean).max(), 1e-8)
        share = min(one / (one + two), alpha_max)
        point = np.clip((1 - share) * (point + eta * here) + share * (image + eta * clean), 0, 1)
        if np.argmax(np.tanh(point @ first) @ second) != label:
            distance = np.abs(point - image).max()
            if distance < best:
                best, adversarial = distance, point
            point = image + beta * (point - image)
    return best, adversarial


@pytest.mark.parametrize("options", [(0.1, 1.05, 0.9), (0.2, 1.2, 0.5)])
def test_equals_a_numpy_transcription(options):
    named = dict(zip(("alpha_max", "eta", "beta"), options, strict=True), steps=12)
    search = jax.jit(functools.partial(minimum_norm, network, **named))
    distances, adversarial, blind = search(IMAGES, LABELS, RUNNERS_UP, IMAGES)
    expected = [transcription(*each, 12, *options) for each in zip(IMAGES, LABELS, RUNNERS_UP, strict=True)]
    np.testing.assert_allclose(distances, [distance for distance, _ in expected], rtol=1e-4)
    np.testing.assert_allclose(np.reshape(adversarial, (COUNT, -1)), [image for _, image in expected], atol=1e-5)
    assert np.isfinite(distances).all() and not np.any(blind)


def test_keeps_no_image_before_the_boundary():
    """The margin flattens towards the boundary at a distance of 0.05: the first steps do not get there."""

    def flattening(images):
        return jnp.stack([jnp.exp(40 * (0.55 - images.mean((1, 2, 3)))), jnp.ones(len(images))], -1)

    images, label = jnp.full((1, *SHAPE), 0.5, jnp.float32), jnp.zeros(1, jnp.int32)
    search = jax.jit(lambda steps: minimum_norm(flattening, images, label, label + 1, images, steps=steps))
    few, many = search(2), search(40)
    assert np.isinf(few[0]) and (few[1] == images).all()
    assert 0.05 <= many[0][0] <= 0.0505 and np.argmax(flattening(many[1]), -1) == 1


def test_comes_back_from_where_the_gradient_is_zero():
    def cliff(images):
        mean = images.mean((1, 2, 3))
        return jnp.stack([jnp.zeros(len(images)), jnp.where(mean < 0.6, mean - 0.55, -0.05)], -1)

    images, label = np.full((1, *SHAPE), 0.5, np.float32), np.zeros(1, np.int32)
    start = np.full_like(images, 0.62)
    distances, _, blind = jax.jit(functools.partial(minimum_norm, cliff, steps=30))(images, label, label + 1, start)
    np.testing.assert_allclose(distances, 0.05, rtol=0.01)
    assert np.all(blind)


@pytest.mark.parametrize("inside", [True, False])
def test_finds_the_known_distance_of_a_two_class_linear_model(inside):
    """|margin| / |w|_1 where no pixel saturates; otherwise the length of the projection onto the boundary."""
    rng = np.random.default_rng(3)
    images = (0.35 + 0.3 * IMAGES if inside else IMAGES).astype(np.float32)
    weights = rng.normal(size=(60, 2)).astype(np.float32)
    slope = (weights[:, 1] - weights[:, 0]).astype(np.float64)
    flat = images.reshape(COUNT, -1)
    middle = flat @ slope + np.abs(slope).sum() * np.where(np.arange(COUNT) % 2, 0.1, -0.1) * rng.uniform(0.5, 1, COUNT)
    labels = (flat @ slope > middle).astype(np.int32)

    def linear(images):
        scores = images.reshape(images.shape[0], -1) @ weights
        return scores.at[:, 0].add(middle.astype(np.float32))

    search = jax.jit(functools.partial(minimum_norm, linear, steps=60))
    distances, adversarial, _ = search(images, labels, 1 - labels, images)
    excess = flat @ slope - middle
    expected = np.array([np.abs(projected(*each)).max() for each in zip(flat, [slope] * COUNT, excess, strict=True)])
    if inside:
        np.testing.assert_allclose(expected, np.abs(excess) / np.abs(slope).sum(), rtol=1e-12)
    assert np.all(distances >= expected * (1 - 1e-4)) and np.all(distances <= expected * 1.01)
    np.testing.assert_array_equal(distances, lengths(adversarial - images))
    assert np.all(np.argmax(linear(adversarial), -1) != labels)


def test_only_misclassified_images_within_epsilon_are_returned():
    free = fab(**FREE)
    distances = lengths(free.images - IMAGES)
    assert len(set(distances)) == COUNT and distances.min() > 0
    middle = np.sort(distances)[COUNT // 2]
    for epsilon, reached in ((middle, distances <= middle), (np.nextafter(middle, np.float32(0)), distances < middle)):
        result = fab(**FREE | {"epsilon": float(epsilon)})
        np.testing.assert_array_equal(result.images, np.where(reached[:, None, None, None], free.images, IMAGES))
        assert np.all(lengths(result.images - IMAGES) <= epsilon)
    assert free.images.min() >= 0 and free.images.max() <= 1
    assert np.all(np.argmax(network(free.images), -1) != LABELS)


def test_passes_are_counted_until_an_image_is_fooled():
    attack = FAB(**TIGHT)
    assert attack.stages(4) == 6 and attack.stages(100) == 18 and attack.passes(4) == (6 * 17, 6 * 8)
    result = fab(**TIGHT)
    survived = (result.images == IMAGES).all((1, 2, 3))
    assert survived.any() and (result.forwards == 17).any()
    np.testing.assert_array_equal(survived, result.forwards == 6 * 17)
    np.testing.assert_array_equal(result.forwards // 17 * 8, result.backwards)
    assert np.all(result.forwards % 17 == 0)


def test_goes_on_to_the_next_class_where_the_runner_up_is_out_of_reach():
    """Class 1 has the second greatest logit, but hardly depends on the image; class 2 does."""
    weights = np.stack([np.zeros(60), np.full(60, 1e-3), np.ones(60)], -1).astype(np.float32)
    bias = np.array([31, 30.5, 0], np.float32)

    def linear(images):
        return images.reshape(images.shape[0], -1) @ weights + bias

    images, labels = np.full((2, *SHAPE), 0.5, np.float32), np.zeros(2, np.int32)
    first = fab(images, labels, IMAGE_KEYS[:2], linear, epsilon=0.05, targets=1, steps=5)
    both = fab(images, labels, IMAGE_KEYS[:2], linear, epsilon=0.05, steps=5)
    assert (first.images == images).all() and first.forwards.tolist() == [11, 11]
    np.testing.assert_allclose(lengths(both.images - images), 1 / 60, rtol=0.06)
    assert both.forwards.tolist() == [22, 22]


def test_first_start_is_the_image_and_the_others_are_random():
    others = keys.per_image(jax.random.key(2), jnp.arange(COUNT))
    np.testing.assert_array_equal(fab(**FREE).images, fab(image_keys=others, **FREE).images)
    attack = FAB(**FREE, restarts=2)
    stage = jax.jit(functools.partial(attack.stage, network, IMAGES, LABELS))
    begun = attack.begin(jnp.asarray(IMAGES), jnp.full(COUNT, True))
    first, second, third = (
        np.asarray(stage(image_keys, begun, index).images)
        for image_keys, index in ((IMAGE_KEYS, 0), (IMAGE_KEYS, 1), (others, 1))
    )
    np.testing.assert_allclose(first, fab(**FREE).images, atol=1e-6)
    assert lengths(second - first).min() > 0 and lengths(second - third).min() > 0
    start = threat.largest_start(jnp.asarray(IMAGES), 0.5, keys.named(base.fold(IMAGE_KEYS, 1), "start"))
    _, expected, _ = jax.jit(functools.partial(minimum_norm, network, steps=10))(IMAGES, LABELS, RUNNERS_UP, start)
    np.testing.assert_allclose(second, expected, atol=1e-6)


def test_a_constant_model_leaves_the_image_as_it_is():
    def constant(images):
        return jnp.zeros((images.shape[0], 3), images.dtype) + jnp.arange(3)

    images = np.broadcast_to(np.float32([0, 0.5, 1])[:, None, None, None], (3, *SHAPE))
    result = fab(images, np.full(3, 2, np.int32), IMAGE_KEYS[:3], constant, steps=4)
    assert (result.images == images).all() and result.zero_gradient.all()


def test_black_and_white_images_and_two_classes():
    def two(images):
        return network(images - 0.3)[:, :2]

    images = np.broadcast_to(np.float32([0, 1])[:, None, None, None], (2, *SHAPE))
    labels = np.asarray(jnp.argmax(two(images), -1), np.int32)
    result = fab(images, labels, IMAGE_KEYS[:2], two, epsilon=1.0, steps=20)
    assert np.all(np.argmax(two(result.images), -1) != labels) and not result.zero_gradient.any()
    assert result.images.min() >= 0 and result.images.max() <= 1 and result.forwards.tolist() == [41, 41]


def test_an_image_by_itself_comes_out_the_same():
    together = fab(**TIGHT)
    rows = [slice(index, index + 1) for index in range(COUNT)]
    alone = [fab(IMAGES[row], LABELS[row], IMAGE_KEYS[row], **TIGHT) for row in rows]
    np.testing.assert_allclose(together.images, np.concatenate([each.images for each in alone]), atol=1e-6)
    assert together.forwards.tolist() == [int(each.forwards[0]) for each in alone]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 8}, "pixel values"),
        ({"steps": 0}, "at least 1 step"),
        ({"restarts": 0}, "at least 1 start"),
        ({"targets": 0}, "at least 1 target"),
        ({"alpha_max": 1.5}, "alpha_max"),
        ({"eta": 0.9}, "eta"),
        ({"beta": 0}, "beta"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FAB(**options)
