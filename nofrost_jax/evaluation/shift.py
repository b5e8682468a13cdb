"""Evaluation under distribution shift: looks at every set of a suite, and what the result says of them."""

import dataclasses

import jax
import numpy as np

from nofrost_jax import data
from nofrost_jax.evaluation import chunks, corruption_scores, label_sets, results, shift_sets
from nofrost_jax.evaluation.looking import Looker, Progress


def announcement(jobs, missing):
    """Lines for the screen before the work begins."""
    lines = [f"skipped: {one.line}" for one in missing]
    names = dict.fromkeys(job.entry.name for job in jobs)
    cells = sum(len(job.views) if job.cell else len(job.views) - 1 for job in jobs)
    corrupted = f", {cells} cells of corruptions" if cells else ""
    return [*lines, f"evaluating {', '.join(names)}{corrupted}: {_total(jobs):,} looks at images ..."]


def _total(jobs):
    return sum(chunks.count_and_size(job.config, job.spec.num_eval)[0] * len(job.views) for job in jobs)


def look(jobs, programs, variables, digest, folder, stop, progress):
    """[[outcomes of a view] of each job]; for the arguments see `Looker`. progress: whether to print any."""
    reporter = Progress(_total(jobs) / jax.process_count(), progress)
    programs.say = reporter.say
    looker = Looker(programs, variables, digest, folder, stop, reporter)
    looked = []
    for job in jobs:
        # Of ImageNet-C's cells only the first has been checked: to list 75 x 1,000 folders takes its time.
        spec = job.spec if job.cell is None else data.check(job.config, ("evaluation",))
        looked.append(looker.look(job.config, spec.num_eval, job.views))
    return looked


def own_images(jobs, looked):
    """(Spec, index [N]) of the run's own evaluation images; (that of the first set, none) where they are not there."""
    if jobs[0].entry.name == shift_sets.CLEAN:
        return jobs[0].spec, looked[0][0]["index"]
    return jobs[0].spec, np.zeros(0, np.int64)


def summarize(suite, run, jobs, looked, missing):
    """{"clean", "attacks", "worst_case", "convergence", "flags"} of the schema, and {"shift": the sets, "corruptions",
    "missing"}. "clean" is None where the run's own images are not there."""
    pairs = list(zip(jobs, looked, strict=True))
    sets = [_set_entry(job, views[0]) for job, views in pairs if job.cell is None]
    corrupted = _corruptions(suite, run, pairs)
    clean = {"clean": None, "attacks": [], "worst_case": None, "convergence": [], "flags": []}
    if jobs[0].entry.name == shift_sets.CLEAN:
        clean = results.summarize([], looked[0][0] | {"plans": {}}, run.model.num_classes, {})
    flags = {flag for one in [*sets, corrupted or {"flags": []}] for flag in one["flags"]}
    return clean | {
        "flags": sorted({*clean["flags"], *flags}),
        "shift": sets,
        "corruptions": corrupted,
        "missing": [dataclasses.asdict(one) for one in missing],
    }


def _set_entry(job, outcome):
    """One row of `shift`."""
    allowed, n = job.views[0].allowed, len(outcome["correct"])
    seen = np.unique(outcome["label"])
    expected = job.entry.count or None
    return {
        "name": job.entry.name,
        **results.share_of(outcome["correct"], n),
        "label_set": label_sets.describe(job.entry.label_set, allowed),
        "classes_seen": len(seen),
        "crop": job.spec.eval_crop,
        "source": job.config.data.source,
        "split": job.spec.eval_split,
        "expected": expected,
        "nan": int(outcome["nan"].sum()),
        "seconds": round(outcome["seconds"], 3),
        "flags": _flags(job, n, len(seen) < allowed.sum(), outcome["nan"].any()),
    }


def _flags(job, n, lacks_classes, nan):
    expected = job.entry.count or job.spec.num_eval
    return ["nan"] * bool(nan) + ["partial"] * (n != expected or (bool(job.entry.count) and bool(lacks_classes)))


def _corruptions(suite, run, pairs):
    """The entry `corruptions`, or None where there are none."""
    on_the_fly = suite.corruptions == shift_sets.ON_THE_FLY
    if on_the_fly:
        job, views = pairs[0]
        cells = {(v.corruption.name, v.corruption.severity): o for v, o in zip(job.views[1:], views[1:], strict=True)}
        jobs = [job]
    else:
        jobs = [job for job, _ in pairs if job.cell]
        cells = {job.cell: views[0] for job, views in pairs if job.cell}
    if not cells:
        return None
    imagenet = shift_sets.has_imagenet_classes(run)
    accuracy = {cell: float(outcome["correct"].mean()) for cell, outcome in cells.items()}
    expected = jobs[0].entry.count or jobs[0].spec.num_eval
    partial = len(cells) < len(suite.cells) or any(len(one["correct"]) != expected for one in cells.values())
    nan = any(one["nan"].any() for one in cells.values())
    return {
        "name": shift_sets.corruption_name(suite, run),
        "made": _how_made(suite) if on_the_fly else "published files",
        "crop": jobs[0].spec.eval_crop,
        "imagenet_c_crop": None if on_the_fly else suite.crop,
        "source": run.data.source if on_the_fly else f"folder:{suite.imagenet_c.folder}",
        "label_set": label_sets.describe(label_sets.ALL, jobs[0].views[0].allowed),
        "expected": expected,
        **corruption_scores.scores(accuracy, corruption_scores.ALEXNET if imagenet or not on_the_fly else None),
        "reference": "AlexNet, published" if imagenet or not on_the_fly else None,
        "cells": [_cell_entry(cell, outcome) for cell, outcome in cells.items()],
        "flags": ["nan"] * nan + ["partial"] * partial,
    }


def _how_made(suite):
    """How corruptions on the fly differ from the published files, plain values."""
    return {
        "how": "on the fly, after resize and crop",
        "jpeg_quality": suite.jpeg_quality or None,
        "frost_textures": suite.textures or "procedural",
    }


def _cell_entry(cell, outcome):
    n = len(outcome["correct"])
    return {
        "corruption": cell[0],
        "severity": cell[1],
        **results.share_of(outcome["correct"], n),
        "nan": int(outcome["nan"].sum()),
        "seconds": round(outcome["seconds"], 3),
    }


def columns(jobs, looked):
    """The arrays of `NAME.npz`: index, label, clean_correct of the run's own images; of each set SET.label and
    SET.correct, of each cell of corruptions CORRUPTION.SEVERITY.label and .correct, in the order of the set."""
    arrays = {}
    for job, views in zip(jobs, looked, strict=True):
        for view, outcome in zip(job.views, views, strict=True):
            if view.name == shift_sets.CLEAN:
                arrays |= {"index": outcome["index"], "label": outcome["label"], "clean_correct": outcome["correct"]}
                continue
            cell = job.cell or (view.corruption and (view.corruption.name, view.corruption.severity))
            name = f"{cell[0]}.{cell[1]}" if cell else job.entry.name
            arrays |= {f"{name}.label": outcome["label"], f"{name}.correct": outcome["correct"]}
    return arrays
