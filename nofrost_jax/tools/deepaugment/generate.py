"""The offline generator: a distorted copy of every image of a folder, as JPEG under the same class and name.

A complete image goes through a net, its short side resized as in the original. Images have a shuffled order; before an
image of it a new set of distorted weights is drawn with probability 0.05. Order, sets and all draws are functions of
(seed, list of files) alone, so any part of the work, on any number of hosts and in any order, makes the same files. The
work goes size by size, because each image size is a program to compile.
"""

import collections
import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from nofrost_jax import files, lock
from nofrost_jax.augment import noise2net
from nofrost_jax.augment.deepaugment import cae, distort_cae, distort_edsr, edsr, on_device, weights
from nofrost_jax.data import folder, image_files, preprocess
from nofrost_jax.data.views import SETTINGS
from nofrost_jax.errors import Preempted, UserError, refused
from nofrost_jax.keys import named
from nofrost_jax.progress import Progress, duration
from nofrost_jax.signals import Stop

REDRAW = 0.05  # probability of new weights before an image
QUALITY = 75  # of the JPEG files; a part of the augmentation
NETWORKS = {"edsr": ("edsr",), "cae": ("cae",), "both": ("edsr", "cae"), "noise2net": ("noise2net",)}
SIDE = {"edsr": 512, "cae": 512, "noise2net": 256}  # short side of the result; Noise2Net does not enlarge
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)  # of ImageNet
MOST_SHAPES = 200  # compiled programs, one for each image size, that are kept
BLOCK = 100_000  # images that are sorted by size at once


@dataclasses.dataclass(frozen=True)
class Distortion:
    """One network on one folder. files: paths below `root`, CLASS/NAME, in the order of the index. params: {} for
    Noise2Net. label: the text of --weights. side: short side of the result, 0 = the network's own."""

    network: str
    root: str
    files: tuple[str, ...]
    output: str
    params: dict
    label: str
    seed: int = 0
    side: int = 0

    def original(self, index: int) -> str:
        """Path of an image."""
        return os.path.join(self.root, self.files[index])

    def target(self, index: int) -> str:
        """Path of its distorted version."""
        return os.path.join(self.output, self.files[index])


def list_files(source: str, split: str) -> tuple[str, tuple[str, ...]]:
    """(folder, files CLASS/NAME) of `folder:PATH` or PATH. Raises UserError for a missing folder or empty class."""
    if source in ("digits", "fake") or source.startswith("tfds:"):
        raise UserError(
            f"the generator reads image files, which {source} does not have; --source; give folder:PATH, or distort in "
            "the training step (config.deepaugment.mode = noise2net or on_device)"
        )
    path = os.path.abspath(os.path.expanduser(source.removeprefix("folder:")))
    found = folder.open_source(path, "", split, split).train
    assert isinstance(found, folder.Folder)
    return found.root, tuple(found.files)


