"""RayS against the per-image NumPy reference: images, query counts and counts at the first success."""

import jax
import jax.numpy as jnp
import numpy as np

from nofrost_jax.attacks.rays import RayS
from tests.attacks.rays_reference import rays
from tests.parity import fixture
from tests.parity.fixture import Row

EPSILON, IMAGES, LIMITS = 6 / 255, 40, (40, 97, 400)


def _ours(fix, attack):
    """(images, found, queries, queries at the first success) of all images, those that are wrong when clean, too."""

    @jax.jit
    def run(images, labels, keys):
        state = attack.begin(images, jnp.ones(len(images), bool))
        for index in range(attack.stages(fixture.CLASSES)):
            state = attack.stage(fix.logits, images, labels, keys, state, jnp.int32(index))
        return state

    state = run(fix.images, fix.labels, fix.keys)
    first = np.asarray(state.carry.first_success)
    return np.asarray(state.images), first > 0, np.asarray(state.forwards), first


def rows():
    result = []
    fix = fixture.make(IMAGES, "relu")
    label_of = jax.jit(lambda image: jnp.argmax(fix.logits(image[None]), -1)[0])
    for accounting in ("strict", "official"):
        for limit in LIMITS:
            official = accounting == "official"
            images, found, queries, first = _ours(fix, RayS(EPSILON, limit, official=official))
            deviation = counts = 0.0
            for number, (image, label) in enumerate(zip(fix.images, fix.labels, strict=True)):
                expected, *spent = rays(label_of, image, label, EPSILON, limit, official=official)
                counts = max(counts, *np.abs(np.subtract((queries[number], first[number]), spent)))
                deviation = max(deviation, np.abs(images[number] - (image if expected is None else expected)).max())
            assert 0.1 < found.mean() < 0.9
            what = f"{accounting}, limit {limit}"
            result.append(Row("RayS", f"{what}: images", float(deviation), 0))
            result.append(Row("RayS", f"{what}: counts", float(counts), 0))
    return result
