"""What `correct` compares: computations that run on any device and in any arithmetic, from the same numbers.

Each of KINDS takes a name, whether it is a rehearsal and an Arithmetic, and returns {name: array}. Weights, images and
random numbers are float32 everywhere, so that float64 tells what the rounding of the others does, and nothing else.
"""

import contextlib
import dataclasses
import functools
import json
import os
import traceback
from unittest import mock

import flax
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from benchmarks.tasks.common import CHECKPOINT
from nofrost_jax import attacks, keys, models
from nofrost_jax.classifier import Classifier
from nofrost_jax.data import digits
from tests.models.reference import as_if_trained, stream

NETS = {
    "nf_resnet26": "bn",
    "nf_resnet50": "bn",
    "resnet26": "in",
    "resnet50": "bn",
}  # net: its norm
EPSILON = 38.25 / 255  # the checkpoint's own
ATTACKS = {
    "pgd": attacks.PGD(EPSILON, 20),
    "apgd_ce": attacks.APGD(EPSILON, 20, "ce"),
    "apgd_t": attacks.TargetedAPGD(EPSILON, 20, 3),
    "fab_t": attacks.FAB(EPSILON, 20, 3),
    "square": attacks.Square(EPSILON, 500),
}


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """A platform ("" = the accelerator), a dtype of the computation (float64, float32, bfloat16), and the precision of
    matrix products."""

    platform: str
    dtype: str
    precision: str = "highest"

    @property
    def device(self):
        return jax.devices(self.platform or None)[0]

    @contextlib.contextmanager
    def use(self):
        """What is computed within is computed so."""
        with (
            jax.default_device(self.device),
            jax.enable_x64(self.dtype == "float64"),
            jax.default_matmul_precision(self.precision),
            # XLA's own convolutions in float64 are plain loops on a CPU.
            mock.patch.dict(os.environ, {"NOFROST_CONV": "slices" if self.platform == "cpu" else ""}),
        ):
            yield

    @property
    def host(self):
        """NumPy's dtype of images and parameters; bfloat16 nets keep theirs in float32."""
        return np.float64 if self.dtype == "float64" else np.float32

    def cast(self, tree):
        """Floating-point leaves, float32 in value, as arrays of this arithmetic's dtype."""
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32).astype(self.host), tree)


EXACT = Arithmetic("cpu", "float64")
HIGHEST = Arithmetic("", "float32")
WAYS = {  # what is compared with EXACT
    "highest": HIGHEST,
    "default": Arithmetic("", "float32", "default"),
    "bfloat16": Arithmetic("", "bfloat16", "default"),  # nets only
    "cpu float32": Arithmetic("cpu", "float32"),
}


def draw_in_float32():
    """From now on random numbers of float64 programs are those of float32 ones: jax would draw others."""

    def narrow(draw):
        @functools.wraps(draw)
        def wrapped(key, shape=(), dtype=None, *bounds, **options):
            values = draw(key, shape, jnp.float32, *(jnp.asarray(bound, jnp.float32) for bound in bounds), **options)
            return values.astype(dtype or jnp.float32)

        return wrapped

    def bernoulli(key, p=0.5, shape=None, draw=jax.random.bernoulli):
        return draw(key, jnp.asarray(p, jnp.float32), shape)

    jax.random.uniform, jax.random.normal = narrow(jax.random.uniform), narrow(jax.random.normal)
    jax.random.bernoulli = bernoulli


def variables_of(model, size):
    """Float32 variables like a trained net's, from NumPy's fixed streams."""
    shapes = models.abstract_variables(model, size)
    flat = flax.traverse_util.flatten_dict(shapes, sep="/")
    values = {path: as_if_trained(path, leaf.shape).astype(np.float32) for path, leaf in flat.items()}
    return flax.traverse_util.unflatten_dict(values, sep="/")


def net(name, rehearse, how):
    """{"logits", "input gradient"} of a whole net on 8 images of 64 pixels; the gradient is that of the mean logit
    of every image's label."""
    small = {"width": 0.125, "stage_sizes": (1, 1)} if rehearse else {}
    size, count = (16, 2) if rehearse else (64, 8)
    model = models.create(name, num_classes=100, norm=NETS[name], dtype=how.dtype, **small)
    images = how.cast(stream("images").uniform(-2, 2, (count, size, size, 3)))
    labels = np.arange(count)
    variables = how.cast(variables_of(model, size))

    def favour(images, variables):
        logits = model.apply(variables, images, train=False)
        return jnp.mean(logits[np.arange(count), labels]), logits

    gradient, logits = jax.jit(jax.grad(favour, has_aux=True))(images, variables)
    return {"logits": logits, "input gradient": gradient}


