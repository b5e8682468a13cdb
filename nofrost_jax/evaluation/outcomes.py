"""Rows: what became of each image under one attack, and how those of chunks are put together. NumPy only."""

from typing import Any

import numpy as np

from nofrost_jax.evaluation import flags
from nofrost_jax.evaluation.protocols import Protocol

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


def blank_rows(count: int) -> dict[str, np.ndarray]:
    """COLUMNS of `count` images that were not attacked; the time spent; adversarial images saved of the first ones."""
    rows = {name: np.full(count, name in _TRUE, dtype) for name, dtype in COLUMNS.items()}
    return rows | {"seconds": np.float64(0), "pixels": np.zeros((0,), np.float32)}


def begin(rows: dict, chosen: np.ndarray, to_save: int, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A copy of `rows` in which the images at `chosen`, int [n], were not attacked yet, with room for the adversarial
    images, of `shape`, of the first `to_save`."""
    rows = {column: np.array(values) for column, values in rows.items()}
    for column, values in blank_rows(len(chosen)).items():
        if column in COLUMNS:
            rows[column][chosen] = values
    rows["pixels"] = _padded(rows["pixels"], to_save, shape)
    return rows


def record(rows: dict, where: np.ndarray, verdict: dict, always_moves: bool, images: Any) -> None:
    """Writes a verdict on adversarial `images` (device array) of the rows at `where` into `rows`. What was fooled by an
    earlier stage stays so, with its image. always_moves: whether the attack changes images without claiming success."""
    robust = verdict["correct"]
    if not always_moves:
        rows["unconfirmed"][where] |= robust & (verdict["linf_255"] > 0)
    new = rows["robust"][where]
    now = where[new]
    rows["attacked"][now] = True
    rows["robust"][now] = robust[new]
    rows["robust_uint8"][now] = verdict["correct_uint8"][new]
    for name in ("nan", "in_range", "linf_255", "l2_255"):
        rows[name][now] = verdict[name][new]
    if len(rows["pixels"]) and len(now) and now[0] < len(rows["pixels"]):
        saved = now < len(rows["pixels"])
        rows["pixels"][now[saved]] = np.asarray(images)[: len(where)][new][saved]


def join_predictions(parts: list[dict]) -> dict[str, Any]:
    """The rows of a prediction on each chunk, as one."""
    names = ("index", "label", "correct", "nan", "pixels")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    joined |= {name: bool(parts[0][name]) for name in flags.NOTES if name in parts[0]}
    return joined | {"seconds": float(sum(part["seconds"] for part in parts))}


def join_protocol(
    protocol: Protocol, clean: dict, selected: np.ndarray, parts: list[list[dict]], saved: list[int]
) -> dict[str, Any]:
    """The outcome of a protocol: {"selected", "robust", "robust_uint8": [N], "members": [{column of COLUMNS: [N],
    "pixels", "survivors": [N], "seconds"}]}.

    clean: of `join_predictions`. selected: bool [N], the images that the protocol is for. parts: [[rows of each
    chunk] of each member]. saved: how many adversarial images each chunk keeps.
    """
    survivors = uint8 = met = protocol.begins(clean["correct"]) & selected
    members = []
    for chunks in parts:
        rows = {name: np.concatenate([rows[name] for rows in chunks]) for name in COLUMNS}
        rows["attacked"] &= met if protocol.individual else survivors  # other protocols may have run it on more images
        survivors, uint8 = survivors & rows["robust"], uint8 & (rows["robust_uint8"] | ~rows["attacked"])
        shape = clean["pixels"].shape[1:]
        pixels = [_padded(rows["pixels"], count, shape)[:count] for rows, count in zip(chunks, saved, strict=True)]
        seconds = float(sum(rows["seconds"] for rows in chunks))
        members.append(rows | {"pixels": np.concatenate(pixels), "seconds": seconds, "survivors": survivors})
    return {"selected": selected, "robust": survivors, "robust_uint8": uint8, "members": members}


def _padded(pixels, count, shape):
    """`pixels` [n, *shape], or empty, filled up with zeros to `count` images."""
    pixels = pixels.reshape(-1, *shape)
    return np.concatenate([pixels, np.zeros((max(count - len(pixels), 0), *shape), np.float32)])
