"""Tiny nets, batches and steps for the tests of training methods, and a net that counts what passes through it."""

import collections
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs.methods import ROWS
from nofrost_jax import attacks, keys, methods, models, optim, parallel
from nofrost_jax.classifier import create_model
from nofrost_jax.config import resolve
from nofrost_jax.models import layers, resnet
from nofrost_jax.state import TrainState

BATCH, SIZE, CLASSES, PER_EPOCH = 16, 8, 5, 10
RNG = np.random.default_rng(0)
DATA: dict[str, np.ndarray] = {
    "image": RNG.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8),
    "label": RNG.integers(0, CLASSES, BATCH).astype(np.int32),
    "index": np.arange(BATCH, dtype=np.int32),
}
VIEWS = {name: RNG.integers(0, 256, DATA["image"].shape, dtype=np.uint8) for name in ("deepaugment", "tda")}
FLOATS = DATA | {"image": DATA["image"] / 255.0}  # float64 images, for programs in float64


def with_coin(views, coins):
    """`views` and a batch's `augmented`, which takes deepaugment where coins, bool [N], say so and tda elsewhere."""
    either = np.where(coins[:, None, None, None], views["deepaugment"], views["tda"])
    return views | {"augmented": either, "is_deepaugment": coins}


COINS = np.arange(BATCH) % 3 > 0
VIEWS = with_coin(VIEWS, COINS)
KEY = 3  # seed of the key that a step is given


def tiny_config(row="sat", recipe="authors", **overrides):
    """A row of the paper's tables on a net of two blocks; overrides have "__" for the dot. The authors' recipe has
    every extra on: dropout, drop path, label smoothing, Nesterov; what else it chooses is as in the paper's."""
    config = importlib.import_module("configs.common").get_config()
    config.model.update(
        {"name": "resnet26", "num_classes": CLASSES, "stem": "small", "width": 0.125, "stage_sizes": (1, 1)}
    )
    config.model.bn_group_size, config.model.bn_running = "8", "mean"
    config.method.terms, config.method.pgdat_clean_forward = "paper", False
    config.deepaugment.sources = ("edsr", "cae")
    config.batch_size, config.recipe = BATCH, recipe
    config.optimizer.learning_rate_batch = 0
    config.data.image_size, config.attack.steps = SIZE, 3
    config = resolve(importlib.import_module("configs.methods").apply(config, row))
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in overrides.items()})
    return config


class SmallNet(nn.Module):
    """Two layers, with a normalization between them ("bn", "mbn", "in") or none (""): it compiles at once."""

    norm: str = "bn"
    dropout: float = 0.0
    axis_name: str | None = parallel.AXIS
    group: int = 8
    running: str = "mean"

    @property
    def has_batch_stats(self):
        return self.norm in ("bn", "mbn")

    @property
    def has_branches(self):
        return self.norm == "mbn"

    @nn.compact
    def __call__(self, x, train=False, branch="clean", image_keys=None):
        x = nn.Dense(4, dtype=x.dtype, name="stem")(x)
        if self.norm:
            make = resnet.make_norm(self.norm, self.group, self.running, self.axis_name, x.dtype)
            x = make(name="norm")(x, train, branch)
        x = jnp.tanh(x).reshape(len(x), -1)
        if train and self.dropout:
            x = layers.drop(x, self.dropout, image_keys, 0)
        return nn.Dense(CLASSES, dtype=x.dtype, name="head")(x)

    def frozen(self, params):
        return params


def small_net(row, **options):
    """A SmallNet normalized as the nets of a row are."""
    net = ROWS[row][0]
    return SmallNet("" if net == "nf" else net, **options)


@functools.cache
def random_variables(model):
    """Fresh variables with random gains and scales: the zeros of a fresh net would hide its branches."""
    variables = jax.device_get(models.init(model, jax.random.key(0), SIZE))
    leaves, tree = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(1)
    noisy = [leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32) if leaf.ndim == 1 else leaf for leaf in leaves]
    return variables | {"params": jax.tree.unflatten(tree, noisy)}


def one_device():
    return parallel.Devices((jax.devices()[0],))


