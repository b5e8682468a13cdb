"""Corrupted copies of a split, laid out as ImageNet-C: OUTPUT/CORRUPTION/SEVERITY/CLASS/NAME."""

import functools
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nofrost_jax import files, lock
from nofrost_jax.corruptions import JPEG_QUALITY, corrupt, settings
from nofrost_jax.corruptions.constants import SETTINGS, SIDE
from nofrost_jax.data import image_files
from nofrost_jax.data.preprocess import ImageError
from nofrost_jax.data.sources import in_threads
from nofrost_jax.errors import Preempted, UserError, refused
from nofrost_jax.fields import check_seed
from nofrost_jax.progress import Progress
from nofrost_jax.signals import Stop
from nofrost_jax.tools.corrupt.originals import Originals

_CHOOSE = "choose a new --output"
EXTENSIONS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}
_BATCH = 64  # images decoded at a time
_AGAIN = "run the same command again to continue"


def write(
    originals: Originals,
    output: str,
    names: Iterable[str],
    severities: Iterable[int],
    seed: int = 0,
    textures: str | None = None,
    jpeg_quality: int = JPEG_QUALITY,
) -> int:
    """Writes the missing files and returns their number: JPEG (optimized Huffman tables), or lossless PNG if
    `jpeg_quality` is 0.

    The files are what `corrupt` returns for the same seed, quality and indices in the split. `corruptions.json` next to
    them says how and from which images they were made; a folder with other settings is refused. It is written first,
    after a check of all images: replacing a bad one later would make all earlier files worthless.

    Raises Preempted after a signal: no file is incomplete, and the same command continues. Raises UserError if an image
    is unreadable or too small, or the output folder has other files or cannot be written.
    """
    check_seed("seed", seed)
    cells = [(name, severity) for name in names for severity in severities]
    count, made_with = originals.count, _settings(originals, seed, textures, jpeg_quality)
    alone = lock.hold(lock.place(output), "a writer of corruptions")
    with alone, Stop() as stop, ThreadPoolExecutor(os.cpu_count()) as threads:
        if not _is_claimed(Path(output), made_with):
            _check_images(originals, stop)
            _claim(Path(output), made_with | {"source": originals.title})
        with Progress("corruptions", count * len(cells), "files") as progress:
            for start in range(0, count, _BATCH):
                indices = range(start, min(start + _BATCH, count))
                images = {}
                for name, severity in cells:
                    if stop.heard:
                        raise Preempted(f"stopped by {stop.name} after {progress.done} files; {_AGAIN}")
                    places = _missing(originals, indices, Path(output, name, str(severity)), jpeg_quality)
                    new = [i for i in places if i not in images]
                    images |= zip(new, _loaded(originals, new, threads), strict=True)
                    if places:
                        stack, index = np.stack([images[i] for i in places]), np.array(list(places))
                        results = corrupt(stack, name, severity, index, seed, textures=textures, jpeg_quality=0)
                        save = functools.partial(_save, jpeg_quality=jpeg_quality)
                        list(threads.map(save, places.values(), results))
                    progress.advance(len(indices), len(places), f", now {name} {severity}")
    return progress.done


def _settings(originals: Originals, seed: int, textures: str | None, jpeg_quality: int) -> dict:
    """What the files depend on."""
    return {
        "seed": seed,
        "side": originals.geometry.image_size,
        "resize": originals.geometry.eval_resize,
        "images": originals.count,
        "source_sha256": originals.digest,
        "jpeg_quality": jpeg_quality,
        "textures": settings("frost", 1, SIDE, textures=textures)["textures"],
    }


def _check_images(originals: Originals, stop: Stop) -> None:
    """Raises UserError if any image cannot be used, Preempted after a signal."""
    bad, count = [], originals.count
    for problem in in_threads(originals.problem, count, "checking", os.cpu_count() or 1, 256):
        bad += [problem] if problem else []
        if stop.heard:
            raise Preempted(f"stopped by {stop.name} before the first file; {_AGAIN}")
    if bad:
        those = "it" if len(bad) == 1 else "them (python -m nofrost_jax.tools.verify names all unreadable ones)"
        raise UserError(f"{bad[0]}; {len(bad):,} of {count:,} images cannot be used; replace or remove {those}")


def _loaded(originals: Originals, indices: list[int], threads: ThreadPoolExecutor) -> list[np.ndarray]:
    """The images, which were readable when this tree was begun. Raises UserError that names an unreadable one."""
    try:
        return list(threads.map(originals.load, indices))
    except ImageError as error:
        raise UserError(
            f"{error}; restore it to continue; if you replace or remove it, also choose a new --output"
        ) from error


def _missing(originals: Originals, indices: Iterable[int], root: Path, jpeg_quality: int) -> dict[int, Path]:
    """{index: file to write} of the images whose file is missing."""
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


def _is_claimed(root: Path, made_with: dict) -> bool:
    """Whether a folder has files of these settings, not if it is empty or missing. Raises UserError if its files have
    other settings or are not of this command."""
    path = root / SETTINGS
    try:
        if not path.exists():
            there = os.listdir(root) if root.exists() else []
            if others := [name for name in there if name != "lock" and not files.is_temporary(name)]:
                raise UserError(f"{root} has files that this command did not write ({min(others)}); {_CHOOSE}")
            return False
        found = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read the settings of this folder ({error}); {path}; {_CHOOSE}") from error
    differing = [name for name in made_with if found.get(name) != made_with[name]]
    if differing:
        told = ", ".join(f"{name} = {found.get(name)}, now {made_with[name]}" for name in differing)
        raise UserError(f"the folder has corruptions with other settings ({told}); {root}; {_CHOOSE}")
    return True


def _claim(root: Path, settings: dict) -> None:
    """Writes the settings of a folder's files, and the source's name."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        files.write_json(root / SETTINGS, settings)
    except OSError as error:
        raise refused(f"cannot write corrupted images to {root}", error, "choose another --output") from error
