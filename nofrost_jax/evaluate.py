"""`--mode=evaluate`: a run's newest checkpoint, or an export, under attack or on other evaluation sets."""

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from nofrost_jax import data, errors, fields, files, models, names, parallel, processes, progress
from nofrost_jax.analysis import bn_statistics
from nofrost_jax.checkpoint import load_variables, tree_sha256
from nofrost_jax.classifier import at_gamma, check_net, create_model
from nofrost_jax.config import check_evaluation_devices, for_sets, of_run
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import pictures, results, runs, sweep, table
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.results import Result
from nofrost_jax.shift import run as shift
from nofrost_jax.shift import sets, suites
from nofrost_jax.shift import table as shift_table
from nofrost_jax.workdir import check_workdir, read_notes

_KEPT = "what was evaluated so far is kept"


def evaluate(config: ConfigDict | None, workdir: str, output: str = "", force: bool = False) -> None:
    """Evaluates the run in `workdir`; `config` says how, and where the data is, never what the net is.

    Taken from `config`: `config.EVALUATION_FIELDS`, and `evaluation.only`, which picks some attacks; a note names other
    differences. output: where results and outcomes go, if not into the run's folder, which then needs only to be read.
    force: rename another evaluation's result that has the same name; otherwise UserError is raised.
    With `evaluation.mbn_gammas`, once for each weight, as NAME_gamma_WEIGHT; weights that are done are not done again.
    """
    if not workdir:
        raise UserError("--workdir is missing; give the folder of the run to evaluate")
    if suites.is_suite(config):
        _evaluate_sets(config, workdir, output, force)
        return
    own, left_out = of_run(workdir, config)
    _check_output(workdir, output)
    dataset = data.open(own, check=("evaluation",))
    devices = _devices(own, left_out)
    for line in dataset.notes:
        parallel.say(f"note: {line}")
    with parallel.StopSignal(each_alone=True) as stop, errors.machine(_KEPT):
        evaluator = runs.evaluator(own, devices, dataset)
        if not own.evaluation.mbn_gammas:
            evaluate_run(own, workdir, dataset, evaluator, stop, force=force, output=output)
            return
        found = {}
        for gamma, config_of_gamma in sweep.configs(own).items():
            evaluator = runs.evaluator(config_of_gamma, devices, dataset, evaluator.programs)
            found[gamma] = evaluate_run(
                config_of_gamma, workdir, dataset, evaluator, stop, reuse=True, force=force, output=output
            )
    parallel.say(sweep.render(own, found))


def _evaluate_sets(config: ConfigDict, workdir: str, output: str, force: bool) -> None:
    """Evaluates the run in `workdir` on the sets of a config like configs/eval/shift.py."""
    own, suite, left_out = for_sets(workdir, config)
    _check_output(workdir, output)
    if not force:  # early, and once more when the parameters are known
        names.make_room(own, None, output or workdir)
    found, missing = sets.find(suite, own)
    devices = _devices(own, left_out)
    with parallel.StopSignal(each_alone=True) as stop, errors.machine(_KEPT):
        (variables, checkpoint), output = _restore(own, workdir), output or workdir
        with _exclusive(own, output):
            digest, main, start = checkpoint["params_sha256"], parallel.is_main_process(), time.perf_counter()
            parallel.on_main(functools.partial(names.make_room, own, None, output, digest, force))
            parallel.say("\n".join(shift.announcement(found, missing)))
            programs, variables = runs.programs(own, devices), at_gamma(variables, own.evaluation.mbn_gamma)
            answers = shift.predict(found, programs, variables, digest, _outcomes(output), stop, progress=main)
            dataset, index = shift.own_images(found, answers)
            summary = shift.summarize(suite, own, found, answers, missing)
            result = make_result(own, dataset, checkpoint, index, own.evaluation.chunk_size, summary)
            if main:
                _save(output, result, shift.columns(found, answers), shift_table.render(result), start)


