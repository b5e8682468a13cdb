"""What is in a study's folder: each run's result and time, and `study.json`, made from them."""

import contextlib
import glob
import os
import resource
import time
from collections.abc import Iterator
from typing import Any

from nofrost_jax import errors
from nofrost_jax.fields import differences
from nofrost_jax.files import read_json, write_json
from nofrost_jax.report.exhibits import EXHIBITS, Suite
from nofrost_jax.tools.reproduce.paper import Paper
from nofrost_jax.tools.reproduce.study import FINAL, SHIFT, Study, Training, final_runs, rule, selection_runs

RECORD, PAPER = "run.json", "reproduce.json"
SUITES = [suite for exhibit in EXHIBITS.values() for _, suite in exhibit.suites]
ALIKE = {one.config: {suite.name for suite in SUITES if suite.config == one.config} for one in SUITES}
Asked = Study | Paper
Failed = dict[Training, tuple[int, str]]  # exit code and complaint


def path(asked: Asked, run: Training, *parts: str) -> str:
    """A path in a run's folder."""
    return os.path.join(asked.workdir, run.folder, *parts)


def read(file_path: str) -> Any:
    """The plain value in a JSON file; None if it is missing or damaged."""
    try:
        return read_json(file_path)
    except ValueError:
        return None


def result(asked: Asked, run: Training) -> dict | None:
    """The evaluation result of a run, or None if it is not done."""
    return read(path(asked, run, "evaluations", "final.json")) or None


def record(asked: Asked, run: Training) -> dict:
    """{"seconds", "cpu_seconds": of a run's attempts, "not_finite": its last line if it was not finite, or ""}."""
    return {"seconds": 0.0, "cpu_seconds": 0.0, "not_finite": ""} | (read(path(asked, run, RECORD)) or {})


def note(asked: Asked, run: Training, **changes) -> None:
    """Changes what `record` returns."""
    os.makedirs(path(asked, run), exist_ok=True)
    write_json(path(asked, run, RECORD), record(asked, run) | changes, seal=True)


@contextlib.contextmanager
def timed(asked: Asked, run: Training) -> Iterator[None]:
    """Adds the time of a block to the run's record, and the CPU time of the processes that ended in it."""
    before, clock, cpu = record(asked, run), time.perf_counter(), _cpu_seconds()
    try:
        yield
    finally:
        seconds = before["seconds"] + time.perf_counter() - clock
        note(asked, run, seconds=round(seconds, 3), cpu_seconds=round(before["cpu_seconds"] + _cpu_seconds() - cpu, 3))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def evaluated(asked: Asked, run: Training, suite: Suite) -> list[dict]:
    """The results of a suite of a run's parameters, or [] unless all are there. Where only some attacks are wanted,
    those in results of the same config under other names count, too."""
    if not (trained := result(asked, run)):
        return []
    folder, digest = path(asked, run, "evaluations"), trained["checkpoint"]["params_sha256"]
    names = ALIKE[suite.config] if suite.only else suite.results
    found = {name: read(os.path.join(folder, f"{name}.json")) for name in names}
    found = {name: one for name, one in found.items() if one and one["checkpoint"]["params_sha256"] == digest}
    if not suite.only:
        return [found[name] for name in suite.results] if len(found) == len(suite.results) else []
    attacks = {entry["name"] for one in found.values() for entry in one["attacks"]}
    return list(found.values()) if attacks >= set(suite.only) else []


def corruptions(asked: Asked, run: Training) -> dict | None:
    """The entry `corruptions` of a run's result under distribution shift; None if there is none of its parameters."""
    found = evaluated(asked, run, SHIFT)
    return found[0]["corruptions"] if found else None


def is_settled(asked: Asked, run: Training) -> bool:
    """Whether nothing is left to do for a run: it has its result, or was not finite."""
    return result(asked, run) is not None or bool(record(asked, run)["not_finite"])


def forget(asked: Asked, run: Training) -> None:
    """Removes the log and the record of a run that was refused before it began, and the folders that are empty then."""
    for name in ("log.txt", RECORD):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path(asked, run, name))
    with contextlib.suppress(OSError):  # not empty
        os.removedirs(path(asked, run))


def anything_done(asked: Asked) -> bool:
    """Whether any run in the folder is settled."""
    depths = ("select/*/*", "runs/*/*", "runs/*/*/*")
    folders = (os.path.dirname(file) for depth in depths for file in glob.glob(f"{asked.workdir}/{depth}/{RECORD}"))
    return any(
        os.path.exists(f"{folder}/evaluations/final.json") or (read(f"{folder}/{RECORD}") or {}).get("not_finite")
        for folder in folders
    )


def selection(study: Study) -> list[dict]:
    """The scores of the selection runs that are settled: [{"row", "rate", "clean", "pgd_20", "score"}, ...]."""
    entries = []
    for run in selection_runs(study):
        if not is_settled(study, run):
            continue
        clean = robust = 0.0
        if found := result(study, run):
            clean = found["clean"]["accuracy"]
            robust = next(one["robust_accuracy"] for one in found["attacks"] if one["name"] == "pgd_20")
        entry = {"row": run.row, "rate": run.rate, "clean": clean, "pgd_20": robust, "score": (clean + robust) / 2}
        entries.append(entry if found else entry | {"not_finite": True})
    return entries


