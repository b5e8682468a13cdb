"""Batch statistics: groups over the global batch, running statistics, the two branches of mixture batch norm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import models
from nofrost_jax.errors import UserError
from nofrost_jax.models import layers

AXIS = "device"
N = 16


def maps(seed=0, n=N):
    return (2 + 3 * np.random.default_rng(seed).normal(size=(n, 3, 2, 5))).astype(np.float32)


def layer_variables():
    draw = np.random.default_rng(7)
    rows = {name: draw.uniform(0.5, 1.5, 5).astype(np.float32) for name in ("scale", "bias", "mean", "var")}
    return {
        "params": {"scale": rows["scale"], "bias": rows["bias"]},
        "batch_stats": {"mean": rows["mean"], "var": rows["var"]},
    }


def expected(x, group, running):
    """Output and running statistics by their definition, in float64."""
    variables = layer_variables()
    x = x.astype(np.float64).reshape(-1, group, *x.shape[1:])
    mean, var = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
    y = (x - mean) / np.sqrt(var + 1e-5) * variables["params"]["scale"] + variables["params"]["bias"]
    unbiased = x.reshape(x.shape[0], -1, 5).var(1, ddof=1)
    choose = (lambda rows: rows.mean(0)) if running == "mean" else (lambda rows: rows[0])
    old = variables["batch_stats"]
    return y.reshape(-1, *x.shape[2:]), {
        "mean": 0.9 * old["mean"] + 0.1 * choose(mean.reshape(-1, 5)),
        "var": 0.9 * old["var"] + 0.1 * choose(unbiased),
    }


@pytest.mark.parametrize("running", models.BN_RUNNING)
@pytest.mark.parametrize(
    ("group", "devices"), [(4, 1), (0, 1), (16, 1), (2, 4), (4, 4), (8, 4), (16, 4), (0, 4), (8, 8)]
)
def test_groups_and_running_statistics_follow_their_definition_on_any_device_count(group, devices, running):
    layer = layers.BatchNorm(group, running, AXIS if devices > 1 else None)
    x = maps()

    def forward(variables, x):
        return layer.apply(variables, x, True, mutable=["batch_stats"])

    def shard(variables, x):
        y, updated = forward(variables, x)
        return y, layers.shared_statistics(updated, running, AXIS)

    if devices == 1:
        y, updated = jax.jit(forward)(layer_variables(), x)
        stats = [updated["batch_stats"]]
    else:
        mapped = jax.pmap(shard, axis_name=AXIS, in_axes=(None, 0))
        y, updated = mapped(layer_variables(), x.reshape(devices, -1, *x.shape[1:]))
        stats = [jax.tree.map(lambda leaf, i=i: leaf[i], updated["batch_stats"]) for i in range(devices)]
    wanted, wanted_stats = expected(x, group or N, running)
    np.testing.assert_allclose(np.asarray(y).reshape(wanted.shape), wanted, rtol=0, atol=2e-5)
    for found in stats:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), found, wanted_stats)


def test_evaluation_uses_and_keeps_the_running_statistics():
    variables, x = layer_variables(), maps()
    y, updated = layers.BatchNorm(4).apply(variables, x, False, mutable=["batch_stats"])
    stats, params = variables["batch_stats"], variables["params"]
    wanted = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], stats)


def test_a_large_mean_does_not_spoil_the_variance():
    x = (1000 + np.random.default_rng(0).normal(size=(8, 4, 4, 5))).astype(np.float32)
    y, _ = layers.BatchNorm().apply(layer_variables(), x, True, mutable=["batch_stats"])
    wanted, _ = expected(x, 8, "mean")
    np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-3)


def test_bfloat16_statistics_are_float32():
    x = jnp.asarray(maps(), jnp.bfloat16)
    y, updated = layers.BatchNorm(dtype=jnp.bfloat16).apply(layer_variables(), x, True, mutable=["batch_stats"])
    _, wanted = expected(np.asarray(x, np.float32), N, "mean")
    assert y.dtype == jnp.bfloat16
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), dict(updated["batch_stats"]), wanted)


def test_the_layer_equals_pytorchs():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    variables, x = layer_variables(), maps()
    layer = torch.nn.BatchNorm2d(5)
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    flat = variables["params"] | variables["batch_stats"]
    tensors = {name: torch.from_numpy(flat[ours].copy()) for name, ours in names.items()}
    layer.load_state_dict(tensors, strict=False)
    expected_y = layer(torch.from_numpy(x).permute(0, 3, 1, 2)).detach().permute(0, 2, 3, 1).numpy()
    y, updated = layers.BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, expected_y, rtol=0, atol=2e-6)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], layer.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], layer.running_var.numpy(), rtol=1e-6)


@pytest.mark.parametrize(("group", "n"), [(3, 16), (32, 16), (5, 15 + 1)])
def test_groups_that_do_not_fit_are_refused(group, n):
    with pytest.raises(UserError, match=f"bn_group_size={group} .* {n} images"):
        layers.BatchNorm(group).apply(layer_variables(), maps(n=n), True, mutable=["batch_stats"])


def test_one_value_per_channel_is_refused():
    with pytest.raises(UserError, match="one value per channel"):
        layers.BatchNorm(1).apply(layer_variables(), maps()[:, :1, :1], True, mutable=["batch_stats"])


def network(norm, **overrides):
    return models.create(
        "resnet26", norm=norm, num_classes=5, width=0.125, stage_sizes=(1, 1), stem="small", **overrides
    )


def noisy(variables, seed=1):
    leaves, tree = jax.tree.flatten(variables)
    draw = np.random.default_rng(seed)
    return tree.unflatten([leaf + 0.1 * np.abs(draw.normal(size=leaf.shape)).astype(np.float32) for leaf in leaves])


@pytest.mark.parametrize("norm", ["bn", "mbn"])
@pytest.mark.slow
def test_a_whole_network_gives_the_same_on_one_and_on_four_devices(norm):
    """Logits, statistics, input and parameter gradients, with groups that span two devices; to summation order."""
    variables = noisy(models.init(network(norm), jax.random.key(0), 8))
    draw = np.random.default_rng(0)
    x = draw.normal(size=(N, 8, 8, 3)).astype(np.float32)
    weights = draw.normal(size=(N, 5)).astype(np.float32)

    def run(model, x, weights):
        def total(params, x):
            logits, updated = model.apply(
                {**variables, "params": params}, x, train=True, branch="adversarial", mutable=["batch_stats"]
            )
            return (logits * weights).sum(), (logits, updated)

        (params, images), (logits, updated) = jax.grad(total, (0, 1), has_aux=True)(variables["params"], x)
        return params, images, logits, updated

    single = jax.jit(lambda x, w: run(network(norm, bn_group_size=8), x, w))(x, weights)

    def shard(x, w):
        params, *others, updated = run(network(norm, bn_group_size=8, axis_name=AXIS), x, w)
        return jax.lax.psum(params, AXIS), *others, layers.shared_statistics(updated, "mean", AXIS)

    params, images, logits, updated = jax.pmap(shard, axis_name=AXIS)(
        x.reshape(4, 4, 8, 8, 3), weights.reshape(4, 4, 5)
    )
    first = jax.tree.map(lambda leaf: leaf[0], (params, updated))
    several = first[0], images.reshape(x.shape), logits.reshape(N, 5), first[1]
    for a, b in zip(jax.tree.leaves(several), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, float(jnp.abs(b).max())))
    for leaf in jax.tree.leaves(updated):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))


def pick(tree, wanted):
    """The leaves whose path holds the name `wanted`."""
    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if f"'{wanted}'" in str(path)]


def test_mixture_branches_are_apart():
    model = network("mbn")
    variables = noisy(models.init(model, jax.random.key(0), 8))
    x = np.random.default_rng(0).normal(size=(N, 8, 8, 3)).astype(np.float32)

    def total(variables, branch):
        logits, updated = model.apply(variables, x, train=True, branch=branch, mutable=["batch_stats"])
        return jnp.square(logits).sum(), updated["batch_stats"]

    step = jax.jit(jax.grad(total, has_aux=True), static_argnums=1)
    for branch, other in (("clean", "adversarial"), ("adversarial", "clean")):
        gradient, stats = step(variables, branch)
        before = variables["batch_stats"]
        assert pick(stats, other) and pick(gradient["params"], other)
        assert all((a == b).all() for a, b in zip(pick(stats, other), pick(before, other), strict=True))
        assert all((a != b).any() for a, b in zip(pick(stats, branch), pick(before, branch), strict=True))
        assert all((leaf == 0).all() for leaf in pick(gradient["params"], other))
        assert all((leaf != 0).any() for leaf in pick(gradient["params"], branch))
        # A network with plain batch normalization and this branch's values is the same network.
        alone = {name: _take_branch(tree, branch) for name, tree in variables.items()}
        plain, mixture = jax.jit(network("bn").apply), jax.jit(functools.partial(model.apply, branch=branch))
        np.testing.assert_allclose(mixture(variables, x), plain(alone, x), rtol=0, atol=1e-5)


def _take_branch(tree, branch):
    if not isinstance(tree, dict):
        return tree
    return {
        name: _take_branch(sub.get(branch, sub) if isinstance(sub, dict) else sub, branch) for name, sub in tree.items()
    }


def test_instance_norm_is_its_definition_in_training_and_evaluation():
    x, params = maps(), {"params": layer_variables()["params"]}
    wanted = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    wanted = wanted * params["params"]["scale"] + params["params"]["bias"]
    for train in (False, True):
        np.testing.assert_allclose(layers.InstanceNorm().apply(params, x, train), wanted, rtol=0, atol=1e-5)
