"""Runs a classifier over an evaluation set, clean and attacked, on all devices; believes no attack's own verdict.

Images come in chunks, which bound the memory. Within a chunk each attack runs on the images that it is meant for,
gathered into full batches of one shape, and what is known of the chunk goes to disk at once: killed at any moment and
run again, an evaluation goes on where it was. With several processes each has chunks of its own.
"""

import functools
import time

import jax
import numpy as np

from nofrost_jax import keys
from nofrost_jax.checkpoint import tree_sha256
from nofrost_jax.data import spread
from nofrost_jax.evaluation import chunks, flags
from nofrost_jax.evaluation.attacking import Attacker
from nofrost_jax.evaluation.reporter import Reporter
from nofrost_jax.evaluation.store import Store, identity
from nofrost_jax.evaluation.work import COLUMNS, blank_rows

CLEAN = "clean"  # the file of a chunk without an attack; no attack may be called so


class Evaluator:
    """Clean accuracy and the attacks of `plans` on a set, of whatever net the `programs` run.

    The forward that decides is float32 at highest matmul precision and separate from the attack. Each attack compiles
    once in the Programs' life. An image's outcome depends on its own index and the seed, not on the batch, the
    device count, the chunk, or the other attacks of the suite.
    """

    def __init__(self, programs, plans, images, seed, net, save_images=0):
        """images: a set, e.g. `runs.Split`. net: plain values that say what the net is beside its variables.
        save_images: keep the adversarial images of so many first ones."""
        self.programs, self.plans, self.images = programs, plans, images
        self.seed, self.net, self.save_images = seed, net, save_images

    def run(self, variables, stop, folder, labels=None, progress=False):
        """Per-image outcomes of a net's `variables`: a dict of NumPy arrays over all images, in their order,

        {"index", "label", "correct", "correct_uint8", "nan": [N], "seconds", "randomised", "probabilities", "pixels":
        the first images, "plans": {label: {"selected", "robust", "robust_uint8": [N], "members": [{column of
        `work.COLUMNS`: [N], "pixels", "survivors": [N], "seconds"}]}}}.

        stop: the StopSignal, asked between batches (if it is not local: between chunks); raises Preempted when it
        says so. folder: where outcomes are kept and found, shared by all processes. labels: only these attacks.
        progress: print how far it is.
        """
        plans = [plan for plan in self.plans if labels is None or plan.label in labels]
        share = -(-self.images.count // jax.process_count())
        digest = tree_sha256(jax.device_get(variables))
        store = Store.open(folder, identity(digest, self.net, self.images, self.seed))
        variables = self.programs.devices.replicate(variables)
        with Reporter(plans, self.programs.num_classes, share, progress) as reporter:
            self.programs.say = reporter.say
            return _Run(self, variables, stop, store, plans, reporter).outcomes()


class _Run:
    """One evaluation of one set of variables; `self._known[chunk][name]` has the rows of each finished attack."""

    def __init__(self, evaluator, variables, stop, store, plans, reporter):
        self._images, self._save_images = evaluator.images, evaluator.save_images
        self._size, self._count = self._images.chunk_size, self._images.count
        self._stop, self._store, self._plans, self._reporter = stop, store, plans, reporter
        self._programs, self._variables = evaluator.programs, variables
        self._may_stop = stop if stop.local else None  # otherwise all processes must ask equally often
        key = keys.named(jax.random.key(evaluator.seed), "evaluation")
        self._attacker = Attacker(self._programs, variables, key, store, reporter, self._may_stop, self._save_images)
        self._chunks = range(-(-self._count // self._size))
        self._known = {number: {} for number in self._chunks}

    def outcomes(self):
        """Does what is not known yet, waits for what other processes do, and puts all together."""
        chunks.fill_all(self._images, self._stop, self._is_known, self._fill)
        return self._assemble()

    def _rows(self, number, name):
        """The rows of an attack (or CLEAN) on a chunk, from memory or disk; None where it has not run."""
        known = self._known[number]
        required = ("index", "correct", "pixels") if name == CLEAN else (*COLUMNS, "pixels", "seconds")
        if name not in known and (found := self._store.load(number, name, required)) is not None:
            known[name] = found
        return known.get(name)

    def _member_rows(self, number, member):
        rows = self._rows(number, member.key)
        return blank_rows(len(self._rows(number, CLEAN)["index"])) if rows is None else rows

    def _is_known(self, number):
        return self._is_looked_at(number) and next(self._missing(number), None) is None

    def _is_looked_at(self, number):
        clean = self._rows(number, CLEAN)
        return clean is not None and len(clean["pixels"]) >= self._to_save(number).sum()

    def _numbers(self, number):
        """Numbers of a chunk's images among all that are evaluated: int [n]."""
        return np.arange(number * self._size, min((number + 1) * self._size, self._count))

    def _to_save(self, number):
        """The first images of all, whose adversarial images are kept: a chunk's first rows, bool [n]."""
        return self._numbers(number) < self._save_images

    @functools.cached_property
    def _ranks(self):
        return self._images.ranks()

    def _selected(self, limit, numbers):
        """Whether each image is one that an attack with a `limit` is for, bool [N]: so many, evenly spread in the order
        of classes and file names. numbers: their places among the evaluated images, int [N]."""
        if not limit or limit >= self._count:
            return np.ones(len(numbers), bool)
        return np.isin(self._ranks[numbers], spread(self._count, limit))

    def _missing(self, number):
        """(plan, position of the member, rows to attack) of each piece of work on a chunk; its rows must be known by
        the time that the next one is asked for."""
        clean = self._rows(number, CLEAN)
        to_save = self._to_save(number)
        for plan in self._plans:
            begin = plan.begins(clean["correct"]) & self._selected(plan.limit, self._numbers(number))
            survivors = begin
            for position, member in enumerate(plan.members):
                rows = self._member_rows(number, member)
                unsaved = to_save & (np.arange(len(to_save)) >= len(rows["pixels"]))
                lacking = (begin if plan.individual else survivors) & (~rows["attacked"] | unsaved)
                if lacking.any():
                    yield plan, position, lacking
                    rows = self._member_rows(number, member)
                survivors = survivors & rows["robust"]

    def _check_stop(self):
        if self._may_stop is not None:
            chunks.check(self._may_stop)

    def _fill(self, chunk):
        """Does all work that a chunk lacks."""
        number = chunk.number
        self._reporter.begin_chunk(len(chunk.index))
        if not self._is_looked_at(number):
            self._known[number][CLEAN] = self._look(chunk)
            self._store.save(number, CLEAN, self._known[number][CLEAN])
        for plan, position, lacking in self._missing(number):
            member, *later = plan.members[position:]
            for one in later:
                self._reporter.expect(one, int(lacking.sum()))
            rows = self._attacker.attack(chunk, plan, member, lacking, self._member_rows(number, member))
            self._known[number][member.key] = rows
            self._reporter.expect(member, 0)
        members = {member for plan in self._plans for member in plan.members}
        self._reporter.end_chunk({one: int(self._member_rows(number, one)["attacked"].sum()) for one in members})

    def _look(self, chunk):
        """The clean verdict on a chunk; of the first batch of all, four times more, for the flags."""
        start = time.perf_counter()

        def forward(batch, rows, times):
            self._check_stop()
            return [self._programs.verdict(self._variables, batch, None, logits=times > 1) for _ in range(times)]

        columns = ("correct", "correct_uint8", "nan")
        rows = chunks.look(chunk, self._programs.batch_size, forward, columns, probe=True)
        rows["correct"] &= ~rows["nan"]
        heads = {
            "index": chunk.index,
            "label": chunk.label,
            "pixels": chunk.image[: chunk.among_first(self._save_images)],
        }
        return heads | rows | {"seconds": time.perf_counter() - start}

    def _assemble(self):
        """The chunks' rows, joined."""
        clean = [self._rows(number, CLEAN) for number in self._chunks]
        joined = {
            name: np.concatenate([rows[name] for rows in clean])
            for name in ("index", "label", "correct", "correct_uint8", "nan")
        }
        # An evaluation of the same images may have kept more of them.
        kept = [rows["pixels"][: self._to_save(number).sum()] for number, rows in zip(self._chunks, clean, strict=True)]
        joined["pixels"] = np.concatenate(kept)
        joined |= {name: bool(clean[0][name]) for name in flags.NOTES}
        joined["seconds"] = float(sum(rows["seconds"] for rows in clean))
        return joined | {"plans": {plan.label: self._assemble_plan(plan, joined) for plan in self._plans}}

    def _assemble_plan(self, plan, joined):
        selected = self._selected(plan.limit, np.arange(self._count))
        begin, uint8 = (plan.begins(joined[name]) & selected for name in ("correct", "correct_uint8"))
        survivors, members = begin, []
        for member in plan.members:
            parts = [self._member_rows(number, member) for number in self._chunks]
            rows = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
            # Other plans may have run this attack on more images.
            met = begin if plan.individual else survivors
            rows["attacked"] &= met
            survivors, uint8 = survivors & rows["robust"], uint8 & (rows["robust_uint8"] | ~rows["attacked"])
            rows["pixels"] = self._join_pixels(parts, joined["pixels"].shape[1:])
            members.append(rows | {"seconds": float(sum(part["seconds"] for part in parts)), "survivors": survivors})
        return {"selected": selected, "robust": survivors, "robust_uint8": uint8, "members": members}

    def _join_pixels(self, parts, shape):
        """Adversarial images of the first images of all, zeros where this attack did not meet one."""
        pixels = []
        for number, part in zip(self._chunks, parts, strict=True):
            padded = np.zeros((self._to_save(number).sum(), *shape), np.float32)
            kept = part["pixels"][: len(padded)]
            padded[: len(kept)] = kept.reshape(-1, *shape)
            pixels.append(padded)
        return np.concatenate(pixels)
