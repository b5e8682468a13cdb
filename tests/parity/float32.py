"""Float32: the trajectories of two implementations part at the first rounding, but as many images must survive."""

import functools
import warnings

import jax
import numpy as np
import torch
from pyautoattack.autopgd_base import APGDAttack

from nofrost_jax.attacks import APGD, PGD
from tests.parity import pgd_family
from tests.parity.apgd import starts
from tests.parity.fixture import Row, make, torch_of

EPSILON, COUNT = 1.5 / 255, 400


def rows():
    torch.set_default_dtype(torch.float32)  # of the tensors that the references make
    try:
        for activation in ("relu", "silu"):
            fixture = make(COUNT, activation, dtype="float32")
            yield _row("PGD", PGD(EPSILON, 20), pgd_family.reference_pgd, fixture)
            for loss in ("ce", "dlr"):
                yield _row(f"APGD-{loss.upper()}", APGD(EPSILON, 20, loss), _apgd, fixture)
    finally:
        torch.set_default_dtype(torch.float64)


def _row(name, attack, reference, fixture):
    ours = jax.jit(functools.partial(attack, fixture.logits))(fixture.images, fixture.labels, fixture.keys).images
    theirs = reference(fixture, attack)
    assert ours.dtype == np.float32 and theirs.dtype == torch.float32
    survivors, expected = (_right(fixture, images) for images in (torch_of(ours), theirs))
    what = f"{fixture.activation}, 20 steps: survivors ({expected} of {COUNT}), difference of their number"
    return Row(name, what, abs(survivors - expected), 2)


def _right(fixture, images):
    return int((fixture.torch_net(images).argmax(1) == fixture.torch_labels).sum())


def _apgd(fixture, attack):
    images, labels = fixture.torch_images, fixture.torch_labels
    reference = APGDAttack(fixture.torch_net, n_iter=attack.steps, n_restarts=1, eps=attack.epsilon, loss=attack.loss)
    reference.init_hyperparam(images)
    start = torch_of(starts(fixture.images, fixture.keys, 0, attack.epsilon))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="there are .* zero gradient")
        _, _, _, adversarial = reference.attack_single_run(images, labels, start)
    wrong = fixture.torch_net(images).argmax(1) != labels
    return torch.where(wrong[:, None, None, None], images, adversarial)