def schedule(n: int, seed: int, shard: tuple[int, int] = (0, 1), limit: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(index, weight set), int [m] each, in the order of the work, for shard (i, number of shards) of the first `limit`
    images."""
    rng = np.random.default_rng([seed, n])
    order = rng.permutation(n)
    sets = np.cumsum(rng.random(n) < REDRAW)
    total = min(limit or n, n)
    part = slice(shard[0] * total // shard[1], (shard[0] + 1) * total // shard[1])
    return order[part], sets[part]


@functools.partial(jax.jit, static_argnums=0)
def edited(network: str, params: dict, key: jax.Array) -> dict:
    """A set of distorted weights."""
    return params if network == "noise2net" else on_device.distort_weights(network, params, key)


@functools.partial(jax.jit, static_argnums=0)
def distorted(network: str, params: dict, pixels: jax.Array, key: jax.Array) -> jax.Array:
    """One image uint8 [h, w, 3], already resized for the network -> uint8, its distorted version."""
    images = pixels[None].astype(jnp.float32)
    if network == "noise2net":
        normalized = (images / 255 - MEAN) / STD
        return _rounded((noise2net.apply(normalized, key[None]) * STD + MEAN) * 255)
    height, width = pixels.shape[:2]
    if network == "edsr":
        signal = distort_edsr.draw_signal(key, height, width)
        return _rounded(edsr.forward(params, images, jax.tree.map(lambda x: x[None], signal)))
    latent = distort_cae.draw_latent(key, height // 2 // 2, width // 2 // 2)
    outputs = cae.forward(params, images / 255, jax.tree.map(lambda x: x[None], latent))
    return (jnp.clip(outputs[0], 0, 1) * 255).astype(jnp.uint8)  # truncated, as in the original


def _rounded(outputs: jax.Array) -> jax.Array:
    return jnp.round(jnp.clip(outputs[0], 0, 255)).astype(jnp.uint8)


def load(path: str, network: str, side: int = 0) -> np.ndarray:
    """The image as the network takes it, uint8 [h, w, 3]. Raises UserError that names an unreadable file."""
    try:
        with open(path, "rb") as file:
            picture = preprocess.decode(file.read())
    except (OSError, preprocess.ImageError) as error:
        # Without the file all others would have other indices, and so other distortions.
        raise UserError(f"{error}; {path}; put a readable image in its place, then run again") from error
    height, width = input_shape(*picture.size, network, side)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def input_shape(width: int, height: int, network: str, side: int = 0) -> tuple[int, int]:
    """(height, width) of an image as the network takes it."""
    side = side or SIDE[network]
    short = {"edsr": max(1, side // edsr.SCALE), "cae": side, "noise2net": min(side, width, height)}[network]
    return preprocess.resized_shape(height, width, short)


def save(path: str, pixels: np.ndarray) -> None:
    """Writes the JPEG. Raises UserError, see `image_files.save`."""
    image_files.save(path, pixels, "JPEG", quality=QUALITY)


def generate(
    work: Distortion, shard: tuple[int, int] = (0, 1), limit: int = 0, workers: int = 4, block: int = BLOCK
) -> int:
    """Makes the missing images; returns their number.

    Each image size among `block` of them compiles once; the files are the same for every `block`. Raises Preempted
    after a signal: no file is incomplete, and the same command continues. Raises UserError for an unreadable image, a
    result that cannot be written, and an output made with other settings.
    """
    check_settings(work)
    own = os.path.join(os.path.dirname(work.output), f"shard_{shard[0]}_of_{shard[1]}.lock")
    with lock.hold(own, "a generator"):
        return _generate(work, shard, limit, workers, block)


def _generate(work: Distortion, shard: tuple[int, int], limit: int, workers: int, block: int) -> int:
    indices, sets = schedule(len(work.files), work.seed, shard, limit)
    waiting = [(int(i), int(s)) for i, s in zip(indices, sets, strict=True) if not os.path.exists(work.target(i))]
    if len(waiting) < len(indices):
        print(f"{work.network}: {len(indices) - len(waiting)} of {len(indices)} images exist already", flush=True)
    root_key, params, current, shapes, writes = jax.random.key(work.seed), {}, None, set(), collections.deque()
    if waiting:
        print(f"{work.network}: {len(waiting)} images to make, size by size; each size compiles first", flush=True)
    progress = Progress(work.network, len(waiting), "files")
    with progress, Stop() as stop, ThreadPoolExecutor(workers) as pool:
        for (index, number), pixels in _ahead(pool, work, _by_size(pool, work, waiting, block, stop), 2 * workers):
            if stop.heard:
                break
            if number != current:  # costs little compared with a forward pass
                current, key = number, jax.random.fold_in(named(root_key, "deepaugment/weights"), number)
                params = edited(work.network, work.params, key)
            if len(shapes) == MOST_SHAPES and pixels.shape not in shapes:
                jax.clear_caches()  # each compiled program uses memory maps, whose number is limited
                shapes.clear()
            shapes.add(pixels.shape)
            key = jax.random.fold_in(named(root_key, "deepaugment/image"), index)
            made = np.asarray(distorted(work.network, params, pixels, key))
            writes.append(pool.submit(save, work.target(index), made))
            while len(writes) > 2 * workers:
                writes.popleft().result()
            progress.advance()
        for write in writes:
            write.result()
    if stop.heard:
        done = f"{progress.done} of {len(waiting)} images"
        raise Preempted(f"stopped by {stop.name} after {done}; run the same command again to continue")
    print(f"{work.network}: {progress.done} images made in {duration(progress.seconds())}", flush=True)
    return progress.done


def _by_size(
    pool: ThreadPoolExecutor, work: Distortion, waiting: list[tuple[int, int]], block: int, stop: Stop
) -> Iterator[tuple[int, int]]:
    """The waiting (index, set), sorted by (size, set) within each block; unsorted after a signal."""

    def shaped(item: tuple[int, int]) -> tuple[int, int]:
        size = None if stop.heard else preprocess.size_in_header(work.original(item[0]))
        return input_shape(*size, work.network, work.side) if size else (0, 0)  # `load` names an unreadable file

    for start in range(0, len(waiting), block):
        part = waiting[start : start + block]
        shapes = pool.map(shaped, part)
        yield from (item for _, item in sorted(zip(shapes, part, strict=True), key=lambda pair: (pair[0], pair[1][1])))


def _ahead(
    pool: ThreadPoolExecutor, work: Distortion, waiting: Iterator[tuple[int, int]], depth: int
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """((index, set), pixels) of the waiting images, `depth` of them decoded ahead in threads."""
    queue = collections.deque()
    try:
        for item in itertools.chain(waiting, [None] * depth):
            queue.append((item, item and pool.submit(load, work.original(item[0]), work.network, work.side)))
            if len(queue) > depth:
                first, pending = queue.popleft()
                if first:
                    yield first, pending.result()
    finally:
        for _, pending in queue:
            if pending:
                pending.cancel()


def check_settings(work: Distortion) -> None:
    """Writes what the images of an output are made with. Raises UserError if it has images made with other settings."""
    settings = {
        "network": work.network,
        "weights": work.label,
        "weights_sha256": weights.digest(work.params) if work.params else "",
        "seed": work.seed,
        "side": work.side or SIDE[work.network],
        "quality": QUALITY,
        "images": len(work.files),
        "files_sha256": files.sha256("\n".join(work.files)),
    }
    path = os.path.join(os.path.dirname(work.output), SETTINGS)
    try:
        os.makedirs(work.output, exist_ok=True)
        if files.create(path, json.dumps(settings, indent=1)):
            return
        old = files.read_json(path)
        # The label is only the name of the weights; the digest identifies them.
        changed = [name for name in settings if name != "weights" and old.get(name) != settings[name]]
        if changed:
            raise UserError(
                f"this output has images made with another {', '.join(changed)}; {path}; "
                "choose a new --output, or give the old settings"
            )
    except OSError as error:
        raise refused(f"--output={os.path.dirname(path)} cannot be used", error, "choose another folder") from error
