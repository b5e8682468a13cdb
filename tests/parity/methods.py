"""Training steps of the methods against `published.py`: same weights, images and random numbers, all in float64.

Each case is one or two training steps on a ResNet of one block. Parameters, images and noise are float64 on both
sides; only running statistics are rounded to float32 by our batch norm.
"""

import functools
import importlib
import os
import platform
from typing import NamedTuple
from unittest import mock

import flax
import jax
import jax.numpy as jnp
import numpy as np
import torch

from configs.methods import apply
from nofrost_jax import keys, methods, models, optim, parallel
from nofrost_jax.attacks import base, threat
from nofrost_jax.classifier import create_model
from nofrost_jax.config import resolve
from nofrost_jax.methods import augmented, streams, trades
from nofrost_jax.methods.augmented import TERMS
from nofrost_jax.methods.base import frozen_classifier
from nofrost_jax.methods.streams import attack_metrics
from nofrost_jax.state import TrainState
from tests.methods.helpers import with_coin
from tests.models.reference import as_if_trained, stream
from tests.parity import published
from tests.parity.fixture import Row, nhwc, torch_of

BATCH, SIZE, CLASSES, RATE = 24, 8, 5, 0.125
# Images agree to the last bit where no multiplication is fused with an addition (see __main__.configure); where noise
# is scaled, XLA merges two factors, which moves the last bit.
EXACT, LAST_BIT = (0.0, 4e-16) if platform.machine() in ("x86_64", "AMD64") else (1e-12, 1e-12)
TOLERANCE, FLOAT32 = 1e-11, 2e-7


class Case(NamedTuple):
    """A row of configs/methods.py, with fields of the config and the same setting for PyTorch."""

    row: str
    what: str
    setting: published.Setting
    fields: dict
    step: int = 0  # the first training step's number
    batches: int = 1


def cases():
    pgd = {"attack.epsilon_255": 8.0, "attack.step_rule": "fixed:2", "attack.steps": 6}
    setting = published.Setting(epsilon=8 / 255, size=2 / 255, steps=6)
    smooth = {"label_smoothing": 0.1, "optimizer.nesterov": True}
    yield Case("trades", "2 forwards", setting, pgd)
    more = setting._replace(smoothing=0.1, beta=6.0, forwards=3)
    yield Case("trades", "3 forwards", more, pgd | smooth | {"method.trades_forwards": 3, "method.beta": 6.0})
    yield Case("fat", "tau 0", setting, pgd | {"attack.tau": 0})
    more = setting._replace(tau=1, smoothing=0.1, omega=0.255 / 255)
    yield Case("fat", "tau 1, jitter", more, pgd | smooth | {"attack.jitter_255": 0.255})
    # The epochs are one step long here, so that step 1 is the one where tau has grown from 1 to 2.
    yield Case("fat", "tau 2, grown", setting._replace(tau=2), pgd | {"method.tau_epochs": (1, 4)}, step=1)
    yield Case("trades_fat", "tau 0", setting._replace(tau=0), pgd | {"attack.tau": 0})
    more = setting._replace(tau=1, smoothing=0.1, beta=6.0)
    yield Case("trades_fat", "tau 1", more, pgd | smooth | {"method.beta": 6.0})
    single = {"attack.epsilon_255": 16.0}
    setting = published.Setting(epsilon=16 / 255, size=1.25 * 16 / 255)
    yield Case("fastat", "2 batches", setting, single, batches=2)
    yield Case("fastat", "smoothed", setting._replace(smoothing=0.1), single | smooth)
    setting = published.Setting(epsilon=16 / 255, size=16 / 255, replays=4)
    yield Case("freeat", "m 4, 2 batches", setting, single, batches=2)
    yield Case(
        "freeat", "smoothed", setting._replace(replays=2, smoothing=0.1), single | smooth | {"method.replays": 2}
    )
    setting, given = published.Setting(epsilon=8 / 255, size=2 / 255, steps=6), pgd | {"deepaugment.mode": "files"}
    yield Case("combine", "four streams", setting, given)
    more = setting._replace(smoothing=0.1)
    yield Case("nofrost_star", "a coin", more, given | smooth)  # its terms, on this file's net with batch norm
    yield Case("nofrost_star", "as its authors", setting, given | {"method.terms": "authors"})
    yield Case("deepaugment", "two streams", setting, given)
    yield Case("tda", "one stream", more, given | smooth)


