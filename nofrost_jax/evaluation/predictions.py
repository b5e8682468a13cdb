"""Predictions: what a net answers on the images of a set without an attack, as they are or corrupted on the way."""

import dataclasses
from typing import Any, Protocol

import numpy as np

from nofrost_jax import files
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import flags

CLEAN = "clean"


class Corruption(Protocol):
    """What may be done to images first. Its repr says all of it."""

    @property
    def name(self) -> str: ...

    @property
    def severity(self) -> int: ...

    def __call__(self, images: np.ndarray, index: np.ndarray, devices: Any = None) -> np.ndarray:
        """uint8 [N, H, W, C] -> the same, for int [N] indices, on `parallel.Devices`."""

    def constants(self, side: int) -> dict[str, Any]:
        """What it uses on images of `side` pixels, plain values."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What is asked of the net. name: for the screen. allowed: bool [K], the classes that it may answer; None: any.
    corruption: of the images. probe: run the first batch five times, for `flags.NOTES`."""

    name: str = CLEAN
    allowed: np.ndarray | None = None
    corruption: Corruption | None = None
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
        if self.allowed is not None and len(outside := np.flatnonzero(~self.allowed[labels])):
            raise UserError(
                f"image {index[outside[0]]} of {self.name} has label {labels[outside[0]]}, which is none of the "
                f"{self.allowed.sum()} classes of its label set; config.data.data_dir; use the set's own images, or "
                f"config.shift.{self.name}.label_set=all"
            )
