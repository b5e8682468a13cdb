"""FAB against pyautoattack's, which starts at the image and draws nothing: projections, trajectories, outcomes."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import torch
from pyautoattack.fab_projections import projection_linf
from pyautoattack.fab_pt import FABAttack_PT

from nofrost_jax.attacks import fab
from nofrost_jax.attacks.apgd import runner_up
from tests.parity import fixture

EPSILON = 1.5 / 255  # fools about half of the images
RANKS = (0, 4)  # runner-up classes whose trajectories are compared
CASES = 150  # of each size and kind, for the projection
FAR = 1e3  # deviation that stands for another set of fooled images


def rows():
    table = [_projections()]
    for activation in fixture.ACTIVATIONS:
        data = fixture.make(activation=activation)
        table += [*_trajectories(data), _outcomes(fixture.make(20, activation))]
    return table


def _projections():
    rng = np.random.default_rng(0)
    worst = 0.0
    for size in (1, 2, 7, 48, 300):
        for points, normals, offsets in _cases(rng, size):
            expected = projection_linf(*map(torch.from_numpy, (points, normals, offsets))).numpy()
            found = jax.jit(fab.project)(points, normals, (points * normals).sum(1) - offsets)
            worst = max(worst, _deviation(found, expected))
    return fixture.Row("FAB-T", "projections", worst, 1e-12)


def _cases(rng, size):
    """(points, normals, offsets): inside, on the border, at corners; near, far, out of reach; zeros in normals."""
    shape = (CASES, size)
    inside = rng.uniform(0, 1, shape)
    border = np.clip(rng.uniform(-0.5, 1.5, shape), 0, 1)
    corners = rng.integers(0, 2, shape).astype(np.float64)
    dense = rng.normal(size=shape)
    sparse = dense * (rng.uniform(size=shape) < 0.5)
    sparse[:20] = 0
    uneven = dense * 10 ** rng.uniform(-4, 0, shape)
    for points in (inside, border, corners):
        for normals in (dense, sparse, uneven):
            for reach in (0.01, 0.3, 3.0):
                change = np.abs(normals).sum(1) * rng.uniform(-reach, reach, CASES)
                yield points, normals, (points * normals).sum(1) + change


def _trajectories(data):
    """Nearest adversarial images for single targets after 100 steps: in float64, and the distances also in float32."""
    right = np.argmax(data.logits(jnp.asarray(data.images)), -1) == data.labels  # the reference attacks no others
    images, labels = data.images[right], data.labels[right]
    search = jax.jit(lambda *arguments: fab.minimum_norm(data.logits, *arguments))
    deviations = []
    for rank in RANKS:
        targets = runner_up(data.logits(jnp.asarray(images)), rank)
        norms, adversarial, _ = search(images, labels, targets, images)
        singles = images.astype(np.float32)
        norms_single, _, _ = search(singles, labels, targets, singles)
        with _reference(data) as attack:
            attack.target_class = rank + 2
            found = attack.attack_single_run(fixture.torch_of(images), torch.from_numpy(labels), is_targeted=True)
        expected = fixture.nhwc(found)
        distances = np.abs(expected - images).max((1, 2, 3))
        distances = np.where(distances > 0, distances, np.inf)  # it returns the image itself where it found nothing
        deviations.append(
            (
                _deviation(adversarial, expected),
                _relative(norms, distances),
                _relative(norms_single, distances, least=1 / 255),
            )
        )
    images64, norms64, norms32 = map(float, np.max(deviations, axis=0))
    name, targets = f"FAB-T {data.activation}", f"{len(RANKS)} targets"
    return [
        fixture.Row(name, f"{targets}, images", images64, 1e-10),
        fixture.Row(name, f"{targets}, norms, relative", norms64, 1e-10),
        # A float32 pixel is exact to 6e-8, which is no relative bound for images that lie on the boundary.
        fixture.Row(name, f"{targets}, float32 norms, rel. to >= 1/255", norms32, 1e-4),
    ]


def _outcomes(data):
    """The whole attack on 9 targets: which images are fooled within epsilon, and the adversarial images."""
    result = jax.jit(lambda *arguments: fab.FAB(EPSILON)(data.logits, *arguments))(data.images, data.labels, data.keys)
    with _reference(data) as attack:
        expected = fixture.nhwc(attack.perturb(data.torch_images, data.torch_labels))
    ours, theirs = (np.any(np.asarray(images) != data.images, (1, 2, 3)) for images in (result.images, expected))
    deviation = _deviation(result.images, expected) if np.array_equal(ours, theirs) else FAR
    what = f"9 targets, {theirs.sum()} of {len(theirs)} fooled, images"
    return fixture.Row(f"FAB-T {data.activation}", what, deviation, 1e-10)


@contextlib.contextmanager
def _reference(data):
    """The reference attack in float64 (`Tensor.float`, which it calls on images and masks, is `double` meanwhile)."""
    single, threads = torch.Tensor.float, torch.get_num_threads()
    torch.Tensor.float = torch.Tensor.double
    torch.set_num_threads(1)  # its tensors are so small that more are slower
    try:
        yield FABAttack_PT(data.torch_net, norm="Linf", n_iter=100, eps=EPSILON, targeted=True, n_target_classes=9)
    finally:
        torch.Tensor.float = single
        torch.set_num_threads(threads)


def _deviation(found, expected):
    return float(np.max(np.abs(np.asarray(found) - expected)))


def _relative(found, expected, least=0.0):
    """Largest deviation relative to `expected`, or to `least` where that is more; FAR where only one is infinite."""
    found, finite = np.asarray(found, np.float64), np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return FAR
    return float(np.max(np.abs(found - expected)[finite] / np.maximum(expected[finite], least)))