def rows():
    for case in cases():
        ours, theirs = our_steps(case), torch_steps(case)
        yield from compare(case, ours, theirs)


def config_of(case):
    """The paper's recipe on a tiny net, at a rate that float32 holds exactly."""
    config = apply(importlib.import_module("configs.common").get_config(), case.row)
    config.model.update({"name": "resnet26", "num_classes": CLASSES, "bn_group_size": "global"})
    config.model.update({"stem": "small", "width": 0.125, "stage_sizes": (1,)})
    config.batch_size, config.data.image_size = BATCH, SIZE
    config.optimizer.update({"learning_rate": RATE, "learning_rate_batch": 0, "schedule": "constant"})
    config.update_from_flattened_dict(case.fields)
    return resolve(config)


@functools.cache
def start():
    """(variables, batches): float64 weights by name, images with saturated pixels, mostly the net's own labels."""
    model = create_model(config_of(next(cases())).model, dtype="float64")
    shapes = models.abstract_variables(model, SIZE)
    flat = flax.traverse_util.flatten_dict(shapes, sep="/")
    variables = {path: as_if_trained(path, leaf.shape) for path, leaf in flat.items()}
    variables = flax.traverse_util.unflatten_dict(variables, sep="/")
    draw, batches = stream("images"), []
    pictures = [np.clip(draw.uniform(-0.1, 1.1, (BATCH, SIZE, SIZE, 3)), 0, 1) for _ in range(2)]
    classifier = frozen_classifier(model, config_of(next(cases())), variables["params"], variables["batch_stats"])
    # Otherwise one class wins everywhere, no attack changes that, and no image stops early.
    variables["params"]["head"]["bias"] -= np.asarray(classifier(jnp.asarray(pictures[0]))).mean(0)
    for images in pictures:
        classifier = frozen_classifier(model, config_of(next(cases())), variables["params"], variables["batch_stats"])
        labels = np.array(classifier.predict(jnp.asarray(images)), np.int32)
        labels[::6] = (labels[::6] + 1) % CLASSES
        views = {name: draw.uniform(0, 1, images.shape) for name in ("deepaugment", "tda")}
        batches.append({"image": images, "label": labels, **with_coin(views, draw.uniform(size=BATCH) < 0.5)})
    return variables, batches


class Watched:
    """A net whose batch statistics also list the train-mode forwards they came through: (input, statistics after)."""

    has_batch_stats, has_branches = True, False

    def __init__(self, net):
        self.net, self.frozen = net, net.frozen

    def apply(self, variables, images, train=False, **options):
        held = variables["batch_stats"]
        result = self.net.apply({**variables, "batch_stats": held["now"]}, images, train=train, **options)
        if not train:
            return result
        now = result[1]["batch_stats"]
        return result[0], {"batch_stats": {"now": now, "seen": (*held["seen"], (images, now))}}


