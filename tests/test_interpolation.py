"""The two branches of a mixture-BN net at test time: mixed at the logits, at every layer, or at some."""

import functools

import flax
import jax
import numpy as np
import pytest

from nofrost_jax import attacks, models
from nofrost_jax.classifier import (
    INTERPOLATIONS,
    Classifier,
    at_gamma,
    create_model,
    logits_fns,
    mixed_layers,
    mixture_layers,
)
from nofrost_jax.config import prepare
from nofrost_jax.errors import UserError
from nofrost_jax.models.layers import Mixture
from tests.conftest import tiny_config

N, CLASSES = 6, 5
MEAN, STD = (0.4, 0.5, 0.45), (0.3, 0.25, 0.28)
LAYERS = ["stem_norm"] + [
    f"stage{stage}_block1/{name}" for stage in (1, 2) for name in ("norm1", "norm2", "norm3", "shortcut_norm")
]


def network(**options):
    return models.create(
        "resnet26", norm="mbn", num_classes=CLASSES, width=0.125, stage_sizes=(1, 1), stem="small", **options
    )


def random_like(shapes, seed=0):
    """Random variables of given shapes, float32: kernels of the usual size, and no two branches alike."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 4
        return (random.normal(size=leaf.shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def variables():
    return random_like(models.abstract_variables(network(), 8))


def images():
    return np.random.default_rng(1).uniform(size=(N, 8, 8, 3))


@jax.jit
def forward(classifier, x):
    return classifier(x)


@jax.jit
def slope(classifier, x, weights):
    return jax.grad(lambda x: (weights * classifier(x)).sum())(x)


def logits(x=None, **fields):
    """A Classifier's logits in float64, NumPy [N, CLASSES]."""
    with jax.enable_x64(True):
        classifier = Classifier(variables(), network(dtype="float64"), MEAN, STD, **fields)
        return np.asarray(forward(classifier, images() if x is None else x))


@functools.cache
def single(branch):
    """The logits of one branch alone, by a plain apply in float64."""
    with jax.enable_x64(True):
        inputs = (images() - np.array(MEAN)) / np.array(STD)
        return np.asarray(network(dtype="float64").apply(variables(), inputs, branch=branch))


def convolve(x, kernel, stride):
    pad = len(kernel) // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = (range(length - 2 * pad) for length in x.shape[1:3])
    offsets = [(i, j) for i in range(len(kernel)) for j in range(len(kernel))]
    whole = sum(x[:, i : i + len(rows), j : j + len(columns)] @ kernel[i, j].astype(float) for i, j in offsets)
    return whole[:, ::stride, ::stride]


def expected(gamma, mixed):
    """Appendix A by hand in NumPy: two streams through the net, mixed after the layers `mixed` and at the logits."""
    tree = {name: flax.traverse_util.flatten_dict(variables()[name], sep="/") for name in ("params", "batch_stats")}

    def conv(streams, name, stride=1):
        return [convolve(x, tree["params"][f"{name}/kernel"], stride) for x in streams]

    def norm(streams, name):
        found = []
        for x, branch in zip(streams, ("clean", "adversarial"), strict=True):
            scale, bias = (tree["params"][f"{name}/{branch}/{part}"].astype(float) for part in ("scale", "bias"))
            mean, var = (tree["batch_stats"][f"{name}/{branch}/{part}"].astype(float) for part in ("mean", "var"))
            found.append((x - mean) / np.sqrt(var + 1e-5) * scale + bias)
        return [(1 - gamma) * found[0] + gamma * found[1]] * 2 if name in mixed else found

    def relu(streams):
        return [np.maximum(x, 0) for x in streams]

    streams = relu(norm(conv([(images() - MEAN) / STD] * 2, "stem"), "stem_norm"))
    for block, stride in (("stage1_block1", 1), ("stage2_block1", 2)):
        out = relu(norm(conv(streams, f"{block}/conv1"), f"{block}/norm1"))
        out = relu(norm(conv(out, f"{block}/conv2", stride), f"{block}/norm2"))
        out = norm(conv(out, f"{block}/conv3"), f"{block}/norm3")
        short = norm(conv(streams, f"{block}/shortcut_conv", stride), f"{block}/shortcut_norm")
        streams = relu([a + b for a, b in zip(out, short, strict=True)])
    head = [x.mean((1, 2)) @ tree["params"]["head/kernel"] + tree["params"]["head/bias"] for x in streams]
    return (1 - gamma) * head[0] + gamma * head[1]


