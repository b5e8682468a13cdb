"""Evaluation under distribution shift: predictions on every set of a suite, and what the result says of them."""

import dataclasses

import jax
import numpy as np

from nofrost_jax.errors import about
from nofrost_jax.evaluation import results, runs
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.reporter import Reporter
from nofrost_jax.shift import label_sets, scores
from nofrost_jax.shift.suites import CLEAN, ON_THE_FLY

REFERENCE_SIDE = 224  # pixels of the files on which AlexNet's errors were measured


def announcement(sets, missing):
    """Lines for the screen before the work begins."""
    lines = [f"skipped: {one.line}" for one in missing]
    if own := next((one_set for one_set in sets if one_set.own is not None), None):
        lines.append(f"note: {own.entry.folder} has files made by nofrost_jax, not the published ones of ImageNet-C")
    if cut := next((one_set for one_set in sets if one_set.is_cropped), None):
        lines.append(
            f"note: {_piece(cut)} of each file of {cut.entry.folder}; --config.imagenet_c_crop=nofrost "
            "resizes them as the run's own evaluation does its images"
        )
    names = dict.fromkeys(one_set.entry.name for one_set in sets)
    notes = dict.fromkeys(f"note: {one_set.entry.name}: {line}" for one_set in sets for line in one_set.dataset.notes)
    lines += notes
    cells = sum(len(one_set.predictions) if one_set.cell else len(one_set.predictions) - 1 for one_set in sets)
    corrupted = f", {cells} cells of corruptions" if cells else ""
    return [*lines, f"evaluating {', '.join(names)}{corrupted}: {_total(sets):,} predictions ..."]


def _total(sets):
    return sum(one_set.dataset.count * len(one_set.predictions) for one_set in sets)