# XLA's own convolution compiles sooner.
@mock.patch.dict(os.environ, {"NOFROST_CONV": "xla"})
@mock.patch.object(trades, "attack_metrics", lambda *arguments: with_attack(*arguments))
@mock.patch.object(streams, "attack_metrics", lambda *arguments: with_attack(*arguments))
@mock.patch.object(augmented.tda, "colours", lambda images, image_keys: images)  # the views are given
def our_steps(case):
    """What `compare` compares, of this project."""
    config, (variables, batches) = config_of(case), start()
    method, scanned = methods.TABLE[config.method.name], case.row == "freeat"
    net = create_model(config.model, axis_name=parallel.AXIS, dtype="float64")
    model = net if scanned else Watched(net)
    optimizer, devices = optim.create(config, 1, method.updates(config)), parallel.Devices((jax.devices()[0],))
    kept = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), method.begin(config, SIZE))
    state = TrainState.create(variables, optimizer, kept).replace(step=jnp.int32(case.step))
    step, key = devices.map_step(method.make_step(model, optimizer, config, 1)), devices.replicate(jax.random.key(5))
    found = {"loss": [], "noise": [], "inputs": [], "seen": []}
    for batch in batches[: case.batches]:
        if not scanned:
            now = state.batch_stats["now"] if found["loss"] else state.batch_stats
            state = state.replace(batch_stats={"now": now, "seen": ()})
        state, metrics = jax.device_get(step(devices.replicate(state), devices.shard(batch), key))
        found["loss"].append(metrics["loss"][0] / metrics["loss"][1])
        if scanned:
            found["noise"].append(state.method["noise"])
        else:
            found["inputs"] += [images for images, _ in state.batch_stats["seen"]]
            found["seen"] += [flat(after) for _, after in state.batch_stats["seen"]]
        found |= {name: metrics[name] for name in ("images", "backwards", "attack_steps") if name in metrics}
    stats = state.batch_stats if scanned else state.batch_stats["now"]
    return found | {"params": flat(state.params), "stats": flat(stats)}


def with_attack(adversarial, labels, result, images):
    """`attack_metrics`, and the attack's images and backward passes themselves, which one device does not sum."""
    return attack_metrics(adversarial, labels, result, images) | {
        "images": result.images,
        "backwards": result.backwards,
    }


def image_keys_of(step):
    return keys.per_image(jax.random.fold_in(jax.random.key(5), step), np.arange(BATCH))


def draws_of(case, images, step):
    """The random numbers of our key scheme, NCHW tensors, by purpose."""
    image_keys = image_keys_of(step)
    if case.row == "fastat":
        noise = threat.uniform(images, keys.named(image_keys, "start"), -case.setting.epsilon, case.setting.epsilon)
        return {"start": torch_of(noise)}
    if method_of(case) == "augmented":
        return stream_draws(case, images, step)
    image_keys = base.fold(keys.named(image_keys, "attack"), 0)
    start_keys, jitter_keys = keys.named(image_keys, "start"), keys.named(image_keys, "jitter")
    if case.row == "fat":
        noise = threat.uniform(images, start_keys, -case.setting.epsilon, case.setting.epsilon)
    else:
        noise = threat.normal(images, start_keys)
    jitter = [threat.normal(images, base.fold(jitter_keys, number)) for number in range(case.setting.steps)]
    return {"start": torch_of(noise), "jitter": [torch_of(values) for values in jitter]}


def method_of(case):
    return config_of(case).method.name


def stream_draws(case, images, step):
    """What `published.augmented` is given: the views, the coins, our start of the attack."""
    image_keys, batch = image_keys_of(step), start()[1][0]
    views = {"clean": images, "deepaugment": batch["deepaugment"], "tda": batch["tda"]}
    names = TERMS[config_of(case).method.terms]
    draws = {"views": [torch_of(views[name]) for name in names if name in views], "coin": None, "start": None}
    if "augmented" in names:
        draws["coin"] = batch["is_deepaugment"]
        draws["either"] = torch_of(views["deepaugment"]), torch_of(views["tda"])
    if "adversarial" in names:
        start_keys = keys.named(base.fold(keys.named(image_keys, "attack"), 0), "start")
        draws["start"] = torch_of(threat.uniform(images, start_keys, -case.setting.epsilon, case.setting.epsilon))
    return draws