class Trainer:
    """A method's step on some devices, compiled once: `state = trainer.start()`, `state, metrics = trainer(state)`."""

    def __init__(self, config, devices=None, model=None, variables=None, per_epoch=PER_EPOCH, dtype="float32"):
        self.config, self.devices = config, devices or one_device()
        model = model or create_model(config.model, axis_name=parallel.AXIS, dtype=dtype)
        self.variables = variables or random_variables(model)
        self.method = methods.TABLE[config.method.name]
        self.optimizer = optim.create(config, per_epoch, self.method.updates(config))
        self.step = self.devices.map_step(self.method.make_step(model, self.optimizer, config, per_epoch))
        self.key = self.devices.replicate(keys.named(jax.random.key(KEY), "train"))

    def start(self, step=0):
        """The first state, or the same with another step number."""
        state = TrainState.create(self.variables, self.optimizer, self.method.begin(self.config, SIZE))
        return self.devices.replicate(state.replace(step=jnp.int32(step)))

    def __call__(self, state, batch=None):
        return self.step(state, self.devices.shard(DATA | VIEWS if batch is None else batch), self.key)


def run_steps(config, devices=None, steps=1, step=0, batch=None, **options):
    """(state, metrics of the last step) as host arrays; `step`: the number that the first one has."""
    trainer = Trainer(config, devices, **options)
    state = trainer.start(step)
    for _ in range(steps):
        state, metrics = trainer(state, batch)
    return jax.device_get((state, metrics))


def step_keys(step=0):
    """The keys of a step's images, as a method derives them."""
    key = keys.named(jax.random.key(KEY), "train")
    return keys.per_image(jax.random.fold_in(key, step), jnp.arange(BATCH))


def loss_and_gradients(make_loss, config, model, attack=None, views=None):
    """(loss, gradients, statistics) of a loss in float64, on one batch, with float64 `views` where there are some."""
    variables = random_variables(model)
    with jax.enable_x64(True):
        attack = attack or attacks.create(**config.attack)
        loss_fn = jax.value_and_grad(make_loss(model, config, attack), has_aux=True)
        params = jax.tree.map(np.float64, variables["params"])
        compute = jax.jit(lambda params, stats, batch: loss_fn(params, stats, batch, step_keys()))
        (loss, (stats, _)), gradients = compute(params, variables.get("batch_stats", {}), FLOATS | (views or {}))
        return jax.device_get((loss, gradients, stats))


def standard(model, config, attack):
    """Standard training's loss, written down: one forward, cross-entropy with smoothed labels."""

    def loss_fn(params, stats, batch, image_keys):
        inputs = (batch["image"] - np.array(config.data.mean)) / np.array(config.data.std)
        variables = {"params": params, "batch_stats": stats} if stats else {"params": params}
        image_keys = keys.named(image_keys, "clean")
        logits, updated = model.apply(variables, inputs, train=True, image_keys=image_keys, mutable=["batch_stats"])
        share = config.label_smoothing
        targets = (1 - share) * jnp.eye(CLASSES)[batch["label"]] + share / CLASSES
        return -(targets * jax.nn.log_softmax(logits)).sum() / BATCH, (updated.get("batch_stats", {}), {})

    return loss_fn


def largest_difference(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max(float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in pairs)


class Watched:
    """A net whose passes are counted while they happen, in images: `seen` of "F", forwards, of which "train" in train
    mode, "Bx", backwards to the image, and "B", to the parameters. `image_keys`: those of each train-mode forward."""

    def __init__(self, model):
        self.model, self.seen, self.image_keys = model, collections.Counter(), []
        self.has_batch_stats, self.has_branches, self.frozen = model.has_batch_stats, model.has_branches, model.frozen

    def apply(self, variables, inputs, *, train, image_keys=None, **options):
        count = len(inputs)
        self._note("F", count)
        if train:
            self._note("train", count)
            jax.debug.callback(self.image_keys.append, jax.random.key_data(image_keys))
        params = self._watch_backward("B", count)(variables["params"])
        inputs = self._watch_backward("Bx", count)(inputs)
        return self.model.apply({**variables, "params": params}, inputs, train=train, image_keys=image_keys, **options)

    def _note(self, what, count):
        jax.debug.callback(lambda: self.seen.update({what: count}))

    def _watch_backward(self, what, count):
        """The identity; its backward pass, where there is one, is noted."""

        @jax.custom_vjp
        def identity(tree):
            return tree

        def backward(_, gradients):
            self._note(what, count)
            return (gradients,)

        identity.defvjp(lambda tree: (tree, None), backward)
        return identity
