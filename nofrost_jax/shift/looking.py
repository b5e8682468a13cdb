"""A net's answers on evaluation sets, without attacks: to the images as they are, or corrupted on the way.

Outcomes go to disk a chunk of a view at a time, in the same kind of folder as those of attacks: killed at any moment
and run again, an evaluation goes on where it was.
"""

import dataclasses
import time

import jax
import numpy as np

from nofrost_jax import corruptions, files
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import chunks, flags, runs
from nofrost_jax.evaluation.store import Store, identity

COLUMNS = ("index", "label", "correct", "nan")


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One corruption of `corruptions`, made on the fly; what an image becomes depends on these and its index.

    jpeg_quality: of the JPEG round trip at the end, 0 = none. textures: folder of frost's pictures, "" = grown ones.
    """

    name: str
    severity: int
    seed: int
    jpeg_quality: int
    textures: str = ""

    def __call__(self, images, index, devices=None):
        """uint8 [N, H, H, 3] -> the same, for int [N] indices; the bytes do not depend on the `parallel.Devices`."""
        options = {"textures": self.textures or None, "jpeg_quality": self.jpeg_quality, "devices": devices}
        return corruptions.corrupt(images, self.name, self.severity, index, self.seed, **options)

    def describe(self, side):
        """What it uses on images of `side` pixels, plain values. Raises UserError where the textures are not there."""
        return corruptions.describe(self.name, self.severity, side, textures=self.textures or None)


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """How the net sees a set. name: for the screen; allowed: bool [K], the classes that it may answer; corruption: what
    happens to the images before, or None; probe: look at the first batch five times, for the flags."""

    name: str
    allowed: np.ndarray
    corruption: Corruption | None = None
    probe: bool = False

    @property
    def key(self):
        """A file name: a hash of all that outcomes depend on beside the set and the net."""
        text = repr((np.flatnonzero(~self.allowed).tolist(), self.corruption))
        lead = "look" if self.corruption is None else f"{self.corruption.name}-{self.corruption.severity}"
        return f"{lead}-{files.sha256(text)[:10]}"

    @property
    def required(self):
        return (*COLUMNS, "seconds", *(flags.NOTES if self.probe else ()))


class Looker:
    """Looks at sets with one net. variables: on the devices; digest: their `tree_sha256`; folder: where outcomes are
    kept and found, shared by all processes; stop: the StopSignal, asked between batches; progress: a `Progress`, of
    which an image under a view is one part."""

    def __init__(self, programs, variables, digest, folder, stop, progress):
        self._programs, self._variables, self._digest = programs, variables, digest
        self._folder, self._stop, self._progress, self._last = folder, stop, progress, time.perf_counter()

    def look(self, dataset, views):
        """[outcomes] of each view of the evaluation images of a Dataset: {"index", "label", "correct", "nan": [N], in
        the split's order, "seconds"}, and `flags.NOTES` where it probes.

        Raises Preempted where `stop` says so; UserError for an image whose class a view does not allow.
        """
        images = runs.Split(dataset)
        net, seed = runs.net_of(dataset.config), dataset.config.seed
        store = Store.open(self._folder, identity(self._digest, net, images, seed))
        known = {}

        def find(number, view):
            place = number, view.key
            if place not in known and (rows := store.load(number, view.key, view.required)) is not None:
                known[place] = rows
                if number % jax.process_count() == jax.process_index():
                    self._progress.advance(len(rows["index"]), done=0)
            return known.get(place)

        def is_known(number):
            return all(find(number, view) is not None for view in views)

        def fill(chunk):
            for view in views:
                if find(chunk.number, view) is None:
                    known[chunk.number, view.key] = rows = self._chunk(chunk, view)
                    store.save(chunk.number, view.key, rows)

        chunks.fill_all(images, self._stop, is_known, fill)
        numbers = range(-(-images.count // images.chunk_size))
        return [_join([known[number, view.key] for number in numbers], view) for view in views]

    def _chunk(self, chunk, view):
        """The rows of one view of a chunk."""
        check_labels(view, chunk.label, chunk.index)
        seconds = []

        def forward(batch, rows, times):
            if self._stop.local:
                chunks.check(self._stop)
            compiled = self._programs.total_compile_seconds
            if view.corruption is not None:
                given = chunk.image[rows], chunk.index[rows]
                batch["image"][: len(rows)] = view.corruption(*given, self._programs.devices)
            answers = [self._programs.look(self._variables, batch, view.allowed) for _ in range(times)]
            compiled = self._programs.total_compile_seconds - compiled
            before, self._last = self._last, time.perf_counter()
            seconds.append(max(self._last - before - compiled, 1e-9))  # with the wait for the images
            self._progress.pause(compiled)
            self._progress.advance(len(rows), note=f", now {view.name}")
            return answers

        rows = chunks.look(chunk, self._programs.batch_size, forward, ("correct", "nan"), view.probe)
        return {"index": chunk.index, "label": chunk.label, **rows, "seconds": sum(seconds)}


def check_labels(view, labels, index):
    """Raises UserError for the first of the images, int [N] labels and indices, whose class the view does not allow."""
    outside = np.flatnonzero(~view.allowed[labels])
    if len(outside):
        raise UserError(
            f"image {index[outside[0]]} of {view.name} has label {labels[outside[0]]}, which is none of the "
            f"{view.allowed.sum()} classes of its label set; config.data.data_dir; use the set's own images, or "
            f"config.shift.{view.name}.label_set=all"
        )


def _join(parts, view):
    joined = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    joined |= {name: bool(parts[0][name]) for name in flags.NOTES if view.probe}
    return joined | {"seconds": float(sum(part["seconds"] for part in parts))}