def torch_steps(case):
    """What `compare` compares, of PyTorch."""
    variables, batches = start()
    net = published.Twin(flat(variables["params"]) | flat(variables["batch_stats"]))
    nesterov = case.fields.get("optimizer.nesterov", False)
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=0.9, weight_decay=5e-5, nesterov=nesterov)
    pairs = [(torch_of(batch["image"]), torch.from_numpy(batch["label"]).long()) for batch in batches[: case.batches]]
    found = {"noise": []}
    if case.row == "freeat":
        found["loss"], noises = published.free(net, optimizer, pairs, case.setting)
        found["noise"], orders = [nhwc(noise) for noise in noises], None
    else:
        update = getattr(published, method_of(case))
        found["loss"], orders = [], []
        for number, (images, labels) in enumerate(pairs):
            draws = draws_of(case, jnp.asarray(batches[number]["image"]), case.step + number)
            loss, points, counts, order = update(net, optimizer, images, labels, draws, case.setting)
            back = torch.argsort(order)
            found["loss"].append(loss)
            orders.append(back)
            found["images"], found["backwards"] = nhwc(points[back]), counts.numpy()
        per_batch = len(net.seen) // len(pairs)
        found["inputs"] = [nhwc(images[orders[i // per_batch]]) for i, (images, _) in enumerate(net.seen)]
        found["seen"] = [after for _, after in net.seen]
    return found | {"params": net.read(), "stats": net.read(("mean", "var"))}


def compare(case, ours, theirs):
    """The certificate's rows of one case."""

    def row(what, deviation, tolerance):
        return Row(case.row, f"{case.what}: {what}", deviation, tolerance)

    bound = LAST_BIT if case.row.startswith("trades") or case.setting.omega else EXACT
    if "images" in ours:
        yield row("adversarial images", apart(ours["images"], theirs["images"]), bound)
        wrong = int((ours["backwards"] != theirs["backwards"]).sum())
        average = theirs["backwards"].mean()
        yield row(f"images with other back-propagations ({average:.2f} on average)", wrong, 0)
        yield row("the step's own count of them", abs(ours["attack_steps"][0] - theirs["backwards"].sum()), 0)
    if theirs["noise"]:
        yield row("noise after each batch", max(map(apart, ours["noise"], theirs["noise"])), EXACT)
    else:
        count = len(theirs["inputs"])
        assert count == len(ours["inputs"]), f"{len(ours['inputs'])} train-mode forwards, {count} in the published form"
        inputs = max(map(apart, ours["inputs"], theirs["inputs"]))
        yield row(f"inputs of the {count} train-mode forwards, in order", inputs, 5 * LAST_BIT)
        yield row("running statistics after each of them", max(map(relative, ours["seen"], theirs["seen"])), FLOAT32)
    losses = [abs(a - b) / abs(b) for a, b in zip(ours["loss"], theirs["loss"], strict=True)]
    yield row("loss, relative", max(losses), TOLERANCE)
    before = flat(start()[0]["params"])
    moves = {path: value - before[path] for path, value in theirs["params"].items()}
    assert all(np.abs(move).max() > 0 for move in moves.values())
    ours_moved = {path: value - before[path] for path, value in ours["params"].items()}
    yield row("parameters, of the largest change", relative(ours_moved, moves), TOLERANCE)
    yield row("running statistics in the end", relative(ours["stats"], theirs["stats"]), FLOAT32)


def apart(ours, theirs):
    return float(np.abs(np.asarray(ours) - theirs).max())


def relative(ours, theirs):
    """Largest difference of two dicts of arrays, each array's as a share of its largest value."""
    assert ours.keys() == theirs.keys()
    return max(apart(ours[path], value) / np.abs(value).max() for path, value in theirs.items())


def flat(tree):
    """{"stem/kernel": NumPy array, ...}."""
    return {path: np.asarray(leaf) for path, leaf in flax.traverse_util.flatten_dict(tree, sep="/").items()}
