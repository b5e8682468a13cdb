"""Evaluation under distribution shift: predictions on every set of a suite, and what the result says of them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from nofrost_jax import data
from nofrost_jax.errors import about
from nofrost_jax.evaluation import results, runs
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.predictions import Prediction
from nofrost_jax.evaluation.programs import Programs
from nofrost_jax.evaluation.reporter import Reporter
from nofrost_jax.shift import label_sets, scores
from nofrost_jax.shift.sets import Absent, EvaluationSet
from nofrost_jax.shift.suites import CLEAN, ON_THE_FLY, Suite

REFERENCE_SIDE = 224  # pixels of the files on which AlexNet's errors were measured
Answers = list[list[dict[str, Any]]]  # the outcome of each prediction, for each set


def announcement(sets: Sequence[EvaluationSet], missing: Sequence[Absent]) -> list[str]:
    """Lines for the screen before the work begins."""
    lines = [f"skipped: {one.line}" for one in missing]
    if own := next((one for one in sets if one.own is not None), None):
        lines.append(f"note: {own.entry.folder} has files made by nofrost_jax, not the published ones of ImageNet-C")
    if cut := next((one for one in sets if one.is_cropped), None):
        lines.append(
            f"note: {_piece(cut)} of each file of {cut.entry.folder}; --config.imagenet_c_crop=nofrost "
            "resizes them as the run's own evaluation does its images"
        )
    lines += dict.fromkeys(f"note: {one.entry.name}: {line}" for one in sets for line in one.dataset.notes)
    names = dict.fromkeys(one.entry.name for one in sets)
    cells = sum(cell_of(one, prediction) is not None for one in sets for prediction in one.predictions)
    corrupted = f", {cells} cells of corruptions" if cells else ""
    return [*lines, f"evaluating {', '.join(names)}{corrupted}: {_total(sets):,} predictions ..."]


def _total(sets: Sequence[EvaluationSet]) -> int:
    return sum(one.dataset.count * len(one.predictions) for one in sets)


def predict(
    sets: Sequence[EvaluationSet],
    programs: Programs,
    variables: Any,
    digest: str,
    folder: str | os.PathLike,
    stop: Any,
    progress: bool,
) -> Answers:
    """What a net's `variables`, whose `tree_sha256` is `digest`, answer; for the others see `Evaluator.run`."""
    found, total = [], -(-_total(sets) // jax.process_count())
    variables = programs.devices.replicate(variables)
    with Reporter(total, progress) as reporter:
        for one in sets:
            with about(one.entry.name):
                images = runs.Split(one.open())
            evaluator = Evaluator(programs, images, runs.net_of(one.config), one.config.seed, one.predictions)
            found.append(evaluator.run(variables, stop, folder, progress=reporter, digest=digest)["predictions"])
    return found


def own_images(sets: Sequence[EvaluationSet], answers: Answers) -> tuple[data.Dataset | None, np.ndarray]:
    """(Dataset, index [N]) of the run's own evaluation images; (None, empty) where they are not there."""
    if sets[0].entry.name == CLEAN:
        return sets[0].dataset, answers[0][0]["index"]
    return None, np.zeros(0, np.int64)


def summarize(
    suite: Suite, run: ConfigDict, sets: Sequence[EvaluationSet], answers: Answers, missing: Sequence[Absent]
) -> dict[str, Any]:
    """{"clean", "attacks", "worst_case", "convergence", "flags"} of the schema, and {"shift": the sets, "corruptions",
    "missing"}. "clean" is None where the run's own images are not there."""
    pairs = list(zip(sets, answers, strict=True))
    entries = [_set_entry(one, outcomes[0]) for one, outcomes in pairs if one.cell is None]
    corrupted = _corruptions(suite, pairs)
    clean: dict[str, Any] = {"clean": None, "attacks": [], "worst_case": None, "convergence": [], "flags": []}
    if sets[0].entry.name == CLEAN:
        clean = results.summarize([], answers[0][0] | {"protocols": {}}, run.model.num_classes, {})
    raised = {flag for one in [clean, *entries, corrupted or {"flags": []}] for flag in one["flags"]}
    return clean | {
        "flags": sorted(raised),
        "shift": entries,
        "corruptions": corrupted,
        "missing": [dataclasses.asdict(one) for one in missing],
    }


def _set_entry(one: EvaluationSet, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `shift`."""
    n, seen = len(outcome["correct"]), np.unique(outcome["label"])
    listed = one.entry.label_set in label_sets.TABLE
    return {
        "name": one.entry.name,
        **results.share_of(outcome["correct"], n),
        "label_set": label_sets.title(one.entry.label_set, one.allowed),
        "classes_seen": len(seen),
        "crop": one.dataset.eval_crop,
        "source": one.config.data.source,
        "split": one.dataset.eval_split,
        "expected": one.expected,
        "nan": int(outcome["nan"].sum()),
        "seconds": round(outcome["seconds"], 3),
        "flags": _flags(
            nan=outcome["nan"].any(),
            partial=n != one.expected,
            classes_missing=listed and len(seen) < int(one.allowed.sum()),
        ),
    }


def _flags(**raised: bool) -> list[str]:
    return [name for name, is_raised in raised.items() if is_raised]


def _corruptions(suite: Suite, pairs: Sequence[tuple[EvaluationSet, list[dict]]]) -> dict[str, Any] | None:
    """The entry `corruptions`, or None where there are none."""
    cells = {}
    for one, outcomes in pairs:
        for prediction, outcome in zip(one.predictions, outcomes, strict=True):
            if cell := cell_of(one, prediction):
                cells[cell] = outcome
    if not cells:
        return None
    on_the_fly = suite.corruptions == ON_THE_FLY
    first = pairs[0][0] if on_the_fly else next(one for one, _ in pairs if one.cell)
    side = first.config.data.image_size if on_the_fly else first.side
    made = [one.corruption.constants(side) for one in first.predictions if one.corruption]
    accuracy = {cell: float(outcome["correct"].mean()) for cell, outcome in cells.items()}
    every = {(name, severity) for name in scores.ALEXNET for severity in scores.SEVERITIES}
    partial = bool(every - cells.keys()) or any(len(one["correct"]) != first.expected for one in cells.values())
    # Published folders are ImageNet's, whatever the run calls its own.
    has_classes = suite.is_imagenet or not (on_the_fly or first.own)
    notes = _why_no_reference(first, side) if has_classes else []
    reference = has_classes and not notes
    return {
        "name": suite.corrupted if first.own is None else suite.corrupted_own,
        "made": _how_made(suite, made, first.own),
        "crop": first.dataset.eval_crop,
        "imagenet_c_crop": None if on_the_fly else suite.crop,
        "side": side,
        "source": first.config.data.source if on_the_fly else f"folder:{suite.imagenet_c.folder}",
        "label_set": label_sets.title(label_sets.ALL, first.allowed),
        "expected": first.expected,
        **scores.scores(accuracy, scores.ALEXNET if reference else None),
        "reference": "AlexNet, published" if reference else None,
        "notes": notes,
        "cells": [_cell_entry(cell, outcome) for cell, outcome in cells.items()],
        "flags": _flags(
            nan=any(one["nan"].any() for one in cells.values()),
            partial=partial,
            cropped=first.is_cropped,
            vanishes=any(one["vanishes"] for one in made),
        ),
    }


def _why_no_reference(one: EvaluationSet, side: int) -> list[str]:
    """Why an mCE by AlexNet's errors would be wrong for corrupted images of `side` pixels a side: [] or [a line]."""
    if side != REFERENCE_SIDE:
        return [
            f"no mCE: AlexNet's errors are of files of {REFERENCE_SIDE} pixels a side, and these images have {side}, "
            "where corruptions have another strength"
        ]
    return [f"no mCE: {_piece(one)}"] if one.is_cropped else []


def _piece(one: EvaluationSet) -> str:
    return f"the net sees the central {one.config.data.image_size} of {one.side} pixels"


def cell_of(one: EvaluationSet, prediction: Prediction) -> tuple[str, int] | None:
    """(corruption, severity) of a prediction, from files or made on the fly, or None."""
    made = prediction.corruption
    return one.cell or (None if made is None else (made.name, made.severity))


def _how_made(suite: Suite, made: list[dict], own: dict | None) -> dict[str, Any]:
    """How the corrupted images were made, plain values. made: the constants of corruptions on the fly; own: what files
    made here say of themselves."""
    if made:
        return {
            "how": "on the fly, after resize and crop",
            "jpeg_quality": suite.jpeg_quality or None,
            "frost_textures": next((one["textures"] for one in made if "textures" in one), None),
            "constants": made,
        }
    return {"how": "published files"} if own is None else {"how": "files made by nofrost_jax", "settings": own}


def _cell_entry(cell: tuple[str, int], outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "corruption": cell[0],
        "severity": cell[1],
        **results.share_of(outcome["correct"], len(outcome["correct"])),
        "nan": int(outcome["nan"].sum()),
        "seconds": round(outcome["seconds"], 3),
    }


def columns(sets: Sequence[EvaluationSet], answers: Answers) -> dict[str, np.ndarray]:
    """The arrays of `NAME.npz`: index, label, clean_correct of the run's own images; of each set SET.label and
    SET.correct, of each cell of corruptions CORRUPTION.SEVERITY.label and .correct, in the order of the set."""
    arrays = {}
    for one, outcomes in zip(sets, answers, strict=True):
        for prediction, outcome in zip(one.predictions, outcomes, strict=True):
            if prediction.name == CLEAN:
                arrays |= {"index": outcome["index"], "label": outcome["label"], "clean_correct": outcome["correct"]}
                continue
            cell = cell_of(one, prediction)
            name = f"{cell[0]}.{cell[1]}" if cell else one.entry.name
            arrays |= {f"{name}.label": outcome["label"], f"{name}.correct": outcome["correct"]}
    return arrays