def _check_output(workdir: str, output: str) -> None:
    """Raises MachineError, or UserError, unless results can be written."""
    if output:
        check_workdir(output, "--output")
    else:
        check_workdir(workdir, mend="give --output=FOLDER, for the results")


def _devices(config: ConfigDict, left_out: Sequence[str]) -> parallel.Devices:
    """The devices, on which the net of a config can be evaluated. Raises UserError where it cannot."""
    check_net(config)
    devices = parallel.Devices()
    processes.require_joined()
    check_evaluation_devices(config, devices.count, jax.process_count())
    parallel.say(f"on {devices.describe()}")
    note(left_out)
    return devices


def note(left_out: Sequence[str]) -> None:
    """Says what of --config an evaluation does not take."""
    if left_out:
        kept = "; ".join(left_out)
        parallel.say(
            f"note: from --config come only how to evaluate and where the data is; the run keeps its own: {kept}"
        )


def evaluate_run(
    config: ConfigDict,
    workdir: str,
    dataset: data.Dataset,
    evaluator: Evaluator,
    stop: parallel.StopSignal,
    reuse: bool = False,
    final: bool = False,
    force: bool = False,
    output: str = "",
) -> Result:
    """Writes `evaluations/NAME.json` and `.npz` of `config.evaluation` into the run's folder, or into `output`, which
    has the outcomes as well; returns the result.

    config: the run's resolved config, whose `evaluation` may have been replaced; `evaluator` is made of it, and of
    `dataset`, its data. reuse: show the result that is already there, if it is the same evaluation of the same
    parameters. force: rename the result of something else that has this name; otherwise UserError is raised. final: the
    call is the training's own, which does so, and waits where another command is writing this result.
    """
    (variables, checkpoint), output = _restore(config, workdir), output or workdir
    digest, name = checkpoint["params_sha256"], config.evaluation.name
    with _exclusive(config, output, stop if final else None):
        make_room = functools.partial(names.make_room, config, dataset, output, digest, force or final)
        done = parallel.on_main(make_room)
        if done and reuse:
            if parallel.on_main(lambda: results.are_whole(output, name)):
                parallel.say(table.render(done))
                parallel.say(f"written by an earlier run: {output}/evaluations/{name}.json")
                return done
            parallel.say(f"{output}/evaluations/{name}.npz is missing or damaged; evaluating again")
        main, start, programs = parallel.is_main_process(), time.perf_counter(), evaluator.programs
        measured = ["clean", *(["properties"] if evaluator.properties else []), *config.evaluation.attacks]
        count, attacks = evaluator.images.count, ", ".join(measured)
        parallel.say(f"evaluating {attacks} on {count} {dataset.eval_split} images of {config.data.source} ...")
        earlier = dict(programs.compile_seconds)  # of evaluations before this one
        weighted = at_gamma(variables, config.evaluation.mbn_gamma)
        outcomes = evaluator.run(weighted, stop, _outcomes(output), progress=main, digest=digest)
        compiling = {key: seconds - earlier.get(key, 0.0) for key, seconds in programs.compile_seconds.items()}
        summary = results.summarize(evaluator.protocols, outcomes, config.model.num_classes, compiling)
        if evaluator.properties:
            summary |= {"properties": results.describe_properties(evaluator.properties, outcomes["properties"])}
            summary |= {"bn_statistics": bn_statistics.numbered(variables.get("batch_stats", {}))}
        result = make_result(config, dataset, checkpoint, outcomes["index"], evaluator.images.chunk_size, summary)
        if main:
            _save(output, result, results.columns(outcomes), table.render(result), start)
            for picture in pictures.save(output, name, evaluator.protocols, outcomes):
                print(f"written: {picture}", flush=True)
        return result


