"""FGSM, PGD, targeted PGD and MI-FGSM against torchattacks, CW against a loop of PyTorch, from the same starts."""

import functools
from unittest import mock

import jax
import numpy as np
import torch
import torchattacks

from nofrost_jax.attacks import CW, FGSM, MIFGSM, PGD, TargetedPGD, base, threat
from nofrost_jax.keys import named
from tests.parity.fixture import CLASSES, Row, make, nhwc, torch_of

EPSILON, RADIUS = 3 / 255, 0.3  # of the l-infinity and of the l2 ball
TOLERANCE = 1e-12


def rows():
    """One row for each attack and setting, the larger deviation of the ReLU and the SiLU net."""
    fixtures = [make(activation=activation) for activation in ("relu", "silu")]
    for attack, reference, what in _pairs():
        deviation = max(_deviation(attack, reference, fixture) for fixture in fixtures)
        yield Row(type(attack).__name__, f"{what}: images", deviation, TOLERANCE)


def _pairs():
    """(our attack, the reference as a function of (fixture, attack), in words)."""
    yield FGSM(EPSILON), _fgsm, "1 step"
    for steps in (10, 20):
        for rule in ("nofrost", "madry"):
            yield PGD(EPSILON, steps, rule), reference_pgd, f"{steps} steps, {rule}"
    yield PGD(EPSILON, 10, start="zero"), reference_pgd, "10 steps, madry, zero start"
    yield PGD(EPSILON, 5, "nofrost", restarts=3), _restarted, "3 restarts of 5 steps, nofrost"
    yield PGD(RADIUS, 20, "madry", norm="l2"), _pgd_l2, "20 steps, madry, l2"
    yield TargetedPGD(EPSILON, 20, "nofrost"), _pgd_targeted, "20 steps, nofrost"
    yield MIFGSM(EPSILON, 20, "nofrost"), _mi_fgsm, "20 steps, nofrost, zero start"
    yield MIFGSM(EPSILON, 20, "nofrost", start="uniform"), _mi_fgsm, "20 steps, nofrost, uniform start"
    yield CW(EPSILON, 20, "nofrost"), _cw, "20 steps, nofrost"
    yield CW(EPSILON, 20, "madry", kappa=0.5), _cw, "20 steps, madry, saturated at kappa 0.5"


def _deviation(attack, reference, fixture):
    ours = jax.jit(functools.partial(attack, fixture.logits))(fixture.images, fixture.labels, fixture.keys).images
    theirs = nhwc(reference(fixture, attack))
    assert np.abs(theirs - fixture.images).max() > attack.epsilon / 10
    return float(np.abs(np.asarray(ours) - theirs).max())


def _replay(noise):
    """torchattacks draws its starts by `uniform_`; this makes that draw return `noise`."""
    return mock.patch.object(torch.Tensor, "uniform_", lambda tensor, low, high: tensor.copy_(noise))


@functools.partial(jax.jit, static_argnames="epsilon")
def _uniform(images, keys, epsilon, restart):
    return threat.uniform(images, named(base.fold(keys, restart), "start"), -epsilon, epsilon)


def _noise(fixture, attack, restart=0):
    """The perturbations that our attack starts from, before they are cut to [0, 1]."""
    return torch_of(_uniform(fixture.images, fixture.keys, attack.epsilon, restart))


@jax.jit
def _l2_draws(images, keys):
    """A normal direction and a share of the radius for each image, [N, H, W, C] and [N, 1, 1, 1]."""

    def draw(key):
        direction, share = jax.random.split(key)
        return (
            jax.random.normal(direction, images.shape[1:], images.dtype),
            jax.random.uniform(share, (1, 1, 1), images.dtype),
        )

    return jax.vmap(draw)(named(base.fold(keys, 0), "start"))


@jax.jit
def _shifts(keys):
    return jax.vmap(lambda key: jax.random.randint(key, (), 1, CLASSES))(named(keys, "target"))


def _arguments(attack):
    step = threat.step_size(attack.step_rule, attack.epsilon, attack.steps)
    return {"eps": attack.epsilon, "alpha": step, "steps": attack.steps}


def _fgsm(fixture, attack):
    return torchattacks.FGSM(fixture.torch_net, eps=attack.epsilon)(fixture.torch_images, fixture.torch_labels)


def reference_pgd(fixture, attack, restart=0):
    reference = torchattacks.PGD(fixture.torch_net, random_start=attack.start == "uniform", **_arguments(attack))
    with _replay(_noise(fixture, attack, restart)):
        return reference(fixture.torch_images, fixture.torch_labels)


def _restarted(fixture, attack):
    """An image keeps the first restart that fools it, or else the last one."""
    images = reference_pgd(fixture, attack)
    for restart in range(1, attack.restarts):
        wrong = fixture.torch_net(images).argmax(1) != fixture.torch_labels
        images = torch.where(wrong[:, None, None, None], images, reference_pgd(fixture, attack, restart))
    return images


def _pgd_l2(fixture, attack):
    directions, shares = map(torch_of, _l2_draws(fixture.images, fixture.keys))
    # Its loss is averaged over the batch, ours summed: so that the guard against division by 0 is the same number.
    guard = 1e-10 / len(fixture.images)
    reference = torchattacks.PGDL2(fixture.torch_net, eps_for_division=guard, **_arguments(attack))
    with mock.patch.object(torch.Tensor, "normal_", lambda tensor: tensor.copy_(directions)), _replay(shares):
        return reference(fixture.torch_images, fixture.torch_labels)


def _pgd_targeted(fixture, attack):
    targets = (fixture.torch_labels + torch.tensor(np.asarray(_shifts(fixture.keys)))) % CLASSES
    reference = torchattacks.PGD(fixture.torch_net, **_arguments(attack))
    reference.set_mode_targeted_by_label(quiet=True)
    with _replay(_noise(fixture, attack)):
        return reference(fixture.torch_images, targets)


def _mi_fgsm(fixture, attack):
    if attack.start == "zero":
        reference = torchattacks.MIFGSM(fixture.torch_net, decay=attack.decay, **_arguments(attack))
    else:
        reference = torchattacks.UPGD(fixture.torch_net, random_start=True, decay=attack.decay, **_arguments(attack))
    with _replay(_noise(fixture, attack)):
        return reference(fixture.torch_images, fixture.torch_labels)


def _cw(fixture, attack):
    images, labels = fixture.torch_images, fixture.torch_labels
    one_hot = torch.nn.functional.one_hot(labels, CLASSES)
    points = (images + _noise(fixture, attack)).clamp(0, 1)
    for _ in range(attack.steps):
        points.requires_grad_()
        logits = fixture.torch_net(points)
        own, other = (one_hot * logits).sum(1), ((1 - one_hot) * logits - 1e4 * one_hot).max(1)[0]
        loss = -torch.clamp(own - other + attack.kappa, min=0)
        (gradient,) = torch.autograd.grad(loss.sum(), points)
        moved = points.detach() + _arguments(attack)["alpha"] * gradient.sign()
        points = (images + (moved - images).clamp(-attack.epsilon, attack.epsilon)).clamp(0, 1)
    return points
