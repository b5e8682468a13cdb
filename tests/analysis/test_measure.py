"""Margin, thickness and smoothness against a transcription in NumPy, and against what they are on a linear net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import attacks
from nofrost_jax.analysis import properties
from nofrost_jax.keys import named

STD = (0.25, 0.2, 0.3)
SHAPE = (12, 4, 4, 3)
THICKNESS = properties.Thickness()
ATTACK = attacks.create("pgd", epsilon_255=8, steps=20, step_rule="nofrost")


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def case():
    """(weights of a net with one hidden layer, images, labels, keys)."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(48, 16)) / 2, rng.normal(size=(16, 5))
    images = rng.uniform(0, 1, SHAPE)
    images[:4] = images[:4] > 0.5  # at the range's ends, where x* is cut
    return weights, images, rng.integers(0, 5, 12), jax.random.split(jax.random.key(3), 12)


def net(weights, images):
    return jnp.tanh((images.reshape(len(images), -1) - 0.5) @ weights[0]) @ weights[1]


def measured(case, options=THICKNESS):
    weights, images, labels, keys = case
    arrays = jnp.asarray(images), jnp.asarray(labels), keys
    return jax.jit(lambda *arrays: properties.measure(lambda x: net(weights, x), *arrays, STD, ATTACK, options))(
        *arrays
    )


class Transcription:
    """The definitions, one image at a time, in NumPy."""

    def __init__(self, weights):
        self.first, self.second = weights

    def logits(self, image):
        return np.tanh((image.ravel() - 0.5) @ self.first) @ self.second

    def p(self, image):
        powers = np.exp(self.logits(image) - self.logits(image).max())
        return powers / powers.sum()

    def gradient(self, image, target):
        """Of the cross-entropy with `target`."""
        hidden = np.tanh((image.ravel() - 0.5) @ self.first)
        wrong = self.p(image) - np.eye(5)[target]
        return (self.first @ ((1 - hidden**2) * (self.second @ wrong))).reshape(image.shape)

    def margin(self, image, label):
        return self.p(image)[label] - np.delete(self.p(image), label).max()

    def divergence(self, image, other):
        return np.sum(self.p(image) * np.log(self.p(image) / self.p(other)))

    def far(self, image, target, options):
        std, z = np.array(STD), image / np.array(STD)
        point = z.copy()
        for _ in range(20):
            gradient = self.gradient(point * std, target) * std
            delta = point - options.step * gradient / np.linalg.norm(gradient) - z
            delta *= min(1, options.radius / np.linalg.norm(delta))
            point = np.clip(z + delta, 0, 1 / std)
        return point * std

    def thickness(self, image, far, j, std):
        i, inside = self.logits(image).argmax(), 0
        for t in np.linspace(0, 1, 128):
            p = self.p(t * image + (1 - t) * far)
            inside += 0 < p[i] - p[j] < 0.75
        return np.linalg.norm((image - far) / std) * inside / 128


@pytest.mark.parametrize("options", [THICKNESS, properties.Thickness(radius=0.8, step=0.1)], ids=["long", "short"])
def test_they_equal_a_transcription(case, options):
    """Short attacks often reach neither the class they aim at nor another."""
    weights, images, labels, keys = case
    found, oracle = jax.device_get(measured(case, options)), Transcription(weights)
    attacked = ATTACK(lambda x: net(weights, x), jnp.asarray(images), jnp.asarray(labels), named(keys, "smoothness"))
    expected = []
    for n, (image, label) in enumerate(zip(images, labels, strict=True)):
        far = oracle.far(image, found["target"][n], options)
        reached = oracle.logits(far).argmax()
        assert (found["predicted"][n], found["reached"][n]) == (oracle.logits(image).argmax(), reached)
        classes = {"": reached, "_target": found["target"][n]}
        units = {"": np.array(STD), "_pixels": 1.0}
        thickness = {
            f"thickness{j}{unit}": oracle.thickness(image, far, classes[j], units[unit])
            for j in classes
            for unit in units
        }
        other = np.asarray(attacked.images[n])
        expected.append(
            {"margin": oracle.margin(image, label), "smoothness": oracle.divergence(image, other), **thickness}
        )
    assert sorted(expected[0]) == sorted(properties.VALUES)
    for name in properties.VALUES:
        # steps divide by the gradient's length + 1e-10
        np.testing.assert_allclose(found[name], [one[name] for one in expected], rtol=1e-7, atol=1e-12, err_msg=name)
    assert (found["target"] != labels).all() and len({*found["target"].tolist()}) > 2
    assert (found["thickness"] > 0).sum() >= 3
    assert (found["thickness"] != found["thickness_target"]).any() == (options is not THICKNESS)