def digits_classifier(how):
    """The committed checkpoint, without its config's package."""
    config = json.loads((CHECKPOINT / "config.json").read_text())
    options = config["model"] | {"dtype": how.dtype, "stage_sizes": tuple(config["model"]["stage_sizes"])}
    options["bn_group_size"] = 0
    model = models.create(options.pop("name"), **options)
    arrays = load_file(CHECKPOINT / "model.safetensors")
    variables = how.cast(flax.traverse_util.unflatten_dict(arrays, sep="/"))
    return Classifier(variables, model, tuple(config["data"]["mean"]), tuple(config["data"]["std"]))


def digits_images(count):
    """(float32 images in [0, 1], labels) of `count` evenly spread evaluation images."""
    split = digits.open_source(digits.NATIVE_SIZE).evaluation
    chosen = np.arange(count) * len(split.labels) // count
    return split.images[chosen].astype(np.float32) / np.float32(255), split.labels[chosen]


def outcomes(name, rehearse, how):
    """{"right", "robust": [N], "logits" before, "adversarial logits", "adversarial images"} of the digits checkpoint
    under one attack; verdicts at highest precision."""
    classifier = digits_classifier(how)
    images, labels = digits_images(20 if rehearse else 120)
    images = how.cast(images)
    attack = ATTACKS[name]
    if rehearse:
        attack = dataclasses.replace(attack, **({"queries": 20} if name == "square" else {"steps": 3}))
    image_keys = keys.per_image(jax.random.key(0), np.arange(len(images)))

    @jax.jit
    def run(classifier, images, labels):
        return attack(classifier, images, labels, image_keys).images

    @jax.jit
    def verdict(classifier, images):
        with jax.default_matmul_precision("highest"):
            return classifier(images)

    adversarial = run(classifier, images, labels)
    before, after = verdict(classifier, images), verdict(classifier, adversarial)
    right = np.asarray(before).argmax(-1) == labels
    return {
        "right": right,
        "robust": right & (np.asarray(after).argmax(-1) == labels),
        "logits": before,
        "adversarial logits": after,
        "adversarial images": adversarial,
    }


def step(row, rehearse, how):
    """{"loss", "change of the parameters", "running statistics"} of one training step of a row of configs/methods.py,
    on the golden arrays' tiny net."""
    del rehearse  # it is tiny anyhow
    from tests.golden import make_methods

    metrics, variables, state = make_methods.take(row, how.dtype, how.device, how.cast)
    before, after = (
        np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
        for tree in (variables["params"], state.params)
    )
    total, count = metrics["loss"]
    found = {"loss": np.float64(total) / np.float64(count), "change of the parameters": after - before}
    if state.batch_stats:
        found["running statistics"] = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.batch_stats)])
    return found


KINDS = {"attacks": outcomes, "steps": step, "nets": net}


def ways(case, rehearse):
    """The names in WAYS of what a case, "KIND/NAME", is compared in; a rehearsal has one."""
    names = [way for way in WAYS if way != "bfloat16" or case.startswith("nets/")]
    return names[:1] if rehearse else names


def begin(done):
    """Makes a process ready for `compare_and_send`, which puts what it found on the queue `done`."""
    global send
    send = done.put
    draw_in_float32()


def compare_and_send(case, chosen, rehearse):
    """Sends (case, way, row) of each way as it is done, then (case, "", "") or (case, "", traceback)."""
    try:
        for way, row in compare(case, chosen, rehearse):
            send((case, way, row))
    except Exception:
        send((case, "", traceback.format_exc()))
    else:
        send((case, "", ""))


def compare(case, chosen, rehearse):
    """Yields (way, {array: its largest difference from float64's, and the median, as shares of that's largest value})
    of each of the `chosen` ways. Of outcomes, also how many images differ in them.
    """
    kind, _, name = case.partition("/")

    def run(how):
        with how.use():
            return {key: np.asarray(value) for key, value in jax.device_get(KINDS[kind](name, rehearse, how)).items()}

    truth = run(EXACT)
    for way in chosen:
        values, row = run(WAYS[way]), {}
        for key, right in truth.items():
            if right.dtype == bool:
                row[f"{key}, of {len(right)}"] = int(values[key].sum())
                row[f"{key}, images that differ"] = int((values[key] != right).sum())
            else:
                apart = np.abs(values[key].astype(np.float64) - right)
                row[key] = float(apart.max() / np.abs(right).max())
                row[f"{key}, median"] = float(np.median(apart) / np.abs(right).max())
        if kind == "attacks":
            moved = np.abs(values["adversarial images"].astype(np.float64) - truth["adversarial images"]) > 1 / 510
            row["images with a pixel half a level apart"] = int(moved.any((1, 2, 3)).sum())
        yield way, row