def predict(sets, programs, variables, digest, folder, stop, progress):
    """[[outcomes of a prediction] of each set] of a net's `variables`, whose `tree_sha256` is `digest`; for the other
    arguments see `Evaluator.run`."""
    found, total = [], -(-_total(sets) // jax.process_count())
    variables = programs.devices.replicate(variables)
    with Reporter(total, progress) as reporter:
        for one_set in sets:
            with about(one_set.entry.name):
                images = runs.Split(one_set.open())
            evaluator = Evaluator(
                programs, images, runs.net_of(one_set.config), one_set.config.seed, tuple(one_set.predictions)
            )
            found.append(evaluator.run(variables, stop, folder, progress=reporter, digest=digest)["predictions"])
    return found


def own_images(sets, answers):
    """(Dataset, index [N]) of the run's own evaluation images; (None, empty) where they are not there."""
    if sets[0].entry.name == CLEAN:
        return sets[0].dataset, answers[0][0]["index"]
    return None, np.zeros(0, np.int64)


def summarize(suite, run, sets, answers, missing):
    """{"clean", "attacks", "worst_case", "convergence", "flags"} of the schema, and {"shift": the sets, "corruptions",
    "missing"}. "clean" is None where the run's own images are not there."""
    pairs = list(zip(sets, answers, strict=True))
    entries = [_set_entry(one_set, found[0]) for one_set, found in pairs if one_set.cell is None]
    corrupted = _corruptions(suite, pairs)
    clean = {"clean": None, "attacks": [], "worst_case": None, "convergence": [], "flags": []}
    if sets[0].entry.name == CLEAN:
        clean = results.summarize([], answers[0][0] | {"protocols": {}}, run.model.num_classes, {})
    flags = {flag for one in [*entries, corrupted or {"flags": []}] for flag in one["flags"]}
    return clean | {
        "flags": sorted({*clean["flags"], *flags}),
        "shift": entries,
        "corruptions": corrupted,
        "missing": [dataclasses.asdict(one) for one in missing],
    }


def _set_entry(one_set, outcome):
    """One row of `shift`."""
    allowed, n = one_set.predictions[0].allowed, len(outcome["correct"])
    seen = np.unique(outcome["label"])
    expected = one_set.entry.count or one_set.dataset.num_eval
    listed = one_set.entry.label_set in label_sets.TABLE
    return {
        "name": one_set.entry.name,
        **results.share_of(outcome["correct"], n),
        "label_set": label_sets.title(one_set.entry.label_set, allowed),
        "classes_seen": len(seen),
        "crop": one_set.dataset.eval_crop,
        "source": one_set.config.data.source,
        "split": one_set.dataset.eval_split,
        "expected": expected,
        "nan": int(outcome["nan"].sum()),
        "seconds": round(outcome["seconds"], 3),
        "flags": _flags(
            nan=outcome["nan"].any(),
            partial=n != expected,
            classes_missing=listed and len(seen) < allowed.sum(),
        ),
    }


def _flags(**raised):
    return [name for name, is_raised in raised.items() if is_raised]


def _corruptions(suite, pairs):
    """The entry `corruptions`, or None where there are none."""
    on_the_fly = suite.corruptions == ON_THE_FLY
    sets, cells = [pairs[0][0]] if on_the_fly else [one_set for one_set, _ in pairs if one_set.cell], {}
    for one_set, found in pairs:
        for one, outcome in zip(one_set.predictions, found, strict=True):
            if cell := cell_of(one_set, one):
                cells[cell] = outcome
    if not cells:
        return None
    accuracy = {cell: float(outcome["correct"].mean()) for cell, outcome in cells.items()}
    expected = sets[0].entry.count or sets[0].dataset.num_eval
    every = {(name, severity) for name in scores.ALEXNET for severity in scores.SEVERITIES}
    partial = bool(every - cells.keys()) or any(len(one["correct"]) != expected for one in cells.values())
    corrupted, taken = sets[0].predictions[1:] if on_the_fly else [], sets[0].config.data.image_size
    made = {one: one.corruption.describe(taken) for one in corrupted}
    own = sets[0].own
    side = sets[0].config.data.image_size if on_the_fly else sets[0].side
    published = not on_the_fly and own is None
    has_classes = suite.is_imagenet or published  # published folders are ImageNet's, whatever the run calls its own
    notes = _why_no_reference(sets[0], side) if has_classes else []
    reference = has_classes and not notes
    return {
        "name": suite.corrupted if own is None else suite.corrupted_own,
        "made": _how_made(suite, list(made.values())) if on_the_fly else _how_filed(own),
        "crop": sets[0].dataset.eval_crop,
        "imagenet_c_crop": None if on_the_fly else suite.crop,
        "side": side,
        "source": sets[0].config.data.source if on_the_fly else f"folder:{suite.imagenet_c.folder}",
        "label_set": label_sets.title(label_sets.ALL, sets[0].predictions[0].allowed),
        "expected": expected,
        **scores.scores(accuracy, scores.ALEXNET if reference else None),
        "reference": "AlexNet, published" if reference else None,
        "notes": notes,
        "cells": [_cell_entry(cell, outcome) for cell, outcome in cells.items()],
        "flags": _flags(
            nan=any(one["nan"].any() for one in cells.values()),
            partial=partial,
            cropped=sets[0].is_cropped,
            vanishes=any(one["vanishes"] for one in made.values()),
        ),
    }


def _why_no_reference(one_set, side):
    """Why AlexNet's errors are none to divide by where corrupted images have so many pixels a side: [] or [a line]."""
    if side != REFERENCE_SIDE:
        return [
            f"no mCE: AlexNet's errors are of files of {REFERENCE_SIDE} pixels a side, and these images have {side}, "
            "at which corruptions are others"
        ]
    return [f"no mCE: {_piece(one_set)}"] if one_set.is_cropped else []


def _piece(one_set):
    return f"the net sees the central {one_set.config.data.image_size} of {one_set.side} pixels"


def cell_of(one_set, prediction):
    """(corruption, severity) of a prediction, of files or made on the fly, or None."""
    return one_set.cell or (prediction.corruption and (prediction.corruption.name, prediction.corruption.severity))


def _how_made(suite, described):
    """What corruptions on the fly are made with, plain values."""
    return {
        "how": "on the fly, after resize and crop",
        "jpeg_quality": suite.jpeg_quality or None,
        "frost_textures": next((one["textures"] for one in described if "textures" in one), None),
        "constants": described,
    }


def _how_filed(own):
    """Whose files the corrupted ones are, plain values; own: of the EvaluationSet."""
    return {"how": "published files"} if own is None else {"how": "files made by nofrost_jax", "settings": own}


def _cell_entry(cell, outcome):
    n = len(outcome["correct"])
    return {
        "corruption": cell[0],
        "severity": cell[1],
        **results.share_of(outcome["correct"], n),
        "nan": int(outcome["nan"].sum()),
        "seconds": round(outcome["seconds"], 3),
    }


def columns(sets, answers):
    """The arrays of `NAME.npz`: index, label, clean_correct of the run's own images; of each set SET.label and
    SET.correct, of each cell of corruptions CORRUPTION.SEVERITY.label and .correct, in the order of the set."""
    arrays = {}
    for one_set, found in zip(sets, answers, strict=True):
        for one, outcome in zip(one_set.predictions, found, strict=True):
            if one.name == CLEAN:
                arrays |= {"index": outcome["index"], "label": outcome["label"], "clean_correct": outcome["correct"]}
                continue
            cell = cell_of(one_set, one)
            name = f"{cell[0]}.{cell[1]}" if cell else one_set.entry.name
            arrays |= {f"{name}.label": outcome["label"], f"{name}.correct": outcome["correct"]}
    return arrays
