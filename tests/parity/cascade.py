"""AutoAttack's cascades against pyautoattack's driver: who survives each stage, from the same starts and squares."""

import contextlib
import dataclasses
import functools
import itertools
import logging
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack

from nofrost_jax.attacks import APGD, FAB, Square, TargetedAPGD
from tests.parity.apgd import starts
from tests.parity.fixture import SIZE, Row, make, torch_of

EPSILON = 1.5 / 255
COUNT = 96
NAMES = {"apgd-ce": "apgd", "apgd-dlr": "apgd", "apgd-t": "apgd_targeted", "fab-t": "fab", "square": "square"}


def rows():
    fixture = make(COUNT, "relu")
    yield from _compare("aa_fast_20", fixture, {f"apgd-{loss}": APGD(EPSILON, 20, loss) for loss in ("ce", "dlr")})
    standard = {
        "apgd-ce": APGD(EPSILON, 100, "ce"),
        "apgd-t": TargetedAPGD(EPSILON, 100, targets=9),
        "fab-t": FAB(EPSILON, 100, targets=9),
        "square": _square(5000),
    }
    yield from _compare("aa_standard", fixture, standard)
    # Behind APGD, FAB and Square find nothing new here; before it, they do.
    backwards = {"square": _square(1000), "fab-t": FAB(EPSILON, 20, targets=9), "apgd-ce": APGD(EPSILON, 20, "ce")}
    yield from _compare("weakest first", make(COUNT, "silu"), backwards)


def _square(queries):
    draws = Draws.random(queries, COUNT)
    return ReplayedSquare(EPSILON, queries, rescale=False, strict_budget=False, draws=draws)


class Draws(NamedTuple):
    """Squares as the reference draws them: one for all images in each query; only the stripes differ."""

    stripes: np.ndarray  # [N, W, C], whether up
    places: np.ndarray  # [queries, 2] in [0, 1)
    signs: np.ndarray  # [queries, C], whether up

    @classmethod
    def random(cls, queries, count):
        rng = np.random.default_rng(1)
        return cls(rng.random((count, SIZE, 3)) < 0.5, rng.random((queries, 2)), rng.random((queries, 3)) < 0.5)

    def of(self, left):
        return self._replace(stripes=self.stripes[left])

    def torch_signs(self):
        """What the reference asks for: the stripes [N, C, 1, W], then the signs [C, 1, 1] of each square."""
        stripes = np.moveaxis(self.stripes, 1, 2)[:, :, None]
        return (torch.from_numpy(np.where(up, 1.0, -1.0)) for up in (stripes, *self.signs[:, :, None, None]))


@dataclasses.dataclass(frozen=True, eq=False)
class ReplayedSquare(Square):
    """Square on recorded draws."""

    draws: Draws = None

    def stripes(self, images, keys):
        return jnp.asarray(self.draws.stripes)

    def squares(self, images, keys, query):
        square = jnp.maximum(query - 1, 0)
        place, signs = (jnp.asarray(drawn)[square] for drawn in (self.draws.places, self.draws.signs))
        return tuple(jnp.broadcast_to(drawn, (len(images), *drawn.shape)) for drawn in (place, signs))


def _compare(name, fixture, attacks):
    ours, theirs = _survivors(attacks, fixture), _their_survivors(attacks, fixture)
    for (stage, attack), mine, reference in zip(attacks.items(), ours, theirs, strict=True):
        budget = attack.queries if isinstance(attack, Square) else attack.steps
        what = f"survivors of {stage} {budget} ({reference.sum()} of {COUNT}): in one of the two only"
        yield Row(name, what, float((mine != reference).sum()), 0)


def _survivors(attacks, fixture):
    """bool [N] after each attack, which meets only those that the ones before it left."""
    robust = _robust(fixture, fixture.images)
    for attack in attacks.values():
        left = np.flatnonzero(robust)
        if isinstance(attack, ReplayedSquare):
            attack = dataclasses.replace(attack, draws=attack.draws.of(left))
        found = fixture.images.copy()
        run = jax.jit(functools.partial(attack, fixture.logits))
        found[left] = run(fixture.images[left], fixture.labels[left], fixture.keys[left]).images
        robust = robust & _robust(fixture, found)
        yield robust


def _robust(fixture, images):
    return np.argmax(jax.jit(fixture.logits)(images), axis=-1) == fixture.labels


def _their_survivors(attacks, fixture):
    """The same by the reference's driver, given our random numbers."""
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    driver = AutoAttack(fixture.torch_net, eps=EPSILON, seed=0)  # its standard version
    if attacks["apgd-ce"].steps != 100:  # the checkpoints follow from the constructor's n_iter
        driver.apgd = APGDAttack(fixture.torch_net, n_iter=attacks["apgd-ce"].steps, n_restarts=1, eps=EPSILON)
    if "square" in attacks:
        driver.square.n_queries, driver.fab.n_iter = attacks["square"].queries, attacks["fab-t"].steps
    driver.attacks_to_run = list(attacks)
    before, rows = [], {image.numpy().tobytes(): row for row, image in enumerate(fixture.torch_images)}

    def record(perturb, images, labels):
        """Notes whom the driver gives to an attack, and hands that attack our random numbers."""
        left = np.array([rows[image.numpy().tobytes()] for image in images])
        before.append(np.isin(np.arange(len(fixture.images)), left))
        with _replay(driver, attacks, fixture, rows, left):
            return perturb(images, labels)

    for attack in {getattr(driver, NAMES[name]) for name in attacks}:
        attack.perturb = functools.partial(record, attack.perturb)
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):  # it casts images to float32
        _, predicted = driver.run_standard_evaluation(fixture.torch_images, fixture.torch_labels, batch_size=COUNT)
    return [*before[1:], (predicted == fixture.torch_labels).numpy()]


@contextlib.contextmanager
def _replay(driver, attacks, fixture, rows, left):
    with contextlib.ExitStack() as stack:
        for attack in (driver.apgd, driver.apgd_targeted):
            stack.enter_context(mock.patch.object(attack, "attack_single_run", _from_our_starts(attack, fixture, rows)))
        if "square" in attacks:
            draws = attacks["square"].draws.of(left)
            places, signs = iter(draws.places.ravel()), iter(draws.torch_signs())
            stack.enter_context(
                mock.patch.object(driver.square, "random_int", lambda low, high: int(low + (high - low) * next(places)))
            )
            stack.enter_context(mock.patch.object(driver.square, "random_choice", lambda shape: next(signs)))
        yield


def _from_our_starts(attack, fixture, rows):
    """`attack_single_run` from where our attack starts in the same restart or target."""
    single, numbers = attack.attack_single_run, itertools.count()

    def run(images, labels):
        left = [rows[image.numpy().tobytes()] for image in images]
        start = torch_of(starts(fixture.images, fixture.keys, next(numbers), EPSILON))[left]
        return single(images, labels, start)

    return run
