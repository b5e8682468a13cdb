"""Runs a net over a set, as it is, corrupted and attacked, on all devices; believes no attack's own verdict.

Images come in chunks, which bound the memory. Within a chunk each attack runs on the images that it is meant for,
gathered into full batches of one shape, and what is known of the chunk goes to disk at once: killed at any moment and
run again, an evaluation goes on where it was. With several processes each has chunks of its own.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from nofrost_jax import keys
from nofrost_jax.checkpoint import tree_sha256
from nofrost_jax.data import spread
from nofrost_jax.evaluation import chunks, flags, outcomes
from nofrost_jax.evaluation.outcomes import COLUMNS, blank_rows
from nofrost_jax.evaluation.predictions import Prediction
from nofrost_jax.evaluation.programs import Programs, memo_of
from nofrost_jax.evaluation.reporter import Reporter, cost
from nofrost_jax.evaluation.store import Store, identity

SAVE_SECONDS = 20  # least time between two saves of an unfinished attack,
SAVE_COST = 10  # and at least so many times what a save takes


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """What is evaluated: a net's predictions on a set, the first of them clean, and `protocols` of attacks on it, of
    whatever net the `programs` run.

    The forward that decides is float32 at highest matmul precision and separate from the attack. Each attack compiles
    once in the Programs' life. An image's outcome depends on its own index and the seed, not on the batch, the
    device count, the chunk, or the other attacks of the suite.

    images: a set, e.g. `runs.Split`. net: plain values that say what the net is beside its variables. save_images: keep
    the adversarial images of so many first ones.
    """

    programs: Programs
    images: Any
    net: dict
    seed: int
    predictions: tuple[Prediction, ...] = (Prediction(probe=True),)
    protocols: tuple = ()
    save_images: int = 0

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
        "predictions": [the same of each], "protocols": {name: `outcomes.join_protocol`}}.

        stop: the StopSignal, asked between batches (if it is not local: between chunks); raises Preempted when it
        says so. folder: where outcomes are kept and found, shared by all processes. names: only these protocols.
        progress: print how far it is; or the Reporter of several runs. digest: `tree_sha256(variables)`, if known.
        """
        protocols = [protocol for protocol in self.protocols if names is None or protocol.name in names]
        store = Store.open(folder, identity(digest or tree_sha256(variables), self.net, self.images, self.seed))
        if not isinstance(progress, bool):
            return _Run(self, variables, protocols, store, stop, progress).outcomes()
        share = chunks.share(self.images.count, self.images.chunk_size)
        with Reporter(share * len(self.predictions), progress, protocols, self.programs.num_classes, share) as reporter:
            return _Run(self, variables, protocols, store, stop, reporter).outcomes()


