"""Corrupted copies of a split, laid out as ImageNet-C: OUTPUT/CORRUPTION/SEVERITY/CLASS/NAME."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nofrost_jax.data import image_files
from nofrost_jax.data.corruptions import JPEG_QUALITY, check_seed, corrupt, describe
from nofrost_jax.data.corruptions.constants import SIDE
from nofrost_jax.data.corruptions.originals import Originals
from nofrost_jax.data.progress import Progress
from nofrost_jax.data.stop import Stop
from nofrost_jax.errors import Preempted, UserError

SETTINGS = "corruptions.json"
EXTENSIONS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}
_BATCH = 64  # images decoded at a time


def write(
    originals: Originals,
    output: str,
    names: Iterable[str],
    severities: Iterable[int],
    seed: int = 0,
    textures=None,
    jpeg_quality: int = JPEG_QUALITY,
    say: Callable[[str], None] = print,
) -> int:
    """Writes the files that are not there yet and returns how many: JPEG (optimized Huffman tables), or for
    `jpeg_quality` 0 PNG, which loses nothing.

    The files hold what `corrupt` gives for the same seed, quality and the images' places in the split.
    `corruptions.json` beside them says how and of which images they were made; a folder made otherwise is refused.

    Raises:
      Preempted: SIGTERM or Ctrl-C; what is there is whole, and the same command goes on.
      UserError: an image is unreadable or too small; the output folder holds other corruptions or cannot be written.
    """
    check_seed(seed)
    cells = [(name, severity) for name in names for severity in severities]
    geometry, count = originals.geometry, originals.count
    made_with = {"seed": seed, "side": geometry.image_size, "resize": geometry.eval_resize, "images": count}
    made_with |= {"source_sha256": originals.digest, "jpeg_quality": jpeg_quality}
    made_with["textures"] = describe("frost", 1, SIDE, textures=textures)["textures"]
    _claim(Path(output), made_with, originals.title)
    progress = Progress(count * len(cells), "corruptions", say)
    with Stop() as stop, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, count, _BATCH):
            indices = range(start, min(start + _BATCH, count))
            images = {}
            for name, severity in cells:
                if stop.heard:
                    raise Preempted(f"stopped after {progress.done} files; run the same command again to go on")
                places = _missing(originals, indices, Path(output, name, str(severity)), jpeg_quality)
                new = [i for i in places if i not in images]
                images |= zip(new, threads.map(originals.load, new), strict=True)
                if places:
                    stack, index = np.stack([images[i] for i in places]), np.array(list(places))
                    results = corrupt(stack, name, severity, index, seed, textures=textures, jpeg_quality=0)
                    list(threads.map(lambda *pair: _save(*pair, jpeg_quality), places.values(), results))
                progress.advance(len(indices), len(places), f", now {name} {severity}")
    return progress.done


def _missing(originals: Originals, indices: Iterable[int], root: Path, jpeg_quality: int) -> dict[int, Path]:
    """{index: file to write} of those images whose file is not there."""
    targets = {index: root / _file_name(originals.name(index), jpeg_quality) for index in indices}
    return {index: target for index, target in targets.items() if not target.exists()}


def _file_name(name: str, jpeg_quality: int) -> str:
    kind = _kind(jpeg_quality)
    return name if name.lower().endswith(EXTENSIONS[kind]) else f"{name}.{kind}"


def _kind(jpeg_quality: int) -> str:
    return "JPEG" if jpeg_quality else "PNG"


def _save(target: Path, image: np.ndarray, jpeg_quality: int) -> None:
    options = {"quality": jpeg_quality, "optimize": True} if jpeg_quality else {}
    image_files.save(target, image, _kind(jpeg_quality), **options)


def _claim(root: Path, made_with: dict, source: str) -> None:
    """Notes what the files of a folder are made with, and of what source, which may be called otherwise next time."""
    path = root / SETTINGS
    try:
        if path.exists():
            found = {"jpeg_quality": JPEG_QUALITY} | json.loads(path.read_text())  # there was no other quality once
            other = [name for name in made_with if found.get(name) != made_with[name]]
            if other:
                told = ", ".join(f"{name} = {found.get(name)}, now {made_with[name]}" for name in other)
                raise UserError(f"the folder holds corruptions made otherwise ({told}); {root}; choose a new --output")
            return
        root.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{SETTINGS}.partial")
        partial.write_text(json.dumps(made_with | {"source": source}, indent=2) + "\n")
        os.replace(partial, path)
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"cannot write corrupted images ({error}); {path}; choose another --output") from error