@contextlib.contextmanager
def _exclusive(config: ConfigDict, output: str, stop: parallel.StopSignal | None = None) -> Iterator[None]:
    """Holds the lock of one result; the run's training, and evaluations of other names, need not wait. Removes the
    temporary files of killed writers."""
    name, folder = config.evaluation.name, os.path.join(output, "evaluations")
    path = os.path.join(folder, f"{name}.lock")
    with parallel.exclusive(path, f"the evaluation {name}", stop):
        if parallel.is_main_process() and not files.is_url(path):
            outcomes = _outcomes(output)
            stores = [os.path.join(outcomes, name) for name in files.names(outcomes)]
            for place in (folder, f"{folder}/{name}_images", *stores):
                files.remove_leftovers(place, os.stat(path).st_mtime)
        yield


def _outcomes(output: str) -> str:
    return os.path.join(output, "evaluations", "outcomes")


def _save(output: str, result: Result, columns: Mapping[str, np.ndarray], text: str, start: float) -> None:
    """Writes a result, and prints it as `text` with the seconds since `start`."""
    path = results.save(output, result, columns)
    print(f"{text}\nwritten: {path}  ({progress.duration(time.perf_counter() - start)})", flush=True)


def _restore(config: ConfigDict, workdir: str) -> tuple[Any, dict[str, Any]]:
    """(variables, the result's `checkpoint`) of a run, or of an export."""
    abstract = models.abstract_variables(create_model(config.model), config.data.image_size)
    step, variables, meta = load_variables(workdir, abstract)
    path = workdir if files.is_url(workdir) else os.path.relpath(workdir)
    checkpoint = {"path": path, "step": step, "params_sha256": tree_sha256(variables)}
    checkpoint |= {name: meta[name] for name in ("selection", "forced") if name in meta}
    about = meta.get("about", {})  # of an export; a net from another's file was not trained as its config says
    checkpoint |= {name: about[name] for name in ("file", "file_sha256") if name in about}
    return variables, checkpoint | ({"notes": notes} if (notes := read_notes(workdir)) else {})


def make_result(
    config: ConfigDict,
    dataset: data.Dataset | None,
    checkpoint: dict[str, Any],
    index: np.ndarray,
    chunk_size: int,
    summary: dict[str, Any],
) -> Result:
    """The result as DESIGN's schema 1. dataset: the run's own images, None where they are not there; index: int [N],
    which of its evaluation images were evaluated; summary: what was found, the rest of the result."""
    choice = Choice.read(config.evaluation.limit, config.evaluation.ids, config.evaluation.classes)
    of, split, crop = (dataset.num_eval, dataset.eval_split, dataset.eval_crop) if dataset else (0, "", "")
    section, drawn = config.evaluation, ("p", "seed") if config.evaluation.mbn_interpolation == "random" else ()
    mixture = {name: section[f"mbn_{name}"] for name in ("gamma", "interpolation", *drawn)}
    chosen_by = checkpoint.get("selection", {}).get("rule", "")
    raised = ["selected_on_evaluation"] * chosen_by.endswith("_val") + ["partial"] * (len(index) < of)
    return {
        "schema": 1,
        "name": config.evaluation.name,
        "checkpoint": checkpoint,
        "config_sha256": fields.identity(config)["config_sha256"],
        "asked": names.asked_for(config, dataset),
        "recipe": config.recipe,
        "net": results.describe_net(config),
        "dataset": {
            "source": config.data.source,
            "split": split,
            "n": len(index),
            "of": of,
            "choice": str(choice) or "all",
            **choice.plain,
            "index_sha256": files.sha256(index.astype("<i8")),
            "crop": crop,
            "mean": list(config.data.mean),
            "std": list(config.data.std),
            "label_set": f"{config.model.num_classes} classes",
        },
        "training": {"dtype": config.model.dtype, "matmul_precision": config.matmul_precision},
        "precision": f"verdict float32 highest, attacks {config.evaluation.attack_dtype}",
        "seed": config.seed,
        **({"mbn": mixture} if config.model.norm == "mbn" else {}),
        **results.circumstances(config.evaluation.batch_size, chunk_size),
        **summary,
        "flags": sorted({*summary["flags"], *raised}),
    }