def choose(study: Study, entries: list[dict]) -> dict[str, float]:
    """{row: rate} of the best score, the smaller rate of equal ones, for the rows whose rates all have a score."""
    if len(study.rates) == 1:
        return dict.fromkeys(study.rows, study.rates[0])
    scores = {row: {entry["rate"]: entry["score"] for entry in entries if entry["row"] == row} for row in study.rows}
    return {
        row: min(found, key=lambda rate: (-found[rate], rate))
        for row, found in scores.items()
        if len(found) == len(study.rates)
    }


def chosen(study: Study) -> dict[str, float]:
    """{row: rate} as far as known."""
    return choose(study, selection(study))


def cell(study: Study, run: Training, found: dict) -> dict:
    """The part of a final run's result for `study.json`."""
    attacks, spent, corrupted = found["attacks"], record(study, run), corruptions(study, run)
    if corrupted:
        corrupted = {"name": corrupted["name"], "mean": corrupted["mean_accuracy"], "cells": len(corrupted["cells"])}
    flags = {entry["name"]: entry["flags"] for entry in attacks}
    others = sorted(set(found["flags"]) - {name for names in flags.values() for name in names})
    return {
        "row": run.row,
        "seed": run.seed,
        "learning_rate": run.rate,
        "clean": found["clean"]["accuracy"],
        "attacks": {entry["name"]: entry["robust_accuracy"] for entry in attacks},
        "flags": flags | ({"net": others} if others else {}),
        "n": found["clean"]["n"],
        **({"corruptions": corrupted} if corrupted else {}),
        "attacked": {entry["name"]: entry["n"] for entry in attacks},
        "epsilon_255": attacks[0]["epsilon_255"] if attacks else None,
        "seconds": round(spent["seconds"], 1),
        "cpu_seconds": spent["cpu_seconds"],
        "params_sha256": found["checkpoint"]["params_sha256"],
        "config_sha256": found["config_sha256"],
        "versions": found["versions"],
    }


def summarize(study: Study, failed: Failed) -> dict:
    """The value of `study.json`. failed: of this command's attempts."""
    scores = selection(study)
    rates = choose(study, scores)
    results = {run: result(study, run) for run in final_runs(study, rates)}
    devices = [found["execution"]["device"] for found in results.values() if found]
    missing = []
    for row in study.rows:
        for seed in study.seeds:
            run = Training(FINAL, row, seed, rates.get(row))
            if not results.get(run):
                code, reason = _why_missing(study, run, failed)
                missing.append({"row": row, "seed": seed, "reason": reason, "code": code})
    return {
        **identity(study),
        "rows": list(study.rows),
        "seeds": list(study.seeds),
        "rates": list(study.rates),
        "rule": rule(study),
        "selection": scores,
        "chosen": rates,
        "runs": [cell(study, run, found) for run, found in results.items() if found],
        "missing": missing,
        "device": ", ".join(dict.fromkeys(devices)),
        "cores": os.cpu_count(),
    }


def _why_missing(study: Study, run: Training, failed: Failed) -> tuple[int | None, str]:
    """(exit code, reason) of a cell without a result; the code is None if nothing failed so far."""
    if run.rate is None:
        codes = [failed[one][0] for one in selection_runs(study) if one.row == run.row and one in failed]
        return _worst(codes), "its learning rate is not chosen yet" if not codes else "the choice of its rate failed"
    if run in failed:
        code, complaint = failed[run]
        return _worst([code]), f"failed with exit code {code}{': ' * bool(complaint)}{complaint}"
    if why := record(study, run)["not_finite"]:
        return 2, why
    return None, "not run yet"


def _worst(codes: list[int]) -> int | None:
    """1 if any of the exit codes is a failure, 2 if all are refusals, None if there are none."""
    return (2 if set(codes) == {2} else 1) if codes else None


def identity(study: Study) -> dict:
    """What all runs in a study's folder have in common."""
    source = study.source or study.defaults.source
    return {"study": study.name, "config": study.defaults.config, "source": source, "settings": study.settings}


def changes(study: Study) -> str:
    """How the study in the folder differs from this one; "" if it does not, or nothing is done."""
    old = read(os.path.join(study.workdir, "study.json"))
    if not isinstance(old, dict) or not (old.get("selection") or old.get("runs")):
        return ""
    new = identity(study)
    return "; ".join(differences({name: old.get(name) for name in new}, new))


def write(study: Study, failed: Failed) -> dict:
    """Writes `study.json`; returns its value."""
    summary = summarize(study, failed)
    try:
        write_json(os.path.join(study.workdir, "study.json"), summary, seal=True)
    except OSError as error:
        mend = "correct that and run the same command again; every finished run is kept"
        raise errors.refused(f"{study.workdir}/study.json cannot be written", error, mend) from error
    return summary


def paper_identity(paper: Paper) -> dict:
    """What all runs of tables and figures in a folder have in common."""
    return {name: getattr(paper, name) for name in ("scale", "source", "settings", "files")}


def write_paper(paper: Paper) -> None:
    """Writes what the runs in the folder have in common, once there is any."""
    if anything_done(paper):
        write_json(os.path.join(paper.workdir, PAPER), paper_identity(paper), seal=True)


def paper_changes(paper: Paper) -> str:
    """How the runs in the folder differ from those asked for; "" if they do not, or there are none."""
    old, new = read(os.path.join(paper.workdir, PAPER)), paper_identity(paper)
    return "; ".join(differences(old, new)) if isinstance(old, dict) else ""
