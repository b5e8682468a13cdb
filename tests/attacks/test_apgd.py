"""APGD: its checkpoints, its starts, and its loop against a transcription, on losses that a script dictates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from nofrost_jax import keys
from nofrost_jax.attacks import apgd, threat

EPSILON, COUNT, SHAPE = 8 / 255, 64, (2, 1, 3)


@pytest.mark.parametrize(
    ("steps", "checks"),
    [
        (1, [1]),
        (10, list(range(2, 11))),
        (20, [4, 7, 9, *range(10, 21)]),
        (50, [11, 21, 30, 38, 45]),
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
    ],
)
def test_the_step_may_halve_after_these_iterations(steps, checks):
    window, following = apgd.schedule(steps)
    windows = [int(window)]
    while sum(windows) + following(windows[-1]) <= steps:
        windows.append(int(following(windows[-1])))
    assert np.cumsum(windows).tolist() == checks


def test_starts_reach_the_border_of_the_ball_once():
    images = jnp.full((20, 3, 2, 1), 0.5)
    start = threat.largest_start(images, EPSILON, keys.per_image(jax.random.key(0), jnp.arange(20)))
    changes = np.sort(np.abs(start - images).reshape(20, -1), axis=1)
    np.testing.assert_allclose(changes[:, -1], EPSILON, rtol=1e-5)
    assert (changes[:, -2] < 0.999 * EPSILON).all()


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_the_loop_equals_a_transcription(steps):
    """The losses are small integers, so that equal ones, and plateaus, abound; gradients are zero here and there."""
    rng = np.random.default_rng(steps)
    images = rng.uniform(size=(COUNT, *SHAPE)).astype(np.float32)
    start = np.clip(images + EPSILON * rng.uniform(-1, 1, images.shape), 0, 1).astype(np.float32)
    # Losses that climb (no halving), that wander, that are negative (DLR's first one is compared with 0), and that long
    # do not reach the start's.
    trend = rng.choice([0.0, 0.3, 1.0], (1, COUNT))
    values = np.floor(rng.normal(size=(steps + 1, COUNT)) + trend * np.arange(steps + 1)[:, None])
    values -= rng.choice([0, 100], (1, COUNT))
    values[0] += rng.choice([0, 0, 20], COUNT)
    gradients = rng.choice([-2.0, 0.0, 3.0], (steps + 1, *images.shape), p=[0.45, 0.1, 0.45])
    script = rng.uniform(size=values.shape) < 1 / steps, values.astype(np.float32), gradients.astype(np.float32)
    fooled, adversarial, loss, best, blind = _play(script, images, start, steps)
    for row in range(COUNT):
        expected = _transcription([part[:, row] for part in script], images[row], start[row], steps)
        assert fooled[row] == expected["fooled"] and loss[row] == expected["loss"]
        np.testing.assert_allclose(adversarial[row], expected["adversarial"], atol=2e-6)
        np.testing.assert_allclose(best[row], expected["best"], atol=2e-6)
    assert blind.tolist() == (gradients[0] == 0).all((1, 2, 3)).tolist()
    assert len(set(loss.tolist())) > 5 and 0 < fooled.sum() < COUNT


def _play(script, images, start, steps):
    """`maximise` where evaluation number k answers with row k of the script, whatever the points."""
    calls = iter(range(steps + 1))
    shapes = jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape[1:], part.dtype), script)

    def evaluate(points):
        def answer(points):
            number = next(calls)
            return tuple(part[number] for part in script)

        return io_callback(answer, shapes, points, ordered=True)

    run = jax.jit(lambda images, start: apgd.maximise(evaluate, images, start, EPSILON, steps))
    return jax.tree.map(np.asarray, run(images, start))


def _transcription(script, image, start, steps):
    """One image, in float64: the loop as the specification of Croce & Hein's code gives it, with a full history."""
    wrong, values, gradients = script
    window, least, decrease = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)

    def project(point):
        return np.clip(np.clip(point, image - EPSILON, image + EPSILON), 0, 1)

    previous = point = best = adversarial = start.astype(np.float64)
    best_gradient, gradient = gradients[0], gradients[0]
    best_value = last_check_value = values[0]
    reduced, since, size, history = True, 0, 2 * EPSILON, np.zeros(steps)
    for number in range(steps):
        share = 1 if number == 0 else 0.75
        target = project(point + size * np.sign(gradient))
        previous, point = point, project(point + share * (target - point) + (1 - share) * (point - previous))
        gradient, history[number] = gradients[number + 1], values[number + 1]
        if wrong[number + 1]:
            adversarial = point
        if history[number] > best_value:
            best, best_gradient, best_value = point, gradient, history[number]
        since += 1
        if since == window:
            increases = sum(history[j] > history[j - 1] for j in range(number - window + 1, number + 1))
            reduced = increases <= 0.75 * window or (not reduced and last_check_value >= best_value)
            last_check_value = best_value
            if reduced:
                size, point, gradient = size / 2, best, best_gradient
            since, window = 0, max(window - decrease, least)
    return {"fooled": wrong.any(), "adversarial": adversarial, "loss": best_value, "best": best}
