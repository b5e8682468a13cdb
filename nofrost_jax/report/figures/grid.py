"""Adversarial examples side by side: the image, what the attack added, and what the net then sees."""

import dataclasses
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from nofrost_jax.report.figures import style

SHOWN, SHOWN_WIDE = 4, 8


@dataclasses.dataclass(frozen=True)
class Example:
    """clean, adversarial: float [H, W, 3] in [0, 1]. label: the class. answer: what the net says of the adversarial
    image, "" where that is not known. robust: whether it still answers right."""

    clean: np.ndarray
    adversarial: np.ndarray
    label: str
    answer: str
    robust: bool


def draw(examples: Sequence[Example], epsilon_255: float, wide: bool = False) -> Figure:
    """A column for each example. The perturbation is grey where nothing changed and saturated at the radius."""
    shown = list(examples)[: SHOWN_WIDE if wide else SHOWN]
    width = style.PAGE if wide else style.COLUMN
    side = (width - 0.75) / max(len(shown), 1)
    shape = np.shape(shown[0].clean) if shown else (1, 1)
    figure = Figure(figsize=(width, 3 * side * shape[0] / shape[1] + 0.75))
    grid = figure.subplots(3, max(len(shown), 1), squeeze=False)
    factor, letters = 255 / (2 * max(epsilon_255, 1e-6)), int(side * 72 / 4.4)
    for column, example in zip(grid.T, shown, strict=False):
        difference = np.clip(0.5 + (example.adversarial - example.clean) * factor, 0, 1)
        for axis, image in zip(column, (example.clean, difference, example.adversarial), strict=True):
            axis.imshow(np.clip(image, 0, 1), interpolation="nearest", vmin=0, vmax=1)
        column[0].set_title(_wrapped(example.label, letters), fontsize=7)
        answer = _wrapped(example.answer, letters) or ("robust" if example.robust else "fooled")
        column[2].set_xlabel(answer, color=style.BLUE if example.robust else style.VERMILLION)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, name in zip(grid[:, 0], ("image", f"change × {factor:.3g}", "attacked"), strict=True):
        axis.set_ylabel(name)
    return figure


def _wrapped(name: str, letters: int) -> str:
    """The first of a class's names, on two lines at most."""
    lines = textwrap.wrap(style.plain(name.split(",")[0], 2 * letters), letters)
    return "\n".join(lines[:2])