# The interpolation


def test_the_layers_are_named_by_the_tree():
    assert mixture_layers(variables()["batch_stats"]) == sorted(LAYERS)


@pytest.mark.parametrize(
    "fields", [{"interpolation": "logits"}, {"interpolation": "all"}, {"interpolation": "random", "p": 0.4, "seed": 3}]
)
def test_interpolation_is_appendix_a(fields):
    mixed = mixed_layers(LAYERS, **fields)
    wanted = expected(0.3, mixed)
    np.testing.assert_allclose(logits(gamma=0.3, **fields), wanted, rtol=0, atol=1e-10)
    for other in (frozenset(), frozenset(LAYERS)):  # what is mixed makes a difference
        assert mixed == other or np.abs(expected(0.3, other) - wanted).max() > 0.01


@pytest.mark.parametrize("layer", ["stem_norm", "stage1_block1/norm3", "stage2_block1/shortcut_norm"])
def test_each_layer_mixes_on_its_own(layer):
    inputs = (images() - np.array(MEAN)) / np.array(STD)
    with jax.enable_x64(True):
        mixture = Mixture((0.4, 0.6), frozenset([layer]))
        both = np.asarray(network(dtype="float64").apply(variables(), np.concatenate([inputs] * 2), branch=mixture))
    found = 0.4 * both[:N] + 0.6 * both[N:]
    np.testing.assert_allclose(found, expected(0.6, {layer}), rtol=0, atol=1e-10)
    assert np.abs(found - expected(0.6, ())).max() > 1e-4


def test_random_draws_a_share_of_the_layers():
    def draw(p, seed):
        return mixed_layers(LAYERS, "random", p, seed)

    for p, count in ((0.0, 0), (0.25, 2), (0.3, 3), (0.6, 5), (1.0, 9)):
        assert len(draw(p, 0)) == count and draw(p, 0) <= set(LAYERS)
    assert draw(0.5, 1) == draw(0.5, 1) == mixed_layers(reversed(LAYERS), "random", 0.5, 1)
    assert len({draw(0.5, seed) for seed in range(20)}) > 10
    assert set().union(*(draw(0.25, seed) for seed in range(40))) == set(LAYERS)
    assert draw(0.0, 0) == mixed_layers(LAYERS, "logits") and draw(1.0, 0) == mixed_layers(LAYERS, "all")


def test_the_share_zero_is_logits_and_one_is_all():
    for p, interpolation in ((0.0, "logits"), (1.0, "all")):
        found = logits(gamma=0.3, interpolation="random", p=p, seed=5)
        np.testing.assert_array_equal(found, logits(gamma=0.3, interpolation=interpolation))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_gamma_zero_and_one_are_one_branch(interpolation, monkeypatch):
    for gamma, branch in ((0, "clean"), (1.0, "adversarial")):
        np.testing.assert_allclose(logits(gamma=gamma, interpolation=interpolation), single(branch), atol=1e-12)
        mixed = mixed_layers(LAYERS, interpolation, 0.5)
        np.testing.assert_allclose(expected(gamma, mixed), single(branch), rtol=0, atol=1e-10)
    sizes, apply = [], models.resnet.ResNet.apply
    monkeypatch.setattr(
        models.resnet.ResNet, "apply", lambda self, v, x, **kw: sizes.append(len(x)) or apply(self, v, x, **kw)
    )
    for gamma in (0.0, 1.0, 0.5):
        jax.eval_shape(Classifier(variables(), network(), MEAN, STD, gamma, interpolation), images())
    assert sizes == [N, N, 2 * N]


def test_other_values_are_refused():
    for fields, word in [
        ({"interpolation": "some"}, "'some'.*logits, all, random"),
        ({"interpolation": "some", "gamma": 1.0}, "'some'"),
        ({"interpolation": "random", "p": 1.5}, "p=1.5"),
        ({"gamma": 1.1}, "gamma=1.1"),
        ({"gamma": -0.1}, "gamma=-0.1"),
        ({"gamma": "half"}, "gamma='half'.*a number"),
        ({"interpolation": "random", "p": None}, "p=None.*a number"),
        ({"interpolation": "random", "seed": -1}, "seed=-1.*whole number"),
    ]:
        with pytest.raises(UserError, match=word):
            Classifier(variables(), network(), MEAN, STD, **{"gamma": 0.5, **fields})(images().astype(np.float32))


