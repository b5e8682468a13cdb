"""Rows: what became of each image under one attack, and how those of chunks are put together.

NumPy only, except for the memo that an attack keeps between its stages.
"""

from typing import Any

import jax
import numpy as np

from nofrost_jax.evaluation import flags
from nofrost_jax.evaluation.protocols import Protocol

Rows = dict[str, Any]  # {column: array [N]}, "seconds", a prediction's `flags.NOTES`
COLUMNS = {  # per image: outcomes of one attack
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


def blank_rows(count: int) -> Rows:
    """COLUMNS of `count` images that were not attacked; the time spent; adversarial images saved of the first ones."""
    rows = {name: np.full(count, name in _TRUE, dtype) for name, dtype in COLUMNS.items()}
    return rows | {"seconds": np.float64(0), "pixels": np.zeros((0,), np.float32)}


def there(rows: Rows | None) -> Rows:
    """Rows that must be known by now."""
    assert rows is not None
    return rows


def begin(rows: Rows, chosen: np.ndarray, kept: int, shape: tuple[int, ...]) -> Rows:
    """A copy of `rows` in which the images at `chosen`, int [n], were not attacked yet, with room for the adversarial
    images, of `shape`, of the first `kept`."""
    rows, blank = {column: np.array(values) for column, values in rows.items()}, blank_rows(len(chosen))
    for column in COLUMNS:
        rows[column][chosen] = blank[column]
    return rows | {"pixels": _padded(rows["pixels"], kept, shape)}


class Work:
    """An unfinished attack on the images `chosen` of a chunk, int [n].

    rows: of the whole chunk. memo: what the attack keeps of the images between stages. done: bool [n]. stage: the next
    one of each image, int [n].
    """

    def __init__(self, rows: Rows, chosen: np.ndarray, memo: dict[str, Any]):
        self.rows, self.chosen, self.memo = rows, chosen, memo
        self.done, self.stage = np.zeros(len(chosen), bool), np.zeros(len(chosen), int)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a file."""
        leaves = {f"memo_{number:03d}": leaf for number, leaf in enumerate(jax.tree.leaves(self.memo))}
        return self.rows | {"chosen": self.chosen, "done": self.done, "stage": self.stage} | leaves

    def restore(self, saved: dict[str, np.ndarray]) -> None:
        """Continues from `arrays` of the same attack."""
        leaves = [saved[name] for name in self.arrays() if name.startswith("memo_")]
        self.memo = jax.tree.unflatten(jax.tree.structure(self.memo), leaves)
        self.rows = {name: saved[name] for name in self.rows}
        self.done, self.stage = saved["done"], saved["stage"]

    def advance(self, taken: np.ndarray, stage: int, done: np.ndarray, memo: dict[str, Any]) -> None:
        """The images `taken` of `chosen`, int [n], have had a stage; done: bool, and memo: with padding at the end."""
        count, where = len(taken), self.chosen[taken]
        self.done[taken], self.stage[taken] = done[:count], stage + 1
        for kept, new in zip(jax.tree.leaves(self.memo), jax.tree.leaves(memo), strict=True):
            kept[taken] = new[:count]
        for name in ("forwards", "backwards", "zero_gradient"):
            self.rows[name][where] = memo[name][:count]

    def record(self, taken: np.ndarray, verdict: dict, always_moves: bool, images: Any) -> None:
        """Writes a verdict on the adversarial `images` (device array) of those `taken`, with padding at the end. What
        was fooled by an earlier stage stays so, with its image. always_moves: whether the attack changes images without
        claiming success."""
        rows, where, robust = self.rows, self.chosen[taken], verdict["correct"][: len(taken)]
        if not always_moves:
            rows["unconfirmed"][where] |= robust & (verdict["linf_255"][: len(taken)] > 0)
        new = np.flatnonzero(rows["robust"][where])
        now = where[new]
        rows["attacked"][now], rows["robust"][now] = True, robust[new]
        rows["robust_uint8"][now] = verdict["correct_uint8"][new]
        for name in ("nan", "in_range", "linf_255", "l2_255"):
            rows[name][now] = verdict[name][new]
        kept = now < len(rows["pixels"])
        if kept.any():
            rows["pixels"][now[kept]] = np.asarray(images)[new[kept]]


def join_predictions(parts: list[Rows]) -> dict[str, Any]:
    """The rows of a prediction on each chunk, as one."""
    names = ("index", "label", "correct", "nan", "pixels")
    joined: Rows = {name: np.concatenate([part[name] for part in parts]) for name in names}
    joined |= {name: bool(parts[0][name]) for name in flags.NOTES if name in parts[0]}
    return joined | {"seconds": float(sum(part["seconds"] for part in parts))}


def join_protocol(
    protocol: Protocol, clean: dict, selected: np.ndarray, parts: list[list[Rows]], kept: list[int]
) -> dict[str, Any]:
    """The outcome of a protocol: {"selected", "robust", "robust_uint8": [N], "members": [{column of COLUMNS: [N],
    "pixels", "survivors": [N], "seconds"}]}.

    clean: of `join_predictions`. selected: bool [N], the images that the protocol is for. parts: [[rows of each chunk]
    of each member]. kept: how many adversarial images of each chunk.
    """
    survivors = uint8 = met = protocol.begins(clean["correct"]) & selected
    members = []
    for chunks in parts:
        rows = {name: np.concatenate([rows[name] for rows in chunks]) for name in COLUMNS}
        rows["attacked"] &= met if protocol.individual else survivors  # others may have run it on more images
        survivors, uint8 = survivors & rows["robust"], uint8 & (rows["robust_uint8"] | ~rows["attacked"])
        shape = clean["pixels"].shape[1:]
        pixels = [_padded(rows["pixels"], count, shape)[:count] for rows, count in zip(chunks, kept, strict=True)]
        seconds = float(sum(rows["seconds"] for rows in chunks))
        members.append(rows | {"pixels": np.concatenate(pixels), "seconds": seconds, "survivors": survivors})
    return {"selected": selected, "robust": survivors, "robust_uint8": uint8, "members": members}


def _padded(pixels, count, shape):
    """`pixels` [n, *shape], or empty, filled up with zeros to `count` images."""
    pixels = pixels.reshape(-1, *shape)
    return np.concatenate([pixels, np.zeros((max(count - len(pixels), 0), *shape), np.float32)])
