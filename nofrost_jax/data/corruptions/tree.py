"""Corrupted copies of an image folder, laid out as ImageNet-C: OUTPUT/CORRUPTION/SEVERITY/CLASS/NAME."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nofrost_jax.data import fingerprints, image_files, preprocess
from nofrost_jax.data.corruptions import JPEG_QUALITY, corrupt, describe
from nofrost_jax.data.corruptions.constants import SIDE
from nofrost_jax.data.folder import Folder
from nofrost_jax.data.preprocess import Geometry, ImageError
from nofrost_jax.data.progress import Progress
from nofrost_jax.data.stop import Stop
from nofrost_jax.errors import Preempted, UserError

SETTINGS = "corruptions.json"
_BATCH = 64  # images decoded at a time


def write(
    split: Folder,
    output: str,
    names: Iterable[str],
    severities: Iterable[int],
    geometry: Geometry,
    seed: int = 0,
    textures=None,
    say: Callable[[str], None] = print,
) -> int:
    """Writes the JPEG files (quality 85, optimized Huffman tables) that are not there yet and returns how many.

    The files hold what `corrupt` gives for the same seed and the images' places in the split. `corruptions.json` beside
    them says how and of which files they were made; a folder made otherwise is refused.

    Raises:
      Preempted: SIGTERM or Ctrl-C; what is there is whole, and the same command goes on.
      UserError: an image is unreadable or too small; the output folder holds other corruptions or cannot be written.
    """
    cells = [(name, severity) for name in names for severity in severities]
    made_with = {"seed": seed, "side": geometry.image_size, "resize": geometry.eval_resize, "images": len(split.files)}
    made_with["source_sha256"] = fingerprints.of_folder(split)
    _claim(Path(output), made_with | {"textures": describe("frost", 1, SIDE, textures=textures)["textures"]})
    progress = Progress(len(split.files) * len(cells), "corruptions", say)
    with Stop() as stop, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(split.files), _BATCH):
            indices = np.arange(start, min(start + _BATCH, len(split.files)))
            todo = {cell: _missing(split, indices, Path(output, cell[0], str(cell[1]))) for cell in cells}
            images = {}
            for (name, severity), places in todo.items():
                if stop.heard:
                    raise Preempted(f"stopped after {progress.done} files; run the same command again to go on")
                new = [i for i in places if i not in images]
                images |= zip(new, threads.map(lambda i: _load(split, i, geometry), new), strict=True)
                if places:
                    stack = np.stack([images[i] for i in places])
                    results = corrupt(
                        stack, name, severity, np.array(list(places)), seed, textures=textures, jpeg_quality=0
                    )
                    list(threads.map(_save, results, places.values()))
                progress.advance(len(indices), len(places), f", now {name} {severity}")
    return progress.done


def _target(split: Folder, index: int) -> str:
    name = split.files[index]
    return name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.JPEG"


def _missing(split: Folder, indices, root: Path) -> dict[int, Path]:
    """{index: file to write} of those images whose file is not there."""
    targets = {int(i): root / _target(split, i) for i in indices}
    return {i: target for i, target in targets.items() if not target.exists()}


def _load(split: Folder, index: int, geometry: Geometry) -> np.ndarray:
    try:
        return preprocess.eval_image(split.load(index), geometry)
    except (ImageError, OSError) as error:
        raise UserError(f"{error}; {split.where(index)}; replace or remove the file") from error


def _save(image: np.ndarray, target: Path) -> None:
    image_files.save(target, image, "JPEG", quality=JPEG_QUALITY, optimize=True)


def _claim(root: Path, made_with: dict) -> None:
    path = root / SETTINGS
    try:
        if path.exists():
            found = json.loads(path.read_text())
            other = [name for name in made_with if found.get(name) != made_with[name]]
            if other:
                told = ", ".join(f"{name} = {found.get(name)}, now {made_with[name]}" for name in other)
                raise UserError(f"the folder holds corruptions made otherwise ({told}); {root}; choose a new --output")
            return
        root.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{SETTINGS}.partial")
        partial.write_text(json.dumps(made_with, indent=2) + "\n")
        os.replace(partial, path)
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"cannot write corrupted images ({error}); {path}; choose another --output") from error
