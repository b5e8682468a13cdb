"""Predictions: what a net answers on the images of a set without an attack, as they are or corrupted on the way."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from nofrost_jax import files
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import flags

CLEAN = "clean"


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What is asked of the net. name: for the screen. allowed: bool [K], the classes that it may answer; None: any.

    corruption: what is done to the images first, a value whose repr says all of it, called with (uint8 images [N, H, W,
    C], their indices, the `parallel.Devices`); or None. probe: run the first batch five times, for `flags.NOTES`.
    """

    name: str = CLEAN
    allowed: np.ndarray | None = None
    corruption: Callable[..., Any] | None = None
    probe: bool = False

    @property
    def key(self) -> str:
        """A file name: a hash of all that rows depend on apart from the set and the net."""
        barred = [] if self.allowed is None else np.flatnonzero(~self.allowed).tolist()
        if self.probe and not barred and self.corruption is None:
            return CLEAN
        lead = "look" if self.corruption is None else f"{self.corruption.name}-{self.corruption.severity}"
        return f"{lead}-{files.sha256(repr((barred, self.corruption)))[:10]}"

    @property
    def required(self) -> tuple[str, ...]:
        """What its rows must have."""
        return ("index", "label", "correct", "nan", "pixels", "seconds", *(flags.NOTES if self.probe else ()))

    def check_labels(self, labels: np.ndarray, index: np.ndarray) -> None:
        """Raises UserError for the first of the images, int [N] labels and indices, whose class it does not allow."""
        outside = np.flatnonzero(~self.allowed[labels]) if self.allowed is not None else ()
        if len(outside):
            raise UserError(
                f"image {index[outside[0]]} of {self.name} has label {labels[outside[0]]}, which is none of the "
                f"{self.allowed.sum()} classes of its label set; config.data.data_dir; use the set's own images, or "
                f"config.shift.{self.name}.label_set=all"
            )