class _Run:
    """One evaluation of one set of variables; `self._known[chunk][name]` has the rows of each prediction and attack."""

    def __init__(self, evaluator, variables, protocols, store, stop, reporter):
        self._programs, self._images, self._predictions = evaluator.programs, evaluator.images, evaluator.predictions
        self._protocols, self._store, self._stop, self._reporter = protocols, store, stop, reporter
        self._save_images, self._size = evaluator.save_images, self._images.chunk_size
        self._variables = self._programs.devices.replicate(variables)
        self._key = keys.named(jax.random.key(evaluator.seed), "evaluation")
        self._programs.say = reporter.say
        self._known = {number: {} for number in range(-(-self._images.count // self._size))}

    def outcomes(self):
        """Does what is not known yet, waits for what other processes do, and puts all together."""
        chunks.fill_all(self._images, self._stop, self._is_known, self._fill)
        found = [
            outcomes.join_predictions([self._prediction_rows(number, prediction) for number in self._known])
            for prediction in self._predictions
        ]
        return found[0] | {
            "predictions": found,
            "protocols": {protocol.name: self._join(protocol, found[0]) for protocol in self._protocols},
        }

    def _join(self, protocol, clean):
        selected = self._selected(protocol.limit, np.arange(self._images.count))
        parts = [[self._member_rows(number, member) for number in self._known] for member in protocol.members]
        saved = [self._to_save(number).sum() for number in self._known]
        return outcomes.join_protocol(protocol, clean, selected, parts, saved)

    # What is known of a chunk

    def _rows(self, number, name, required):
        """The rows of a prediction or an attack on a chunk, from memory or disk; None where there are none."""
        known = self._known[number]
        if name not in known and (found := self._store.load(number, name, required)) is not None:
            known[name] = found
        return known.get(name)

    def _prediction_rows(self, number, prediction):
        is_new = prediction.key not in self._known[number]
        rows, kept = self._rows(number, prediction.key, prediction.required), self._to_save(number).sum()
        if rows is None or len(rows["pixels"]) < kept:
            return None
        if is_new and number % jax.process_count() == jax.process_index():
            self._reporter.found(len(rows["index"]))
        return rows | {"pixels": rows["pixels"][:kept]}  # an evaluation of the same images may have kept more

    def _member_rows(self, number, member):
        rows = self._rows(number, member.key, (*COLUMNS, "pixels", "seconds"))
        return blank_rows(len(self._numbers(number))) if rows is None else rows

    def _is_known(self, number):
        looked = all(self._prediction_rows(number, prediction) is not None for prediction in self._predictions)
        known = looked and next(self._missing(number), None) is None
        if not known and number % jax.process_count() != jax.process_index():
            self._known[number].clear()  # another process is at work on it: what it writes must be read
        return known

    def _numbers(self, number):
        """Numbers of a chunk's images among all that are evaluated: int [n]."""
        return np.arange(number * self._size, min((number + 1) * self._size, self._images.count))

    def _to_save(self, number):
        """The first images of all, whose adversarial images are kept: a chunk's first rows, bool [n]."""
        return self._numbers(number) < self._save_images

    @functools.cached_property
    def _ranks(self):
        return self._images.ranks()

    def _selected(self, limit, numbers):
        """Whether each image is one that an attack with a `limit` is for, bool [N]: so many, evenly spread in the order
        of classes and file names. numbers: their places among the evaluated images, int [N]."""
        if not limit or limit >= self._images.count:
            return np.ones(len(numbers), bool)
        return np.isin(self._ranks[numbers], spread(self._images.count, limit))

    def _missing(self, number):
        """(protocol, position of the member, rows to attack) of each piece of work on a chunk; its rows must be known
        by the time that the next one is asked for."""
        clean, to_save = self._prediction_rows(number, self._predictions[0]), self._to_save(number)
        for protocol in self._protocols:
            begin = protocol.begins(clean["correct"]) & self._selected(protocol.limit, self._numbers(number))
            survivors = begin
            for position, member in enumerate(protocol.members):
                rows = self._member_rows(number, member)
                unsaved = to_save & (np.arange(len(to_save)) >= len(rows["pixels"]))
                lacking = (begin if protocol.individual else survivors) & (~rows["attacked"] | unsaved)
                if lacking.any():
                    yield protocol, position, lacking
                    rows = self._member_rows(number, member)
                survivors = survivors & rows["robust"]

    # The work on a chunk

    def _fill(self, chunk):
        """Does all that a chunk lacks."""
        self._reporter.begin_chunk(len(chunk.index))
        for prediction in self._predictions:
            if self._prediction_rows(chunk.number, prediction) is None:
                self._keep(chunk, prediction.key, self._predict(chunk, prediction))
        for protocol, position, lacking in self._missing(chunk.number):
            member, *later = protocol.members[position:]
            for one in later:
                self._reporter.expect(one, int(lacking.sum()))
            self._keep(chunk, member.key, self._attack(chunk, protocol, member, lacking))
            self._reporter.expect(member, 0)
        members = {member for protocol in self._protocols for member in protocol.members}
        self._reporter.end_chunk({one: int(self._member_rows(chunk.number, one)["attacked"].sum()) for one in members})

    def _keep(self, chunk, name, rows):
        self._known[chunk.number][name] = rows
        self._store.save(chunk.number, name, rows)

    def _check_stop(self):
        if self._stop.local:  # otherwise all processes must ask equally often
            chunks.check(self._stop)

    def _predict(self, chunk, prediction):
        """What the net answers on a chunk."""
        prediction.check_labels(chunk.label, chunk.index)
        size, parts, notes = (
            self._programs.batch_size,
            [],
            dict.fromkeys(flags.NOTES, False) if prediction.probe else {},
        )
        seconds = 0.0
        for first in range(0, len(chunk.index), size):
            self._check_stop()
            rows, compiled = np.arange(first, min(first + size, len(chunk.index))), self._programs.total_compile_seconds
            batch = chunk.batch(rows, size)
            if prediction.corruption is not None:
                batch["image"][: len(rows)] = prediction.corruption(
                    chunk.image[rows], chunk.index[rows], self._programs.devices
                )
            times = flags.PROBES if prediction.probe and chunk.number == first == 0 else 1
            start = time.perf_counter()
            answers = [self._programs.predict(self._variables, batch, prediction.allowed) for _ in range(times)]
            compiled = self._programs.total_compile_seconds - compiled
            seconds += time.perf_counter() - start - compiled
            if times > 1:
                logits = np.stack([one["logits"][: len(rows)] for one in answers])
                notes = flags.notes(logits, chunk.label[rows])
            parts.append({name: answers[0][name][: len(rows)] for name in ("correct", "nan")})
            self._reporter.predicted(prediction.name, len(rows), compiled)
        joined = {name: np.concatenate([part[name] for part in parts]) for name in ("correct", "nan")}
        pixels = chunk.image[: self._to_save(chunk.number).sum()]
        heads = {"index": chunk.index, "label": chunk.label, "pixels": pixels, "seconds": seconds}
        return heads | joined | notes

    def _attack(self, chunk, protocol, member, lacking):
        """A member's rows after it has attacked the images of the chunk where `lacking` holds, stage by stage."""
        number, stages, chosen = chunk.number, member.attack.stages(self._programs.num_classes), np.flatnonzero(lacking)
        rows, work = self._resume(chunk, member, chosen)
        saved_at, save_took = time.perf_counter(), 0.0
        for stage in range(int(work["stage"]), stages):
            pending = np.flatnonzero(~work["done"])
            for first in range(0, len(pending), self._programs.batch_size):
                self._check_stop()
                taken = pending[first : first + self._programs.batch_size]
                seconds = self._batch(chunk, protocol, member, rows, work, taken, stage, last=stage + 1 == stages)
                passes = cost(member.attack, self._programs.num_classes) / stages * self._programs.batch_size
                self._reporter.expect(member, int((~work["done"]).sum()), 1 - stage / stages)
                label, survivors = f"{protocol.name}, {member.title}", int(rows["robust"][lacking].sum())
                self._reporter.attacked(label, stage, stages, survivors, len(taken), passes, seconds)
            work["stage"] = np.int64(stage + 1)
            waited = time.perf_counter() - saved_at
            if stage + 1 < stages and not work["done"].all() and waited > max(SAVE_SECONDS, SAVE_COST * save_took):
                saved_at = time.perf_counter()
                self._store.save(number, member.key, rows | _flat(work), partial=True)
                save_took = time.perf_counter() - saved_at
        return rows

    def _resume(self, chunk, member, chosen):
        """(rows, work) of an unfinished attack on the same images of the chunk, int [n], or of one from the beginning.

        work: {"chosen", "done": bool [n], "stage": the next, "memo": what the attack keeps between stages}."""
        blank = self._programs.blank(member.attack, (len(chosen), *chunk.image.shape[1:]))
        work = {"chosen": chosen, "done": np.zeros(len(chosen), bool), "stage": np.int64(0), "memo": blank}
        rows, names = self._member_rows(chunk.number, member), _flat(work)
        partial = self._store.load(chunk.number, member.key, (*rows, *names), partial=True)
        to_save = self._to_save(chunk.number).sum()
        if partial is None or not np.array_equal(partial["chosen"], chosen) or len(partial["pixels"]) < to_save:
            return outcomes.begin(rows, chosen, to_save, chunk.image.shape[1:]), work
        memo = [partial[name] for name in names if name.startswith("memo_")]
        work |= {name: partial[name] for name in ("done", "stage")}
        work["memo"] = jax.tree.unflatten(jax.tree.structure(blank), memo)
        return {name: partial[name] for name in rows}, work

    def _batch(self, chunk, protocol, member, rows, work, taken, stage, last):
        """One stage and its verdict for the images `taken` of the work; returns its seconds without compilation."""
        start, compiled = time.perf_counter(), self._programs.total_compile_seconds
        where, size = work["chosen"][taken], self._programs.batch_size
        batch = chunk.batch(where, size)
        memo = jax.tree.map(lambda leaf: chunks.padded(leaf[taken], size), work["memo"])
        state, images = self._programs.stage(member, self._variables, batch, self._key, stage, memo)
        verdict = self._programs.verdict(self._variables, batch, images, protocol.ball)
        verdict = {name: values[: len(taken)] for name, values in verdict.items()}
        memo, done = memo_of(state), state.done[: len(taken)]
        if not last and not memo["carry"]:  # each stage starts from the image: what was not confirmed is tried again
            done = done & ~verdict["correct"]
        work["done"][taken] = done
        for kept, new in zip(jax.tree.leaves(work["memo"]), jax.tree.leaves(memo), strict=True):
            kept[taken] = new[: len(taken)]
        outcomes.record(rows, where, verdict, member.attack.attacks_misclassified, images)
        for name in ("forwards", "backwards", "zero_gradient"):
            rows[name][where] = memo[name][: len(taken)]
        seconds = time.perf_counter() - start - (self._programs.total_compile_seconds - compiled)
        rows["seconds"] += seconds
        return seconds


def _flat(work):
    """The work on an unfinished attack as arrays for a file."""
    leaves = {f"memo_{number:03d}": leaf for number, leaf in enumerate(jax.tree.leaves(work["memo"]))}
    return {name: value for name, value in work.items() if name != "memo"} | leaves
