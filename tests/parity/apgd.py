"""APGD on the CE and the DLR loss, and targeted APGD, against pyautoattack's from the same starts.

APGD compares losses of iterates that, in exact arithmetic, are often one and the same point. Such a tie is decided by
the last bit, differently in any two implementations of a network. So there are three kinds of rows: our loop alone, on
the losses and gradients of the reference's network, where every image must agree to the end; the losses and their
gradients; and the two together, where the trajectories of images that met a tie are left out, and counted.
"""

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental import io_callback
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

from nofrost_jax.attacks import APGD, TargetedAPGD, apgd, base, losses, threat
from nofrost_jax.keys import named
from tests.parity import fixture as fixtures
from tests.parity.fixture import Row, nhwc, torch_of

EPSILON = 1.5 / 255
TARGETS = 9
ACTIVATIONS = ("relu", "silu")
TIE = 1e-12  # losses that differ by less, and gradients below ten times that, are rounding noise
make = functools.cache(fixtures.make)


def rows():
    for loss, name in (("ce", "APGD-CE"), ("dlr", "APGD-DLR")):
        for steps in (10, 20, 50, 100):
            cases = [Case(make(activation=activation), loss, steps) for activation in ACTIVATIONS]
            yield from _rows(name, f"{steps} steps", cases, whole=steps in (20, 100))
    for steps, count in ((20, 48), (100, 16)):
        nets = [make(count, activation) for activation in ACTIVATIONS]
        cases = [Case(net, "dlr-targeted", steps, rank) for net in nets for rank in range(TARGETS)]
        yield from _rows("APGD-T", f"{steps} steps, {TARGETS} targets", cases, whole=steps == 20)
    for loss in ("ce", "dlr", "dlr-targeted"):
        yield _loss_row(loss)
    cases = [Case(make(), "dlr", 10, restart) for restart in range(3)]
    yield _called_row(APGD(EPSILON, 10, "dlr", restarts=3), "APGD-DLR", "3 restarts of 10 steps", cases)
    cases = [Case(make(), "dlr-targeted", 20, rank) for rank in range(TARGETS)]
    yield _called_row(TargetedAPGD(EPSILON, 20, TARGETS), "APGD-T", f"20 steps, {TARGETS} targets", cases)


class Run(NamedTuple):
    """What a run leaves: fooled [N], adversarial images (never fooled: the start), best losses and best points."""

    fooled: np.ndarray
    adversarial: np.ndarray
    loss: np.ndarray
    best: np.ndarray


@dataclasses.dataclass
class Case:
    """One random start of one loss on all images of a fixture, by the reference and by us."""

    fixture: Any
    loss: str  # ce | dlr | dlr-targeted
    steps: int
    index: int = 0  # of the restart, or of the target among the runners-up

    @functools.cached_property
    def start(self):
        return starts(self.fixture.images, self.fixture.keys, self.index, EPSILON)

    @functools.cached_property
    def reference(self):
        # The checkpoints follow from the `n_iter` of the constructor; n_restarts plays no part in a single run.
        options = {"n_iter": self.steps, "n_restarts": 1, "eps": EPSILON}
        if self.loss == "dlr-targeted":
            reference = APGDAttack_targeted(self.fixture.torch_net, **options)
            reference.y_target = self.fixture.torch_net(self.fixture.torch_images).sort(dim=1)[1][:, -2 - self.index]
        else:
            reference = APGDAttack(self.fixture.torch_net, loss=self.loss, **options)
        reference.init_hyperparam(self.fixture.torch_images)
        return reference

    @functools.cached_property
    def theirs(self):
        images, labels = self.fixture.torch_images, self.fixture.torch_labels
        with warnings.catch_warnings():  # where the target is the label itself, as on images that are wrong when clean
            warnings.filterwarnings("ignore", message="there are .* zero gradient")
            best, kept, loss, adversarial = self.reference.attack_single_run(images, labels, torch_of(self.start))
        return Run(~kept.numpy().astype(bool), nhwc(adversarial), loss.numpy(), nhwc(best))

    def evaluate_theirs(self, points):
        """(wrong, losses, gradients) of the reference's network, computed as its loop computes them."""
        points, labels = torch_of(points).requires_grad_(), self.fixture.torch_labels
        logits = self.fixture.torch_net(points)
        if self.loss == "ce":
            values = torch.nn.CrossEntropyLoss(reduction="none")(logits, labels)
        elif self.loss == "dlr":
            values = self.reference.dlr_loss(logits, labels)
        else:
            values = self.reference.dlr_loss_targeted(logits, labels)
        (gradients,) = torch.autograd.grad(values.sum(), points)
        return (logits.argmax(1) != labels).numpy(), values.detach().numpy(), np.ascontiguousarray(nhwc(gradients))

    @functools.cached_property
    def loop(self):
        """(Run, tied [N]): our loop on their losses, and the images of which a decision was left to rounding."""
        trace = []

        def evaluate(points):
            answer = self.evaluate_theirs(points)
            trace.append((np.array(points), *answer[1:]))
            return answer

        Oracle.evaluate = evaluate
        run = Run(*map(np.asarray, _loop_on_the_oracle(self.fixture.images, self.start, self.steps)[:4]))
        return run, _tied(*map(np.stack, zip(*trace, strict=True)))

    @functools.cached_property
    def targets(self):
        return apgd.runner_up(self.fixture.logits(jnp.asarray(self.fixture.images)), self.index)

    @functools.cached_property
    def ours(self):
        return Run(*map(np.asarray, _maximise(self.start, self.targets, self.fixture, self.loss, self.steps)[:4]))


@functools.partial(jax.jit, static_argnames="epsilon")
def starts(images, keys, index, epsilon):
    """Where our attacks start in restart or target number `index`."""
    return threat.largest_start(images, epsilon, named(base.fold(keys, index), "start"))


