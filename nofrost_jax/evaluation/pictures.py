"""Saved adversarial images, and a grid of them for the eye: clean, adversarial, amplified difference."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from nofrost_jax import files, picture_grid
from nofrost_jax.evaluation.protocols import Protocol
from nofrost_jax.picture_grid import Cell

SHOWN = 8  # images in a grid
SIDE = 112  # pixels of a cell's longer side


def save(
    workdir: str | os.PathLike, name: str, protocols: Iterable[Protocol], outcomes: Mapping[str, Any]
) -> list[str]:
    """Writes `evaluations/NAME_images/ATTACK.npz` and `ATTACK.png` for each protocol with saved images; returns the
    paths.

    The npz has index, label, clean (uint8 [k, H, W, 3]), adversarial (float32 in [0, 1], exactly what the verdict saw)
    and robust. In a cascade it is the image of the attack that fooled the net, or of the last one. Images that the
    attack did not get, e.g. misclassified ones, are left out.
    """
    folder, written = os.path.join(workdir, "evaluations", f"{name}_images"), []
    for protocol in protocols:
        outcome = outcomes["protocols"][protocol.name]
        chosen, adversarial = adversarial_images(outcome, len(outcomes["pixels"]))
        if not len(chosen):
            continue
        files.make_folder(folder)
        base, clean = os.path.join(folder, protocol.name), outcomes["pixels"][chosen]
        index, label = outcomes["index"][chosen], outcomes["label"][chosen]
        robust = outcome["robust"][chosen]
        columns = {"index": index, "label": label, "clean": clean, "adversarial": adversarial, "robust": robust}
        files.write_npz(f"{base}.npz", columns)
        title, shown = f"{protocol.name}, eps {protocol.epsilon_255:g}/255", protocol.epsilon_255
        if protocol.norm == "l2":  # a radius in l2 says little about one pixel
            title, shown = f"{title} in l2", float(np.abs(adversarial * 255 - clean).max())
        with files.replacing(f"{base}.png", sync=False) as file:
            grid(title, clean, adversarial, shown, label, robust).save(file, "PNG")
        written += [f"{base}.npz", f"{base}.png"]
    return written


def adversarial_images(outcome: Mapping[str, Any], count: int) -> tuple[np.ndarray, np.ndarray]:
    """(places, images) of the first `count` that were attacked: by the member that fooled the net, or the last."""
    images = np.zeros_like(outcome["members"][0]["pixels"])
    met, fooled = np.zeros(count, bool), np.zeros(count, bool)
    for rows in outcome["members"]:
        attacked = rows["attacked"][:count] & ~fooled
        images[attacked], met = rows["pixels"][attacked], met | attacked
        fooled |= attacked & ~rows["robust"][:count]
    return np.flatnonzero(met), images[met]


def grid(
    title: str,
    clean: np.ndarray,
    adversarial: np.ndarray,
    epsilon_255: float,
    labels: Sequence[int],
    robust: Sequence[bool],
) -> Image.Image:
    """A picture with three rows: clean, adversarial, and their difference, grey where there is none and saturated at
    the radius. Columns: the first images, each with its label, green where the attack did not fool the net.

    clean: uint8 [n, H, W, 3]. adversarial: float [n, H, W, 3] in [0, 1].
    """
    clean, adversarial = clean[:SHOWN] / 255.0, adversarial[:SHOWN].astype(float)
    factor = 255 / (2 * max(epsilon_255, 1e-6))
    amplified = np.clip(0.5 + (adversarial - clean) * factor, 0, 1)
    texts = [("robust", picture_grid.GOOD) if is_robust else ("fooled", picture_grid.BAD) for is_robust in robust]
    captions = [(f"{label}: {text}", ink) for label, (text, ink) in zip(labels, texts, strict=True)]
    rows = [[Cell(_uint8(image)) for image in images] for images in (clean, adversarial)]
    rows += [[Cell(_uint8(image), *caption) for image, caption in zip(amplified, captions, strict=False)]]
    return picture_grid.draw(rows, SIDE, title, ("clean", "adversarial", f"difference x {factor:.3g}"))


def _uint8(image: np.ndarray) -> np.ndarray:
    return np.round(image * 255).astype(np.uint8)
