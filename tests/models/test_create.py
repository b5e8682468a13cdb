"""What `create` and `init` give: sizes, names, initial values, types, errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import models
from nofrost_jax.errors import UserError
from nofrost_jax.models.blocks import block_specs

TINY = {"num_classes": 5, "width": 0.125, "stage_sizes": (1, 2), "stem": "small"}
COUNTS = {"resnet26": 15_995_176, "resnet50": 25_557_032, "wide_resnet50_2": 68_883_240}  # timm's and torchvision's


def shapes(model):
    return models.abstract_variables(model, 32)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def images(n=4, side=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize("name", models.NAMES)
def test_parameter_counts(name):
    variables = shapes(models.create(name))
    assert size(variables["params"]) == COUNTS[name.removeprefix("nf_")]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    buffers = {
        "resnet26": 30_848,
        "resnet50": 53_120,
        "wide_resnet50_2": 68_224,
    }  # timm's, no counters
    assert size(variables.get("batch_stats", {})) == buffers.get(name, 0)


def test_norms_have_the_variables_that_they_need():
    plain, mixture, instance = (shapes(models.create("resnet26", norm=norm)) for norm in models.NORMS)
    norm_size = size(plain["batch_stats"])  # as many scales and biases as means and variances
    assert size(mixture["params"]) == size(plain["params"]) + norm_size
    assert size(mixture["batch_stats"]) == 2 * norm_size
    assert size(instance["params"]) == size(plain["params"]) and "batch_stats" not in instance
    properties = [
        (m.has_batch_stats, m.has_branches) for m in (models.create("resnet26", norm=n) for n in models.NORMS)
    ]
    assert properties == [(True, False), (True, True), (False, False)]
    nf = models.create("nf_resnet26", norm="mbn")
    assert (nf.has_batch_stats, nf.has_branches) == (False, False)


def test_names_and_layouts():
    params = shapes(models.create("nf_resnet26", num_classes=10))["params"]
    assert params["stem"]["kernel"].shape == (7, 7, 3, 64) and params["stem"]["gain"].shape == (64,)
    assert set(params["stage1_block1"]) == {"shortcut", "conv1", "conv2", "conv3"}
    assert set(params["stage1_block2"]) == {"conv1", "conv2", "conv3"}
    assert params["stage4_block2"]["conv2"]["kernel"].shape == (3, 3, 512, 512)
    assert params["head"]["kernel"].shape == (2048, 10)
    tiny = shapes(models.create("resnet50", **TINY))["params"]
    assert [name for name in tiny if name.startswith("stage")] == ["stage1_block1", "stage2_block1", "stage2_block2"]
    assert tiny["stem"]["kernel"].shape == (3, 3, 3, 8)
    assert tiny["stage1_block1"]["conv2"]["kernel"].shape == (3, 3, 8, 8)
    assert tiny["head"]["kernel"].shape == (64, 5)


def test_initial_values_of_a_normalizer_free_network():
    params = models.init(models.create("nf_resnet26"), jax.random.key(0), 64)["params"]
    conv = params["stage4_block1"]["conv2"]
    assert abs(float(conv["kernel"].std()) * (9 * 512) ** 0.5 - 1) < 0.01
    assert abs(float(conv["kernel"].mean())) < 1e-4
    assert (conv["gain"] == 1).all() and (conv["bias"] == 0).all()
    assert (params["stage4_block1"]["conv3"]["gain"] == 0).all()
    assert (params["stage4_block1"]["shortcut"]["gain"] == 1).all()
    assert abs(float(params["head"]["kernel"].std()) - 0.01) < 1e-4 and (params["head"]["bias"] == 0).all()
    first, second = (params["stage4_block2"][name]["kernel"].ravel()[:1000] for name in ("conv1", "conv3"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15  # every tensor has its own numbers


@pytest.mark.parametrize("norm", models.NORMS)
def test_initial_values_of_a_normalized_network(norm):
    variables = models.init(models.create("resnet26", norm=norm), jax.random.key(0), 64)
    block = variables["params"]["stage4_block1"]
    assert abs(float(block["conv2"]["kernel"].std()) * (9 * 512 / 2) ** 0.5 - 1) < 0.01
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(block["norm3"]))
    scale = (block["norm2"]["adversarial"] if norm == "mbn" else block["norm2"])["scale"]
    assert (scale == 1).all()
    head = variables["params"]["head"]
    for leaf in head.values():
        assert float(jnp.abs(leaf).max()) <= 2048**-0.5 and abs(float(leaf.std()) * (3 * 2048) ** 0.5 - 1) < 0.05
    if norm == "bn":
        assert (variables["batch_stats"]["stem_norm"]["var"] == 1).all()


def test_init_is_a_pure_function_of_the_key_also_under_jit():
    model = models.create("nf_resnet26", **TINY)
    eager = models.init(model, jax.random.key(3), 8)
    compiled = jax.jit(lambda key: models.init(model, key, 16))(jax.random.key(3))
    other = models.init(model, jax.random.key(4), 8)
    jax.tree.map(np.testing.assert_array_equal, eager, compiled)
    assert (eager["params"]["stem"]["kernel"] != other["params"]["stem"]["kernel"]).any()


def random_variables(model):
    """Initial values plus noise, so that no branch is dead."""
    leaves, tree = jax.tree.flatten(models.init(model, jax.random.key(0), 8))
    draw = np.random.default_rng(1)
    return tree.unflatten([leaf + 0.1 * np.abs(draw.normal(size=leaf.shape)).astype(np.float32) for leaf in leaves])


@pytest.mark.parametrize("name", ["nf_resnet26", "resnet26"])
@pytest.mark.slow
def test_bfloat16_and_remat_and_xla_convolutions_give_the_same_network(monkeypatch, name):
    options = TINY | {"stage_sizes": (1, 1)}
    plain = models.create(name, **options)
    variables = random_variables(plain)

    def logits_and_gradient(model):
        def total(params):
            logits, _ = model.apply({**variables, "params": params}, images(), train=True, mutable=["batch_stats"])
            return (logits * jnp.arange(5)).sum(), logits

        gradient, logits = jax.jit(jax.grad(total, has_aux=True))(variables["params"])
        return logits, gradient

    def close(first, second, tolerance):
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
            assert a.dtype == b.dtype == jnp.float32
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(jnp.abs(b).max()))

    expected = logits_and_gradient(plain)
    for remat in ("convolutions", "blocks"):
        close(logits_and_gradient(models.create(name, remat=remat, **options)), expected, 2e-6)
    monkeypatch.setenv("NOFROST_CONV", "xla")
    close(logits_and_gradient(models.create(name, **options)), expected, 2e-5)
    half = models.create(name, dtype="bfloat16", **options)
    logits, gradient = logits_and_gradient(half)
    close(logits, expected[0], 0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves((gradient, models.init(half, jax.random.key(0), 8)))} == {
        jnp.dtype("float32")
    }


def test_frozen_parameters_are_ready_for_use_and_give_the_same_network():
    options = TINY | {"stage_sizes": (2, 1)}
    model = models.create("nf_resnet26", **options)
    params = random_variables(model)["params"]
    apply = jax.jit(lambda params: model.apply({"params": params}, images()))
    expected = apply(params)
    tolerance = 1e-6 * float(jnp.abs(expected).max())
    for given in (params, jax.device_get(params)):
        np.testing.assert_allclose(apply(model.frozen(given)), expected, rtol=0, atol=tolerance)
    assert {type(leaf) for leaf in jax.tree.leaves(model.frozen(given))} == {np.ndarray}
    for name in ("nf_resnet26", "resnet26"):
        half = models.create(name, dtype="bfloat16", **options)
        frozen = jax.eval_shape(half.frozen, shapes(half)["params"])
        leaves = jax.tree_util.tree_leaves_with_path(frozen)
        assert {leaf.dtype for _, leaf in leaves if leaf.ndim == 4} == {jnp.dtype("bfloat16")}
        assert not any("gain" in str(path) for path, _ in leaves)


def test_drop_path_grows_linearly_to_its_rate():
    rates = [spec.drop_path for spec in block_specs((2, 2, 2, 2), 1.0, 0.1)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 8))


@pytest.mark.parametrize("name", ["nf_resnet26", "resnet26"])
def test_dropout_of_an_image_depends_on_its_own_key_alone(name):
    # Instance normalization: with batch statistics images depend on each other anyway.
    model = models.create(name, norm="in", dropout=0.5, drop_path=0.5, **TINY)
    variables = random_variables(model)
    keys = jax.random.split(jax.random.key(5), 4)
    forward = jax.jit(lambda x, keys: model.apply(variables, x, train=True, image_keys=keys))
    x = images()
    together = forward(x, keys)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(forward(x[order], keys[order]), together[order], rtol=0, atol=1e-5)
    alone = forward(np.concatenate([x[1:2], images(1, seed=9)]), keys[1:3])[:1]
    np.testing.assert_allclose(alone, together[1:2], rtol=0, atol=1e-5)
    assert (np.abs(forward(x, keys[order]) - together).max(1) > 1e-3).any()
    evaluated = jax.jit(lambda x: model.apply(variables, x))(x)
    assert (np.abs(evaluated - together).max(1) > 1e-3).any()
    with pytest.raises(ValueError, match=r"image_keys.* \[4\]"):
        model.apply(variables, x, train=True)
    with pytest.raises(ValueError, match="image_keys"):
        model.apply(variables, x, train=True, image_keys=keys[:3])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "vit"}, "vit.*nf_resnet26, nf_resnet50, resnet26, resnet50, wide_resnet50_2"),
        ({"name": "resnet26", "norm": "gn"}, "gn.*bn, mbn, in"),
        ({"name": "resnet26", "stem": "cifar"}, "cifar.*imagenet, small"),
        ({"name": "resnet26", "dtype": "float16"}, "float16.*float32, bfloat16"),
        ({"name": "resnet26", "dtype": "float64"}, "x64"),
        ({"name": "resnet26", "bn_running": "last"}, "last.*mean, first"),
        ({"name": "resnet26", "stage_sizes": (1, 1, 1, 1, 1)}, "stage_sizes"),
        ({"name": "resnet26", "stage_sizes": (1, 0)}, "stage_sizes"),
        ({"name": "resnet26", "width": 0}, "width"),
        ({"name": "resnet26", "num_classes": 0}, "num_classes"),
        ({"name": "resnet26", "dropout": 1.0}, "dropout"),
        ({"name": "resnet26", "drop_path": -0.1}, "drop_path"),
        ({"name": "resnet26", "bn_group_size": -1}, "bn_group_size"),
    ],
)
def test_create_refuses_in_one_line(arguments, words):
    with pytest.raises(ValueError) as caught:
        models.create(**arguments)
    assert re.search(words, str(caught.value)) and "\n" not in str(caught.value)


def test_calls_refuse_what_cannot_work():
    model = models.create("nf_resnet26", **TINY)
    variables = models.init(model, jax.random.key(0), 8)
    with pytest.raises(ValueError, match=r"branch='noisy'.*clean.*adversarial"):
        model.apply(variables, images(), branch="noisy")
    with pytest.raises(ValueError, match=r"\[N, H, W, 3\]"):
        model.apply(variables, images()[0])
    instance = models.create("resnet26", norm="in", **TINY)
    with pytest.raises(UserError, match="1x1"):
        instance.apply(models.init(instance, jax.random.key(0), 8), images(side=1))