class Oracle:
    """What the compiled loop asks for losses; each case sets it, so that one program serves all."""

    evaluate = None


@functools.partial(jax.jit, static_argnames="steps")
def _loop_on_the_oracle(images, start, steps):
    flags, numbers = (jax.ShapeDtypeStruct(images.shape[:1], dtype) for dtype in (bool, images.dtype))
    shapes = flags, numbers, jax.ShapeDtypeStruct(images.shape, images.dtype)

    def evaluate(points):
        return io_callback(lambda points: Oracle.evaluate(points), shapes, points, ordered=True)

    return apgd.maximise(evaluate, images, start, EPSILON, steps)


def _value(logits, targets, fixture, loss):
    if loss == "dlr-targeted":
        return losses.dlr_targeted(logits, fixture.labels, targets)
    return apgd.LOSSES[loss][0](logits, fixture.labels)


@functools.partial(jax.jit, static_argnames=("fixture", "loss"))
def _evaluate(points, targets, fixture, loss):
    return base.evaluate(fixture.logits, lambda logits: _value(logits, targets, fixture, loss), points)


@functools.partial(jax.jit, static_argnames=("fixture", "loss", "steps"))
def _maximise(start, targets, fixture, loss, steps):
    def evaluate(points):
        logits, values, gradients = _evaluate(points, targets, fixture, loss)
        return jnp.argmax(logits, axis=-1) != fixture.labels, values, gradients

    return apgd.maximise(evaluate, jnp.asarray(fixture.images), start, EPSILON, steps)


def _tied(points, values, gradients):
    """bool [N] of trajectories [n + 1, N, ...]: two losses that were compared differed by rounding alone, though their
    points were not one and the same; or a gradient was rounding noise, whose sign says nothing."""

    def equal(number, other_points, other_values):
        same = (points[number] == other_points).all((1, 2, 3))
        return ~same & (np.abs(values[number] - other_values) < TIE * (1 + values[number] ** 2))

    tied = ((gradients != 0) & (np.abs(gradients) < 10 * TIE)).any((0, 2, 3, 4))
    best_points, best_values = points[0].copy(), values[0].copy()
    for number in range(1, len(points)):
        tied |= equal(number, points[number - 1], values[number - 1] if number > 1 else 0)
        tied |= equal(number, best_points, best_values)
        better = values[number] > best_values
        best_points[better], best_values[better] = points[number][better], values[number][better]
    return tied


def _rows(name, what, cases, whole):
    loop = max(_distance(case.loop[0], case.theirs) for case in cases)
    yield Row(name, f"{what}: our loop on their losses, all that it returns", loop, 1e-12)
    if not whole:
        return
    clear = [~case.loop[1] for case in cases]
    compared = f"{sum(map(np.sum, clear))} of {sum(map(len, clear))} images"
    pairs = [
        [Run(*(field[rows] for field in run)) for run in (case.ours, case.theirs)]
        for case, rows in zip(cases, clear, strict=True)
    ]
    yield Row(name, f"{what}: images, best points; {compared}", max(_image_distance(*pair) for pair in pairs), 1e-12)
    # A relative bound of 1e-9 and an absolute one of 1e-8 in one number.
    loss = max((np.abs(ours.loss - theirs.loss) / (10 + np.abs(theirs.loss))).max() for ours, theirs in pairs)
    yield Row(name, f"{what}: best loss, difference / (10 + |loss|)", float(loss), 1e-9)
    fooled = sum((case.ours.fooled != case.theirs.fooled).sum() for case in cases)
    yield Row(name, f"{what}: fooled in one of the two only, all images", float(fooled), 0)


def _image_distance(ours, theirs):
    return float(max(np.abs(ours.adversarial - theirs.adversarial).max(), np.abs(ours.best - theirs.best).max()))


def _distance(ours, theirs):
    loss = np.abs(ours.loss - theirs.loss).max()
    return float(max(_image_distance(ours, theirs), loss, (ours.fooled != theirs.fooled).max()))


def _loss_row(loss):
    """Losses and gradients at the starts and at the adversarial images of APGD-CE, fooled and not."""
    deviation = 0.0
    for activation in ACTIVATIONS:
        case = Case(make(activation=activation), loss, 20)
        for points in (case.start, Case(case.fixture, "ce", 20).theirs.adversarial):
            _, values, gradients = _evaluate(points, case.targets, case.fixture, loss)
            _, their_values, their_gradients = case.evaluate_theirs(points)
            scale = 1 + their_values**2  # a quotient whose denominator may be near 0
            deviation = max(deviation, (np.abs(values - their_values) / scale).max())
            deviation = max(deviation, (np.abs(gradients - their_gradients).max((1, 2, 3)) / scale).max())
    return Row("APGD", f"loss {loss} and its gradient, difference / (1 + loss^2)", float(deviation), 1e-12)


def _called_row(attack, name, what, cases):
    """The attack as it is called, against the first of the reference's runs that fools an image."""
    fixture = cases[0].fixture
    ours = jax.jit(functools.partial(attack, fixture.logits))(fixture.images, fixture.labels, fixture.keys).images
    logits = fixture.torch_net(fixture.torch_images).detach().numpy()
    expected, left, clear = fixture.images.copy(), logits.argmax(1) == fixture.labels, np.full(len(logits), True)
    for case in cases:
        clear &= ~(left & case.loop[1])
        fooled = left & case.theirs.fooled
        expected[fooled] = case.theirs.adversarial[fooled]
        left &= ~fooled
    deviation = float(np.abs(ours - expected)[clear].max())
    return Row(name, f"{what}, as called; {clear.sum()} of {len(clear)} images", deviation, 1e-12)
