"""`--mode=evaluate`: a run's newest checkpoint, or an export, under attack or on other evaluation sets."""

import functools
import os
import time

import jax

from nofrost_jax import data, errors, fields, files, models, names, parallel, progress
from nofrost_jax.checkpoint import load_variables, tree_sha256
from nofrost_jax.classifier import at_gamma, check_net, create_model
from nofrost_jax.config import check_evaluation_devices, for_sets, of_run
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import pictures, results, runs, sweep, table
from nofrost_jax.shift import run as shift
from nofrost_jax.shift import sets, suites
from nofrost_jax.shift import table as shift_table
from nofrost_jax.workdir import check_workdir, read_notes

MIXTURE = ("gamma", "interpolation", "p", "seed")
_KEPT = "what was evaluated so far is kept"


def evaluate(config, workdir, output="", force=False):
    """Evaluates the run in `workdir`; `config` (or None) says how and where the data is, never what the net is.

    Taken from `config`: `config.EVALUATION_FIELDS`, and `evaluation.only`, which picks some; a note names other
    differences.
    output: where results and outcomes go, if not into the run's folder, which then needs only to be read. force: give
    another evaluation's result of the same name a new one; otherwise UserError is raised.
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
    check_net(own)
    devices = parallel.Devices()
    parallel.require_joined()
    check_evaluation_devices(own, devices.count, jax.process_count())
    note(left_out)
    for line in dataset.notes:
        parallel.say(f"note: {line}")
    with parallel.StopSignal(each_alone=True) as stop, errors.machine(_KEPT):
        evaluator = runs.evaluator(own, devices, dataset)
        if not own.evaluation.mbn_gammas:
            evaluate_run(own, workdir, dataset, evaluator, stop, force=force, output=output)
            return
        found, options = {}, {"reuse": True, "force": force, "output": output}
        for gamma, at_gamma in sweep.configs(own).items():
            evaluator = runs.evaluator(at_gamma, devices, dataset, evaluator.programs)
            found[gamma] = evaluate_run(at_gamma, workdir, dataset, evaluator, stop, **options)
    if parallel.is_main_process():
        print(sweep.render(own, found), flush=True)


def _evaluate_sets(config, workdir, output, force):
    """Evaluates the run in `workdir` on the sets of a config like configs/eval/shift.py."""
    own, suite, left_out = for_sets(workdir, config)
    _check_output(workdir, output)
    if not force:  # soon, and once more when the parameters are known
        names.make_room(own, None, output or workdir)
    found, missing = sets.find(suite, own)
    check_net(own)
    devices = parallel.Devices()
    parallel.require_joined()
    check_evaluation_devices(own, devices.count, jax.process_count())
    note(left_out)
    with parallel.StopSignal(each_alone=True) as stop, errors.machine(_KEPT):
        restored, output = _restore(own, workdir), output or workdir
        with _exclusive(own, output):
            _make_room(own, None, output, restored, force)
            _evaluate_suite(own, output, suite, found, missing, devices, stop, *restored)


def _check_output(workdir, output):
    """Raises MachineError, or UserError, unless results can be written."""
    if output:
        check_workdir(output, "--output")
    else:
        check_workdir(workdir, mend="give --output=FOLDER, where the results shall go")


def note(left_out):
    """Says what of --config an evaluation does not take."""
    if left_out and parallel.is_main_process():
        kept = "; ".join(left_out)
        print(f"note: from --config come only how to evaluate and where the data is; the run keeps its own: {kept}")


def evaluate_run(config, workdir, dataset, evaluator, stop, reuse=False, final=False, force=False, output=""):
    """Writes `evaluations/NAME.json` and `.npz` of `config.evaluation` into the run's folder, or into `output`, which
    has the outcomes as well; returns the result.

    config: the run's resolved config, whose `evaluation` may have been replaced; `evaluator` is made of it, and of
    `dataset`, its data. stop: the StopSignal. reuse: show the result that is already there, if it is the same
    evaluation of the same parameters. force: give the result of something else that has this name another one, where
    otherwise UserError is raised. final: of the training itself, which does so, and waits where another command is at
    work on this result.
    """
    restored, output = _restore(config, workdir), output or workdir
    with _exclusive(config, output, stop if final else None):
        done = _make_room(config, dataset, output, restored, force or final)
        if done and reuse:
            parallel.say(table.render(done))
            parallel.say(f"written by an earlier run: {output}/evaluations/{done['name']}.json")
            return done
        return _evaluate(config, dataset, output, evaluator, stop, *restored)


def _make_room(config, dataset, output, restored, force):
    digest = restored[1]["params_sha256"]
    return parallel.on_main(functools.partial(names.make_room, config, dataset, output, digest, force))


def _exclusive(config, output, stop=None):
    """The lock of a result; others of the run, and its training, may go on meanwhile."""
    name = config.evaluation.name
    return parallel.exclusive(os.path.join(output, "evaluations", f"{name}.lock"), f"the evaluation {name}", stop)


def _evaluate(config, dataset, output, evaluator, stop, variables, checkpoint):
    main = parallel.is_main_process()
    if main:
        attacks = ", ".join(["clean", *config.evaluation.attacks])
        print(
            f"evaluating {attacks} on {evaluator.images.count} {dataset.eval_split} images of {config.data.source} ...",
            flush=True,
        )
    start, folder = time.perf_counter(), os.path.join(output, "evaluations", "outcomes")
    programs, digest = evaluator.programs, checkpoint["params_sha256"]
    earlier = dict(programs.compile_seconds)  # of evaluations before this one
    outcomes = evaluator.run(
        at_gamma(variables, config.evaluation.mbn_gamma), stop, folder, progress=main, digest=digest
    )
    compiling = {name: seconds - earlier.get(name, 0.0) for name, seconds in programs.compile_seconds.items()}
    summary = results.summarize(evaluator.protocols, outcomes, config.model.num_classes, compiling)
    result = describe(config, dataset, checkpoint, outcomes["index"], evaluator.images.chunk_size, summary)
    if main:
        path = results.save(output, result, results.columns(outcomes))
        print(table.render(result))
        print(f"written: {path}  ({progress.duration(time.perf_counter() - start)})", flush=True)
        for picture in pictures.save(output, config.evaluation.name, evaluator.protocols, outcomes):
            print(f"written: {picture}", flush=True)
    return result


def _evaluate_suite(config, output, suite, found, missing, devices, stop, variables, checkpoint):
    """Writes `evaluations/NAME.json` and `.npz` of a suite of sets. suite, found, missing: of `shift.sets`."""
    main, start = parallel.is_main_process(), time.perf_counter()
    if main:
        print(*shift.announcement(found, missing), sep="\n", flush=True)
    folder, digest = os.path.join(output, "evaluations", "outcomes"), checkpoint["params_sha256"]
    placed = devices.replicate(at_gamma(variables, config.evaluation.mbn_gamma))
    answers = shift.predict(found, runs.programs(config, devices), placed, digest, folder, stop, progress=main)
    dataset, index = shift.own_images(found, answers)
    summary = shift.summarize(suite, config, found, answers, missing)
    result = describe(config, dataset, checkpoint, index, config.evaluation.chunk_size, summary)
    if main:
        path = results.save(output, result, shift.columns(found, answers))
        print(shift_table.render(result))
        print(f"written: {path}  ({progress.duration(time.perf_counter() - start)})", flush=True)


def _restore(config, workdir):
    """(variables, the result's `checkpoint`) of a run, or of an export."""
    model, size = create_model(config.model), config.data.image_size
    abstract = models.abstract_variables(model, size)
    step, variables, meta = load_variables(workdir, abstract)
    checkpoint = {"path": os.path.relpath(workdir), "step": step, "params_sha256": tree_sha256(variables)}
    checkpoint |= {name: meta[name] for name in ("selection", "forced") if name in meta}
    return variables, checkpoint | ({"notes": notes} if (notes := read_notes(workdir)) else {})


def _mixture(section):
    """How the two branches of a mixture-BN net were weighed."""
    names = ("gamma", "interpolation") if section.mbn_interpolation != "random" else MIXTURE
    return {name: section[f"mbn_{name}"] for name in names}


def describe(config, dataset, checkpoint, index, chunk_size, summary):
    """The result as DESIGN's schema 1. dataset: the run's own images, None where they are not there; index: int [N],
    which of its evaluation images were evaluated; summary: what was found, the rest of the result."""
    choice = Choice.read(config.evaluation.limit, config.evaluation.ids)
    of, split, crop = (dataset.num_eval, dataset.eval_split, dataset.eval_crop) if dataset else (0, "", "")
    chosen_by = checkpoint.get("selection", {}).get("rule", "")
    raised = {"selected_on_evaluation"} if chosen_by.endswith("_val") else set()
    raised |= {"partial"} if len(index) < of else set()
    summary["flags"] = sorted({*summary["flags"], *raised})
    return {
        "schema": 1,
        "name": config.evaluation.name,
        "checkpoint": checkpoint,
        "config_sha256": fields.identity(config)["config_sha256"],
        "asked": names.asked_for(config, dataset),
        "recipe": config.recipe,
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
        **({"mbn": _mixture(config.evaluation)} if config.model.norm == "mbn" else {}),
        **results.circumstances(config.evaluation.batch_size, chunk_size),
        **summary,
    }
