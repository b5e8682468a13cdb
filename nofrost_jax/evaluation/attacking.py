"""One attack on one chunk: batches of survivors through the compiled stages, a verdict on each, saves on the way."""

import time

import numpy as np

from nofrost_jax.evaluation.chunks import preempted
from nofrost_jax.evaluation.programs import memo_of
from nofrost_jax.evaluation.reporter import cost
from nofrost_jax.evaluation.work import COLUMNS, Work, blank_rows

SAVE_SECONDS = 20  # least time between two saves of unfinished work,
SAVE_COST = 10  # and at least so many times what a save takes


class Attacker:
    """Attacks chunks with one set of variables. may_stop: the StopSignal, or None where it is not asked here."""

    def __init__(self, programs, variables, key, store, reporter, may_stop, save_images):
        self._programs, self._variables, self._key, self._store = programs, variables, key, store
        self._reporter, self._may_stop, self._save_images = reporter, may_stop, save_images

    def attack(self, chunk, plan, member, lacking, rows):
        """`rows` (`work.COLUMNS`) after the member has attacked the images of the chunk where `lacking` holds."""
        name, attack = member.key, member.attack
        stages = attack.stages(self._programs.num_classes)
        blank = self._programs.blank(attack, chunk.image.shape[1:])
        rows, work = self._resume(chunk, name, lacking, rows, blank)
        saved_at, save_took = time.perf_counter(), 0.0
        while work.stage < stages and len(work.pending):
            taken = work.take(self._programs.batch_size)
            if not len(taken):
                work.next_stage()
                continue
            seconds = self._batch(chunk, plan, member, rows, work, taken, blank, last=work.stage + 1 == stages)
            passes = cost(attack, self._programs.num_classes) / stages * self._programs.batch_size
            self._reporter.worked(passes, seconds)
            self._reporter.expect(member, int((~work.done).sum()), 1 - work.stage / stages)
            self._reporter.progress(
                f"{plan.label}, {member.title}",
                work.stage,
                stages,
                int(rows["robust"][lacking].sum()),
                len(taken) / seconds,
            )
            stopped = self._may_stop is not None and self._may_stop.requested()
            if stopped or time.perf_counter() - saved_at > max(SAVE_SECONDS, SAVE_COST * save_took):
                saved_at = time.perf_counter()
                self._store.save(chunk.number, name, rows | work.arrays(), partial=True)
                save_took = time.perf_counter() - saved_at
            if stopped:
                raise preempted(self._may_stop)
        self._store.save(chunk.number, name, rows)
        return rows

    def _resume(self, chunk, name, lacking, rows, blank):
        """(rows, Work) of unfinished work on the same images, or from the beginning."""
        chosen = np.flatnonzero(lacking)
        partial = self._store.load(chunk.number, name, required=("rows", "pending", "done", *COLUMNS), partial=True)
        if partial is not None and np.array_equal(partial["rows"], chosen):
            return {column: partial[column] for column in rows}, Work.from_arrays(partial, blank)
        rows = {column: np.array(values) for column, values in rows.items()}
        for column, values in blank_rows(len(lacking)).items():
            if column in COLUMNS:
                rows[column][chosen] = values[chosen]
        kept, to_save = rows["pixels"], chunk.among_first(self._save_images)
        if len(kept) < to_save:
            rows["pixels"] = np.zeros((to_save, *chunk.image.shape[1:]), np.float32)
            rows["pixels"][: len(kept)] = kept.reshape(-1, *chunk.image.shape[1:])
        return rows, Work.begin(chosen)

    def _batch(self, chunk, plan, member, rows, work, taken, blank, last):
        """One stage and its verdict for the positions `taken` of the work; returns its seconds without compilation."""
        start, compiled = time.perf_counter(), self._programs.total_compile_seconds
        where = work.rows[taken]
        batch = chunk.batch(where, self._programs.batch_size)
        memo = work.memo_of(taken, blank)
        state, images = self._programs.stage(member, self._variables, batch, self._key, work.stage, memo)
        verdict = self._programs.verdict(self._variables, batch, images, plan.ball)
        verdict = {name: values[: len(taken)] for name, values in verdict.items()}
        memo, done = memo_of(state), state.done[: len(taken)]
        robust = verdict["correct"] & ~verdict["nan"]
        if not last and not memo["carry"]:  # each stage starts from the image: what was not confirmed is tried again
            done = done & ~robust
        work.done[taken] = done
        work.remember(taken, memo)
        _record(rows, where, verdict, robust, member.attack.attacks_misclassified, images)
        for name in ("forwards", "backwards", "zero_gradient"):
            rows[name][where] = memo[name][: len(taken)]
        seconds = time.perf_counter() - start
        seconds -= self._programs.total_compile_seconds - compiled
        rows["seconds"] += seconds
        return seconds


def _record(rows, where, verdict, robust, always_moves, images):
    """Writes a verdict on adversarial `images` (device array) into `rows`. What was fooled by an earlier stage stays
    so, with its image. always_moves: whether the attack changes images without claiming success."""
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