def test_the_training_ball_is_that_of_targeted_pgd(case):
    """From the image itself, towards the class that is measured."""
    weights, images, labels, keys = case
    found = jax.device_get(measured(case, properties.Thickness(ball="training")))
    towards = attacks.create("pgd_targeted", epsilon_255=8, steps=20, step_rule="nofrost", start="zero")
    far = towards(lambda x: net(weights, x), jnp.asarray(images), jnp.asarray(labels), keys).images
    oracle = Transcription(weights)
    for n, image in enumerate(images):
        other, target = np.asarray(far[n]), found["target"][n]
        assert np.abs(other - image).max() <= 8 / 255 + 1e-9
        assert oracle.logits(other)[target] > oracle.logits(image)[target]
        thickness = oracle.thickness(image, other, target, np.array(STD))
        np.testing.assert_allclose(found["thickness_target"][n], thickness, rtol=1e-7, atol=1e-12)


def test_logits_that_are_not_finite_have_no_properties(case):
    weights, images, labels, keys = case
    broken = lambda x: jnp.where(x[:, 0, 0, :1] > 0.9, jnp.nan, net(weights, x))  # noqa: E731
    images[:2, 0, 0, 0], images[2:, 0, 0, 0] = 1, 0.2
    arrays = jnp.asarray(images), jnp.asarray(labels), keys, STD, ATTACK, properties.Thickness(radius=1e-3, step=1e-3)
    found = jax.device_get(properties.measure(broken, *arrays))
    for name in properties.VALUES:
        assert np.isfinite(found[name]).tolist() == [False] * 2 + [True] * 10, name


@pytest.mark.parametrize("wrong", [{"radius": 0}, {"step": -1}, {"alpha": 0.9, "beta": 0.1}, {"ball": "l1"}])
def test_settings_that_measure_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        properties.Thickness(**wrong)


def test_a_failed_attack_has_no_thickness_where_j_is_predicted(case):
    """i = j there, the difference is 0, and the inequality is strict."""
    weights, images, labels, keys = case
    small = properties.Thickness(radius=1e-3, step=1e-3)
    found = jax.device_get(measured((weights, images, labels, keys), small))
    failed = found["reached"] == found["predicted"]
    assert failed.sum() > 8 and not found["thickness"][failed].any() and found["thickness_target"][failed].any()


def test_two_classes_of_a_linear_net_have_closed_forms():
    """Logits [0, s u.(x - 1/2)] with a unit vector u: p_1 - p_0 = tanh(s d / 2) at a distance d from the boundary."""
    u = np.random.default_rng(1).normal(size=(4, 4, 3))
    u /= np.linalg.norm(u)
    distance, slope = 0.05, 120.0

    def linear(images):
        score = slope * jnp.einsum("nhwc,hwc->n", images - 0.5, u)
        return jnp.stack([jnp.zeros_like(score), score], -1)

    image = (0.5 + distance * u)[None]
    options = properties.Thickness(radius=0.4, step=0.1, steps=5, points=5_001)
    found = properties.measure(
        linear, jnp.asarray(image), jnp.ones(1, int), jax.random.split(jax.random.key(0), 1), (1, 1, 1), ATTACK, options
    )
    np.testing.assert_allclose(found["margin"], np.tanh(slope * distance / 2), rtol=1e-6)
    between = 2 * np.arctanh(0.75) / slope  # from the boundary, where the difference is 0, to where it is 0.75
    for name in filter(lambda name: name.startswith("thickness"), properties.VALUES):
        np.testing.assert_allclose(found[name], between, atol=0.4 / 5_000, err_msg=name)


def test_no_image_depends_on_its_neighbours(case):
    weights, images, labels, keys = case
    whole = measured(case)
    part = measured((weights, images[5:8], labels[5:8], keys[5:8]))
    for name, values in part.items():
        np.testing.assert_allclose(values, whole[name][5:8], rtol=1e-12, err_msg=name)
