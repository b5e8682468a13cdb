"""Training steps: the same on one device as on four, the limits of Equation 1, frozen statistics, promised costs."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import data, keys, methods, models, optim, parallel, validate
from nofrost_jax.classifier import create_model
from nofrost_jax.state import TrainState

BATCH, SIZE, CLASSES = 16, 8, 5
RNG = np.random.default_rng(0)
DATA = {
    "image": RNG.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8),
    "label": RNG.integers(0, CLASSES, BATCH).astype(np.int32),
    "index": np.arange(BATCH, dtype=np.int32),
}
NETS = {"nf": ("nf_resnet26", "bn"), "in": ("resnet26", "in"), "bn": ("resnet26", "bn"), "mbn": ("resnet26", "mbn")}


def tiny_config(net="nf", recipe="authors", **overrides):
    """Every extra on (dropout, drop path, label smoothing, Nesterov), on a net of two blocks."""
    config = importlib.import_module("configs.common").get_config()
    config.model.name, config.model.norm = NETS[net]
    config.model.update(
        {"num_classes": CLASSES, "stem": "small", "width": 0.125, "stage_sizes": (1, 1), "bn_group_size": "8"}
    )
    config.batch_size, config.recipe = BATCH, recipe
    config.optimizer.learning_rate_batch = 0
    config.data.image_size, config.attack.steps = SIZE, 3
    config = validate.resolve(config)
    for field, value in overrides.items():
        section, _, name = field.rpartition("__")
        (config[section] if section else config)[name] = value
    return config


def run_steps(config, devices, steps=2, variables=None, dtype="float32"):
    """(state, metrics of the last step) as host arrays."""
    model = create_model(config.model, axis_name=parallel.AXIS, dtype=dtype)
    optimizer = optim.create(config, steps_per_epoch=10)
    variables = variables or random_variables(model)
    state = devices.replicate(TrainState.create(variables, optimizer))
    step = devices.map_step(methods.TABLE[config.method.name].make_step(model, optimizer, config))
    batch, key = devices.shard(DATA), devices.replicate(keys.named(jax.random.key(3), "train"))
    for _ in range(steps):
        state, metrics = step(state, batch, key)
    return jax.device_get((state, metrics))


def random_variables(model):
    """Fresh variables with random gains and scales: the zeros of a fresh net would hide its branches."""
    variables = models.init(model, jax.random.key(0), SIZE)
    leaves, tree = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(1)
    noisy = [leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32) if leaf.ndim == 1 else leaf for leaf in leaves]
    return variables | {"params": jax.tree.unflatten(tree, noisy)}


def one_device():
    return parallel.Devices((jax.devices()[0],))


def largest_difference(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max(float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in pairs)


@pytest.mark.parametrize("net", NETS)
def test_one_device_equals_four(net):
    """Computed in float64, so that no attack's sign step tips over: what is left is float32's rounding of parameters.

    Updates are of the order of 0.1; parameters, momenta, statistics and metrics agree to 1e-6.
    """
    config = tiny_config(net, optimizer__agc=0.1)
    with jax.enable_x64(True):
        (alone, alone_metrics), (spread, spread_metrics) = (
            run_steps(config, devices, dtype="float64")
            for devices in (one_device(), parallel.Devices(tuple(jax.devices()[:4])))
        )
    start = random_variables(create_model(config.model))
    assert largest_difference(alone.params, start["params"]) > 0.01
    assert alone.batch_stats.keys() == spread.batch_stats.keys()
    assert largest_difference((alone.params, alone.opt_state), (spread.params, spread.opt_state)) < 1e-6
    if net in ("bn", "mbn"):
        assert largest_difference(alone.batch_stats, start["batch_stats"]) > 0.01
        assert largest_difference(alone.batch_stats, spread.batch_stats) < 1e-6
    for name, (value, count) in alone_metrics.items():
        assert value / count == pytest.approx(spread_metrics[name][0] / spread_metrics[name][1], rel=1e-5), name


@pytest.mark.parametrize("net", ["nf", "bn"])
def test_weight_zero_is_standard_training(net):
    """Equation 1 at lambda 0, with the attack left out; and a tiny lambda is near it, with the attack in."""
    config = tiny_config(net, recipe="paper")
    config.method.adversarial_weight = 0.0
    zero, _ = run_steps(config, one_device())
    config.method.name = "standard"
    standard, _ = run_steps(config, one_device())
    assert largest_difference(zero.params, standard.params) == 0
    config.method.name, config.method.adversarial_weight = "at", 1e-6
    near, _ = run_steps(config, one_device())
    assert 0 < largest_difference(near.params, standard.params) < 1e-4


def test_weight_one_trains_on_adversarial_images_only():
    """PGDAT with epsilon 0 is standard training (one forward); and its clean forward only moves the statistics."""
    config = tiny_config("bn", recipe="paper", method__adversarial_weight=1.0, attack__epsilon_255=0.0)
    pgdat, _ = run_steps(config, one_device(), steps=1)
    config.method.name = "standard"
    standard, _ = run_steps(config, one_device(), steps=1)
    assert largest_difference(pgdat.params, standard.params) < 1e-6
    config.method.name, config.method.pgdat_clean_forward = "at", True
    twice, metrics = run_steps(config, one_device(), steps=1)
    assert "clean_accuracy" in metrics
    assert largest_difference(twice.params, standard.params) < 1e-6
    assert largest_difference(twice.batch_stats, standard.batch_stats) > 1e-3


def test_statistics_thread_clean_then_adversarial_and_the_attack_moves_none():
    """With epsilon 0 both forwards see one batch, so the running mean goes 0 -> 0.1 m -> 0.19 m; an attack in
    train mode would go further. A mixture BN moves each branch once, and each sees its own images."""
    config = tiny_config("bn", recipe="paper", attack__epsilon_255=0.0)
    both, _ = run_steps(config, one_device(), steps=1)
    config.method.name = "standard"
    once, _ = run_steps(config, one_device(), steps=1)
    ratio = [
        (b / o).ravel()
        for (path, b), o in zip(
            jax.tree_util.tree_leaves_with_path(both.batch_stats), jax.tree.leaves(once.batch_stats), strict=True
        )
        if "mean" in jax.tree_util.keystr(path)
    ]
    np.testing.assert_allclose(np.concatenate(ratio), 1.9, rtol=1e-3)


def test_mixture_bn_routes_each_distribution_to_its_own_branch():
    config = tiny_config("mbn", recipe="paper", attack__epsilon_255=64.0)
    config.method.adversarial_weight = 0.5
    moved, _ = run_steps(config, one_device(), steps=1)
    start = random_variables(create_model(config.model))
    delta = jax.tree.map(lambda a, b: np.abs(a - b).max(), moved.batch_stats, start["batch_stats"])
    branches = {"clean": [], "adversarial": []}
    for path, value in jax.tree_util.tree_leaves_with_path(delta):
        branches["clean" if "clean" in jax.tree_util.keystr(path) else "adversarial"].append(value)
    assert min(map(min, branches.values())) > 0
    means = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(moved.batch_stats)
        if "mean" in jax.tree_util.keystr(path)
    }
    clean = next(leaf for name, leaf in means.items() if "clean" in name)
    adversarial = next(leaf for name, leaf in means.items() if "adversarial" in name)
    assert np.abs(clean - adversarial).max() > 1e-4


@pytest.mark.parametrize(
    ("net", "method", "weight", "expected"),
    [("nf", "standard", 0.0, (1, 0, 1)), ("nf", "at", 0.5, (5, 3, 2)), ("bn", "at", 1.0, (4, 3, 1))],
)
def test_passes_match_the_traced_program(net, method, weight, expected, monkeypatch):
    """`passes` says what a step costs; here forwards are counted where the model is applied while tracing."""
    config = tiny_config(net, recipe="paper", method__name=method)
    config.method.adversarial_weight = weight
    assert methods.TABLE[method].passes(config) == expected
    images = []
    model = create_model(config.model, axis_name=parallel.AXIS)
    original = type(model).apply
    monkeypatch.setattr(
        type(model),
        "apply",
        lambda self, v, x, **kw: images.append((x.shape[0], kw["train"])) or original(self, v, x, **kw),
    )
    optimizer = optim.create(config, 10)
    step = methods.TABLE[method].make_step(model, optimizer, config)
    state = jax.eval_shape(lambda: TrainState.create(models.init(model, jax.random.key(0), SIZE), optimizer))
    batch = {name: jax.ShapeDtypeStruct((1, *value.shape), value.dtype) for name, value in DATA.items()}
    one_device().map_step(step).lower(state, batch, jax.eval_shape(lambda: jax.random.key(0)))
    trained = sum(count for count, train in images if train) / BATCH
    attacked = sum(count for count, train in images if not train) / BATCH
    assert trained == expected[2]
    assert bool(attacked) == bool(expected[1])  # one traced iteration stands for all of the loop's


def test_every_method_honours_the_contract():
    for name, module in methods.TABLE.items():
        assert name in methods.NAMES and module.__doc__
        assert callable(module.make_step) and callable(module.passes)


def test_data_and_methods_agree_on_batches():
    config = tiny_config("nf")
    config.data.source, config.data.fake_train, config.data.augmentation = "fake", 64, "none"
    batch = next(data.train_batches(config, 0))
    assert {name: (value.dtype, value.shape[1:]) for name, value in batch.items()} == {
        name: (value.dtype, value.shape[1:]) for name, value in DATA.items()
    }
    assert jnp.asarray(batch["label"]).max() < CLASSES
