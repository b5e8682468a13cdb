"""One attack on one chunk of images, batch after batch: its rows, and where it stands. NumPy only.

The batches follow from the outcomes alone, not from when the work was interrupted: an image that is attacked a second
time after a kill has the same neighbours again.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

COLUMNS = {  # per image of a chunk: outcomes of one attack
    "attacked": bool,
    "robust": bool,  # the verdict; images not attacked: True, this attack says nothing against them
    "robust_uint8": bool,
    "nan": bool,
    "in_range": bool,
    "zero_gradient": bool,
    "unconfirmed": bool,  # the attack claimed success, the verdict did not find it
    "linf_255": np.float32,
    "l2_255": np.float32,
    "forwards": np.int32,
    "backwards": np.int32,
}
_TRUE = ("robust", "robust_uint8", "in_range")


def blank_rows(count):
    """COLUMNS of `count` images that were not attacked; the time spent; adversarial images saved of the first ones."""
    rows = {name: np.full(count, name in _TRUE, dtype) for name, dtype in COLUMNS.items()}
    return rows | {"seconds": np.float64(0), "pixels": np.zeros((0,), np.float32)}


@dataclasses.dataclass
class Work:
    """`rows` of the chunk are attacked, `pending` positions in `rows` at `stage`, of which `position` are through.

    memo: what the attack keeps between stages, arrays with a row for each of `rows`, or None before the first stage.
    """

    rows: np.ndarray
    pending: np.ndarray
    done: np.ndarray
    stage: int = 0
    position: int = 0
    memo: Any = None

    @classmethod
    def begin(cls, rows):
        return cls(rows, np.arange(len(rows)), np.zeros(len(rows), bool))

    def take(self, size):
        """Positions in `rows` of the next batch of this stage, at most `size`; empty at its end."""
        taken = self.pending[self.position : self.position + size]
        self.position += len(taken)
        return taken

    def next_stage(self):
        self.pending, self.position, self.stage = np.flatnonzero(~self.done), 0, self.stage + 1

    def memo_of(self, taken, blank):
        """The memo of `taken`, padded to the batch of `blank` with its zeros; None at the first stage."""
        if self.stage == 0:
            return None

        def pad(values, zeros):
            padded = zeros.copy()
            padded[: len(taken)] = values[taken]
            return padded

        return jax.tree.map(pad, self.memo, blank)

    def remember(self, taken, memo):
        """Stores the first rows of a batch's memo as those of `taken`."""
        if self.memo is None:
            self.memo = jax.tree.map(lambda leaf: np.zeros((len(self.rows), *leaf.shape[1:]), leaf.dtype), memo)
        for stored, new in zip(jax.tree.leaves(self.memo), jax.tree.leaves(memo), strict=True):
            stored[taken] = np.asarray(new)[: len(taken)]

    def arrays(self):
        """This as arrays for a file."""
        leaves = {f"memo_{number:03d}": leaf for number, leaf in enumerate(jax.tree.leaves(self.memo))}
        scalars = {"stage": np.int64(self.stage), "position": np.int64(self.position)}
        return {"rows": self.rows, "pending": self.pending, "done": self.done, **scalars, **leaves}

    @classmethod
    def from_arrays(cls, arrays, blank):
        """The inverse of `arrays`; blank: a memo, for its structure."""
        leaves = [arrays[name] for name in sorted(arrays) if name.startswith("memo_")]
        memo = jax.tree.unflatten(jax.tree.structure(blank), leaves) if leaves else None
        stage, position = int(arrays["stage"]), int(arrays["position"])
        return cls(arrays["rows"], arrays["pending"], arrays["done"], stage, position, memo)