def test_a_mixture_is_for_evaluation_and_for_an_even_number_of_images():
    with pytest.raises(ValueError, match="evaluation mode"):
        network().apply(variables(), images(), train=True, branch=Mixture((0.5, 0.5)), mutable=["batch_stats"])
    with pytest.raises(ValueError, match=r"2N images.*got 5"):
        network().apply(variables(), images()[:5], branch=Mixture((0.5, 0.5)))


# Gradients and attacks


def gradient(weights, **fields):
    """The gradient of sum(weights * logits) to the images, float64."""
    with jax.enable_x64(True):
        classifier = Classifier(variables(), network(dtype="float64"), MEAN, STD, **fields)
        return np.asarray(slope(classifier, images(), weights))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_gradient_is_the_slope_of_the_mixture(interpolation):
    random = np.random.default_rng(2)
    weights, direction = random.normal(size=(N, CLASSES)), random.normal(size=(N, 8, 8, 3))
    fields = {"gamma": 0.4, "interpolation": interpolation}
    step = 1e-7  # short enough that no ReLU turns on the way
    ahead, behind = (logits(images() + sign * step * direction, **fields) for sign in (1, -1))
    slopes = (weights * (ahead - behind)).sum(1) / (2 * step)  # of each image, on its own
    found = gradient(weights, **fields)
    np.testing.assert_allclose((found * direction).sum((1, 2, 3)), slopes, rtol=1e-5, atol=1e-6)


def test_an_attack_goes_through_both_branches():
    """Jitted, with the Classifier as an argument: the signs of FGSM are those of the mixture written out."""
    x, keys = images().astype(np.float32), jax.random.split(jax.random.key(0), N)
    labels = np.asarray(single("adversarial").argmax(1), np.int32)
    attack = jax.jit(lambda classifier, x: attacks.FGSM(8 / 255)(classifier, x, labels, keys).images)
    made = {gamma: Classifier(variables(), network(), MEAN, STD, gamma) for gamma in (0.0, 0.5, 1.0)}
    found = {gamma: np.asarray(attack(classifier, x)) for gamma, classifier in made.items()}

    def written_out(x):
        return 0.5 * made[0.0](x) + 0.5 * made[1.0](x)

    wanted = jax.jit(lambda x: attacks.FGSM(8 / 255)(written_out, x, labels, keys).images)(x)
    assert np.mean(np.abs(found[0.5] - wanted) < 1e-6) > 0.99
    assert all(np.mean(np.abs(found[0.5] - found[gamma]) < 1e-6) < 0.95 for gamma in (0.0, 1.0))

    def loss(x):
        return -np.take_along_axis(np.asarray(jax.nn.log_softmax(forward(made[0.5], x))), labels[:, None], 1).mean()

    assert loss(found[0.5]) > loss(x) + 0.01


# Gamma as an argument of a compiled program


@pytest.mark.parametrize("interpolation", ["logits", "all"])
def test_one_program_serves_every_gamma(interpolation):
    """Logits and gradients are the Classifier's; of the two ends, one branch, to the bit."""
    config = prepare(tiny_config("mbnat", evaluation__mbn_interpolation=interpolation))
    model = create_model(config.model)
    fresh = random_like(models.abstract_variables(model, 8))
    x, logits_fn, traces = images().astype(np.float32), logits_fns(config)["float32"], []

    def both(logits_fn):
        return jax.jit(lambda net, x: jax.value_and_grad(lambda x: (logits_fn(net, x) ** 2).sum())(x))

    program = both(lambda net, x: traces.append(1) or logits_fn(net, x))
    settings = tuple(config.data.mean), tuple(config.data.std)
    for gamma in (0.3, 0.9, 0.0, 1.0):
        classifier = Classifier(fresh, model, *settings, gamma, interpolation, inputs_are_checked=True)
        found, wanted = program(at_gamma(fresh, gamma), x), both(lambda net, x: net(x))(classifier, x)
        assert gamma not in (0, 1) or all(map(np.array_equal, found, wanted))
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert len(traces) == 2, "one program for mixtures and one for a branch alone"
