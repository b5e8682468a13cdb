"""Runs a net over a set, as it is, corrupted and attacked, on all devices; believes no attack's own verdict.

Images come in chunks, which bound the memory. Within a chunk each attack runs on the images that it is meant for,
gathered into full batches of one shape. What is known of the chunk goes to disk at once: killed at any moment and
run again, an evaluation continues where it was. With several processes each has its own chunks.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np

from nofrost_jax import keys
from nofrost_jax.analysis.properties import NAMES, Properties
from nofrost_jax.checkpoint import tree_sha256
from nofrost_jax.data import spread
from nofrost_jax.errors import Preempted
from nofrost_jax.evaluation import chunks, flags, outcomes
from nofrost_jax.evaluation.chunks import Chunk
from nofrost_jax.evaluation.outcomes import COLUMNS, Rows, Work, blank_rows
from nofrost_jax.evaluation.predictions import Prediction
from nofrost_jax.evaluation.programs import Programs, memo_of
from nofrost_jax.evaluation.protocols import Member, Protocol
from nofrost_jax.evaluation.reporter import Reporter, cost
from nofrost_jax.evaluation.store import Store, identity

SAVE_SECONDS = 20  # least time between two saves of an unfinished attack,
SAVE_COST = 10  # and at least this many times what a save takes


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """What is evaluated: predictions on a set, the first of them clean, its properties if there are any to measure, and
    protocols of attacks on it, for any net that the `programs` run.

    The forward pass that decides is float32 at highest matmul precision and separate from the attack. Each attack
    compiles once in the Programs' life. An image's outcome depends on its own index and the seed, not on the batch,
    the device count, the chunk, or the other attacks.

    images: a set, e.g. `runs.Split`. net: plain values that say what the net is apart from its variables. save_images:
    keep the adversarial images of this many first ones.
    """

    programs: Programs
    images: Any
    net: dict
    seed: int
    predictions: tuple[Prediction, ...] = (Prediction(probe=True),)
    protocols: tuple[Protocol, ...] = ()
    save_images: int = 0
    properties: Properties | None = None

    def run(
        self,
        variables: Any,
        stop: Any,
        folder: str | os.PathLike,
        names: Collection[str] | None = None,
        progress: bool | Reporter = False,
        digest: str | None = None,
    ) -> dict[str, Any]:
        """Per-image outcomes of a net's `variables`: a dict of NumPy arrays over all images, in their order,

        {"index", "label", "correct", "nan": [N], "seconds", "randomised", "probabilities", "pixels": the first images,
        "predictions": [the same of each], "properties": {name: [N]}, "protocols": {name: `outcomes.join_protocol`}}.

        stop: the StopSignal, asked between batches (if it is not local: between chunks); raises Preempted when it
        says so. folder: where outcomes are kept and found, shared by all processes. names: only these protocols.
        progress: print how far it is; or the Reporter of several runs. digest: `tree_sha256(variables)`, if known.
        With `names`, as during training, properties are not measured.
        """
        if names is not None and self.properties:
            return dataclasses.replace(self, properties=None).run(variables, stop, folder, names, progress, digest)
        chosen = [one for one in self.protocols if names is None or one.name in names]
        store = Store.open(folder, identity(digest or tree_sha256(variables), self.net, self.images, self.seed))
        if not isinstance(progress, bool):
            return _Evaluation(self, variables, chosen, store, stop, progress).outcomes()
        share = chunks.share(self.images.count, self.images.chunk_size)
        total, measured = share * len(self.predictions), cost(self.properties.passes) if self.properties else 0
        with Reporter(total, progress, chosen, self.programs.num_classes, share, measured) as reporter:
            return _Evaluation(self, variables, chosen, store, stop, reporter).outcomes()


class _Evaluation:
    """An Evaluator at work on one set of variables; `self._known[chunk][key]` has the rows of each prediction,
    attack, and the properties."""

    def __init__(
        self,
        evaluator: Evaluator,
        variables: Any,
        protocols: list[Protocol],
        store: Store,
        stop: Any,
        reporter: Reporter,
    ):
        self._programs, self._images, self._predictions = evaluator.programs, evaluator.images, evaluator.predictions
        self._protocols, self._store, self._stop, self._reporter = protocols, store, stop, reporter
        self._properties = evaluator.properties
        self._save_images, self._size = evaluator.save_images, self._images.chunk_size
        self._key = keys.named(jax.random.key(evaluator.seed), "evaluation")
        self._programs.say = reporter.say
        self._variables = functools.cache(lambda: self._programs.ready(variables))
        self._known = {number: {} for number in range(-(-self._images.count // self._size))}

    def outcomes(self) -> dict[str, Any]:
        """Does what is not known yet, waits for what other processes do, and puts all together."""
        chunks.fill_all(self._images, self._stop, self._is_known, self._fill)
        found = []
        for prediction in self._predictions:
            answers = [outcomes.there(self._answers(number, prediction)) for number in self._known]
            found.append(outcomes.join_predictions(answers))
        joined = {protocol.name: self._join(protocol, found[0]) for protocol in self._protocols}
        measured = [outcomes.there(self._measured(number)) for number in self._known]
        properties = {name: np.concatenate([rows[name] for rows in measured]) for name in measured[0]}
        return found[0] | {"predictions": found, "properties": properties, "protocols": joined}

    def _join(self, protocol: Protocol, clean: dict) -> dict[str, Any]:
        selected = self._selected(protocol.limit, np.arange(self._images.count))
        parts = [[self._member_rows(number, member) for number in self._known] for member in protocol.members]
        return outcomes.join_protocol(protocol, clean, selected, parts, [self._kept(number) for number in self._known])

    # What is known of a chunk

    def _rows(self, number: int, key: str, required: Collection[str]) -> Rows | None:
        """The rows of one key on a chunk, from memory or disk; None where there are none."""
        known = self._known[number]
        if key not in known and (found := self._store.load(number, key, required)) is not None:
            known[key] = found
        return known.get(key)

    def _answers(self, number: int, prediction: Prediction) -> Rows | None:
        """The rows of a prediction on a chunk; None where there are none, or they keep too few images."""
        is_new = prediction.key not in self._known[number]
        rows, kept = self._rows(number, prediction.key, prediction.required), self._kept(number)
        if rows is None or len(rows["pixels"]) < kept:
            return None
        if is_new and number % jax.process_count() == jax.process_index():
            self._reporter.found(len(rows["index"]))
        return rows | {"pixels": rows["pixels"][:kept]}  # an evaluation of the same images may have kept more

    def _measured(self, number: int) -> Rows | None:
        """The properties of a chunk's images: {} where none are measured, None where they are not known yet."""
        if self._properties is None:
            return {}
        is_new = self._properties.key not in self._known[number]
        rows = self._rows(number, self._properties.key, NAMES)
        if rows is not None and is_new and number % jax.process_count() == jax.process_index():
            self._reporter.found_measured(len(rows["margin"]))
        return rows

    def _member_rows(self, number: int, member: Member) -> Rows:
        rows = self._rows(number, member.key, (*COLUMNS, "pixels", "seconds"))
        return blank_rows(len(self._places(number))) if rows is None else rows

    def _is_known(self, number: int) -> bool:
        predicted = all(self._answers(number, prediction) is not None for prediction in self._predictions)
        known = predicted and self._measured(number) is not None and next(self._missing(number), None) is None
        if not known and number % jax.process_count() != jax.process_index():
            self._known[number].clear()  # another process is at work on it: what it writes must be read
        return known

    def _places(self, number: int) -> np.ndarray:
        """Places of a chunk's images among all that are evaluated: int [n]."""
        return np.arange(number * self._size, min((number + 1) * self._size, self._images.count))

    def _kept(self, number: int) -> int:
        """How many of a chunk's first adversarial images are kept."""
        return int((self._places(number) < self._save_images).sum())

    @functools.cached_property
    def _ranks(self) -> np.ndarray:
        return self._images.ranks()

    def _selected(self, limit: int, places: np.ndarray) -> np.ndarray:
        """Whether each image is one that an attack with a `limit` is for, bool [N]: this many, evenly spread in the
        order of classes and file names. places: of the images among all that are evaluated, int [N]."""
        if not limit or limit >= self._images.count:
            return np.ones(len(places), bool)
        return np.isin(self._ranks[places], spread(self._images.count, limit))

    def _missing(self, number: int) -> Iterator[tuple[Protocol, int, np.ndarray]]:
        """(protocol, position of the member, rows to attack: bool [n]) of each piece of work on a chunk; its rows must
        be known by the time that the next one is asked for."""
        clean, places = outcomes.there(self._answers(number, self._predictions[0])), self._places(number)
        to_keep = np.arange(len(places)) < self._kept(number)
        for protocol in self._protocols:
            survivors = begin = protocol.begins(clean["correct"]) & self._selected(protocol.limit, places)
            for position, member in enumerate(protocol.members):
                rows = self._member_rows(number, member)
                unsaved = to_keep & (np.arange(len(places)) >= len(rows["pixels"]))
                lacking = (begin if protocol.individual else survivors) & (~rows["attacked"] | unsaved)
                if lacking.any():
                    yield protocol, position, lacking
                    rows = self._member_rows(number, member)
                survivors = survivors & rows["robust"]

    # The work on a chunk

    def _fill(self, chunk: Chunk) -> None:
        """Does all that a chunk lacks."""
        self._reporter.begin_chunk(len(chunk.index))
        for prediction in self._predictions:
            if self._answers(chunk.number, prediction) is None:
                self._keep(chunk, prediction.key, self._predict(chunk, prediction))
        if self._properties and self._measured(chunk.number) is None:
            self._keep(chunk, self._properties.key, self._measure(chunk, self._properties))
        for protocol, position, lacking in self._missing(chunk.number):
            member, *later = protocol.members[position:]
            for one in later:
                self._reporter.expect(one, int(lacking.sum()))
            self._keep(chunk, member.key, self._attack(chunk, protocol, member, lacking))
            self._reporter.expect(member, 0)
        members = {member for protocol in self._protocols for member in protocol.members}
        self._reporter.end_chunk({one: int(self._member_rows(chunk.number, one)["attacked"].sum()) for one in members})

    def _keep(self, chunk: Chunk, key: str, rows: Rows) -> None:
        self._known[chunk.number][key] = rows
        self._store.save(chunk.number, key, rows)

    def _check_stop(self) -> None:
        if self._stop.local:  # otherwise all processes must ask equally often
            chunks.check(self._stop)

    def _predict(self, chunk: Chunk, prediction: Prediction) -> Rows:
        """What the net answers on a chunk without an attack."""
        prediction.check_labels(chunk.label, chunk.index)
        size, parts, seconds = self._programs.batch_size, [], 0.0
        notes = dict.fromkeys(flags.NOTES, False) if prediction.probe else {}
        for first in range(0, len(chunk.index), size):
            self._check_stop()
            rows, compiled = np.arange(first, min(first + size, len(chunk.index))), self._programs.total_compile_seconds
            batch = chunk.batch(rows, size)
            if prediction.corruption is not None:
                corrupted = prediction.corruption(chunk.image[rows], chunk.index[rows], self._programs.devices)
                batch["image"][: len(rows)] = corrupted
            times = flags.PROBES if prediction.probe and chunk.number == first == 0 else 1
            start = time.perf_counter()
            answers = [self._programs.predict(self._variables(), batch, prediction.allowed) for _ in range(times)]
            compiled = self._programs.total_compile_seconds - compiled
            seconds += time.perf_counter() - start - compiled
            if times > 1:
                notes = flags.notes(np.stack([one["logits"][: len(rows)] for one in answers]), chunk.label[rows])
            parts.append({name: answers[0][name][: len(rows)] for name in ("correct", "nan")})
            self._reporter.predicted(prediction.name, len(rows), compiled)
        joined = {name: np.concatenate([part[name] for part in parts]) for name in ("correct", "nan")}
        pixels = chunk.image[: self._kept(chunk.number)]
        return {"index": chunk.index, "label": chunk.label, "pixels": pixels, "seconds": seconds} | joined | notes

    def _measure(self, chunk: Chunk, properties: Properties) -> Rows:
        """The properties of a chunk's images."""
        size, parts = self._programs.batch_size, []
        for first in range(0, len(chunk.index), size):
            self._check_stop()
            rows, compiled = np.arange(first, min(first + size, len(chunk.index))), self._programs.total_compile_seconds
            found = self._programs.measure(properties, self._variables(), chunk.batch(rows, size), self._key)
            parts.append({name: found[name][: len(rows)] for name in NAMES})
            compiled = self._programs.total_compile_seconds - compiled
            self._reporter.measured(len(rows), compiled)
        return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}

    def _attack(self, chunk: Chunk, protocol: Protocol, member: Member, lacking: np.ndarray) -> Rows:
        """A member's rows after it has attacked the images of the chunk where `lacking` holds, stage by stage."""
        stages, size = member.attack.stages(self._programs.num_classes), self._programs.batch_size
        work = self._resume(chunk, member, np.flatnonzero(lacking))
        passes = cost(member.attack.passes(self._programs.num_classes)) / stages * size
        saved_at, save_took = time.perf_counter(), 0.0
        for stage in range(stages):
            pending = np.flatnonzero(~work.done & (work.stage == stage))
            for first in range(0, len(pending), size):
                try:
                    self._check_stop()
                except Preempted:
                    self._store.save(chunk.number, member.key, work.arrays(), partial=True)
                    raise
                taken = pending[first : first + size]
                seconds = self._run_stage(chunk, protocol, member, work, taken, stage)
                self._reporter.expect(member, int((~work.done).sum()), 1 - stage / stages)
                title, survivors = f"{protocol.name}, {member.title}", int(work.rows["robust"][lacking].sum())
                self._reporter.attacked(title, stage, stages, survivors, len(taken), passes, seconds)
                now = time.perf_counter()
                if now - saved_at > max(SAVE_SECONDS, SAVE_COST * save_took):
                    self._store.save(chunk.number, member.key, work.arrays(), partial=True)
                    saved_at = time.perf_counter()
                    save_took = saved_at - now
        return work.rows

    def _resume(self, chunk: Chunk, member: Member, chosen: np.ndarray) -> Work:
        """An unfinished attack on the same images of the chunk, int [n], or one from the beginning."""
        kept, shape = self._kept(chunk.number), chunk.image.shape[1:]
        rows = outcomes.begin(self._member_rows(chunk.number, member), chosen, kept, shape)
        work = Work(rows, chosen, self._programs.blank(member.attack, (len(chosen), *shape)))
        saved = self._store.load(chunk.number, member.key, work.arrays(), partial=True)
        if saved is not None and np.array_equal(saved["chosen"], chosen) and len(saved["pixels"]) >= kept:
            work.restore(saved)
        return work

    def _run_stage(
        self, chunk: Chunk, protocol: Protocol, member: Member, work: Work, taken: np.ndarray, stage: int
    ) -> float:
        """One stage and its verdict for the images `taken` of the work; returns its seconds without compilation."""
        start, compiled = time.perf_counter(), self._programs.total_compile_seconds
        batch = chunk.batch(work.chosen[taken], self._programs.batch_size)
        memo = jax.tree.map(lambda leaf: chunks.padded(leaf[taken], self._programs.batch_size), work.memo)
        state, images = self._programs.stage(member, self._variables(), batch, self._key, stage, memo)
        verdict = self._programs.verdict(self._variables(), batch, images, protocol.ball)
        memo, done = memo_of(state), np.asarray(state.done)
        if stage + 1 < member.attack.stages(self._programs.num_classes) and not memo["carry"]:
            done = done & ~verdict["correct"]  # each stage starts from the image: what was not confirmed is tried again
        work.advance(taken, stage, done, memo)
        work.record(taken, verdict, member.attack.attacks_misclassified, images)
        seconds = time.perf_counter() - start - (self._programs.total_compile_seconds - compiled)
        work.rows["seconds"] += seconds
        return seconds
