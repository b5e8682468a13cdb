"""What `main.py` can do: train, evaluate, dry_run. Each validates everything first; what it refuses writes nothing."""

import os

import jax
from ml_collections import ConfigDict

from nofrost_jax import data, errors, methods, models, names, parallel
from nofrost_jax import dry_run as dry
from nofrost_jax.checkpoint import read_config, require_variables
from nofrost_jax.classifier import create_model
from nofrost_jax.config import check_devices, check_evaluation_devices, for_evaluation, prepare
from nofrost_jax.errors import UserError
from nofrost_jax.evaluate import evaluate as evaluate_run
from nofrost_jax.evaluate import evaluate_shift
from nofrost_jax.evaluation import runs, sweep
from nofrost_jax.shift import sets, suites
from nofrost_jax.train import fit
from nofrost_jax.workdir import check_config, check_folder, check_start, check_workdir

EVALUATED = "what was evaluated so far is kept"


def train(config, workdir, force=False, output=""):
    """Trains (or resumes) the config in `workdir`, then evaluates the result. Raises UserError, also for an `output`
    elsewhere, or Preempted."""
    if output:
        raise UserError("--output is for --mode=evaluate; a training writes to its --workdir")
    _refuse_suite(config)
    config = prepare(config)
    check_workdir(workdir)
    check_start(config, workdir)
    dataset = data.open(config)
    _check_net(config, config.data.image_size)
    devices = parallel.Devices()
    parallel.require_joined()
    uses_groups = create_model(config.model).has_batch_stats
    check_devices(config, devices.count, jax.process_count(), uses_groups)
    with parallel.StopSignal() as stop, parallel.exclusive(os.path.join(workdir, "lock"), "a training"):
        check_config(config, workdir, force)
        for line in [*methods.TABLE[config.method.name].notes(config), *dataset.notes]:
            parallel.say(f"note: {line}")
        evaluator = runs.evaluator(config, devices, dataset)  # one for both, so that each attack compiles once
        fit(config, workdir, dataset, devices, evaluator, stop, force)
        with errors.machine("the training is done and saved"):
            evaluate_run(config, workdir, dataset, evaluator, stop, reuse=True, final=True)


def evaluate(config, workdir, output="", force=False):
    """Evaluates the run in `workdir`; `config` (or None) says how and where the data is, never what the net is.

    Taken from `config`: `EVALUATION_FIELDS`, and `attacks`, which picks some; a note names other differences.
    output: where results and outcomes go, if not into the run's folder, which then needs only to be read. force: give
    another evaluation's result of the same name a new one; otherwise UserError is raised.
    With `evaluation.mbn_gammas`, once for each weight, as NAME_gamma_WEIGHT; weights that are done are not done again.
    """
    if not workdir:
        raise UserError("--workdir is missing; give the folder of the run to evaluate")
    if suites.is_suite(config):
        _evaluate_shift(config, workdir, output, force)
        return
    own, left_out = for_evaluation(ConfigDict(read_config(workdir)), config)
    own = prepare(own)
    _check_output(workdir, output)
    dataset = data.open(own, check=("evaluation",))
    _check_net(own, own.data.image_size)
    devices = parallel.Devices()
    parallel.require_joined()
    check_evaluation_devices(own, devices.count, jax.process_count())
    _note(left_out)
    for line in dataset.notes:
        parallel.say(f"note: {line}")
    with parallel.StopSignal(each_alone=True) as stop, errors.machine(EVALUATED):
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


def _check_output(workdir, output):
    """Raises MachineError, or UserError, unless results can be written."""
    if output:
        check_workdir(output, "--output")
    else:
        check_workdir(workdir, mend="give --output=FOLDER, where the results shall go")


def _evaluate_shift(config, workdir, output, force):
    """Evaluates the run in `workdir` on the sets of a config like configs/eval/shift.py."""
    own, suite, left_out = _shift(config, workdir)
    _check_output(workdir, output)
    if not force:  # soon, and once more when the parameters are known
        names.make_room(own, None, output or workdir)
    jobs, missing = sets.jobs(suite, own)
    _check_net(own, own.data.image_size)
    devices = parallel.Devices()
    parallel.require_joined()
    check_evaluation_devices(own, devices.count, jax.process_count())
    _note(left_out)
    with parallel.StopSignal(each_alone=True) as stop, errors.machine(EVALUATED):
        evaluate_shift(own, workdir, suite, jobs, missing, devices, stop, force, output)


def _dry_run_shift(config, workdir, output):
    """Prints what of a suite of evaluation sets is there and what is missing: for the run in `workdir`, or, without
    one, for a run on ImageNet."""
    lacking = []
    if workdir:
        own, suite, left_out = _shift(config, workdir)
        _note(left_out)
        lacking = _lacking(own, None, workdir, output)
    else:
        rest, section = suites.section_of(config)
        own = suites.imagenet_run(rest)
        suite = suites.read(section, own)
        where = own.data.data_dir or "the current folder, config.data.data_dir not being given"
        print(
            f"note: without --workdir this is for a run on ImageNet at {own.data.image_size} pixels; looked in {where}"
        )
    there, missing = sets.describe(suite, own)
    print(*(f"there: {line}\n" for line in there), sep="", end="")
    dry.tell([*lacking, *missing])


def _lacking(config, dataset, workdir, output):
    """What an evaluation lacks beside its data, a line each. Notes another result of its name, for --force."""
    lacking = []
    for check in (
        lambda: require_variables(workdir),
        lambda: check_evaluation_devices(config, parallel.Devices().count, jax.process_count()),
    ):
        try:
            check()
        except UserError as error:
            lacking.append(str(error))
    named = sweep.configs(config).values() or [config] if dataset or suites.is_suite(config) else []
    for one in named:
        try:
            names.make_room(one, dataset, output or workdir)
        except UserError as error:
            print(f"note: {error}")
    return lacking


def _shift(config, workdir):
    """(the run's resolved config with the suite's values in it, the Suite, what was left out of the config)."""
    rest, section = suites.section_of(config)
    own, left_out = for_evaluation(ConfigDict(read_config(workdir)), rest)
    own = prepare(own)
    suite = suites.read(section, own)
    with own.unlocked():
        own.shift = section
    return own, suite, left_out


def dry_run(config, workdir, output=""):
    """Prints what `train` would do: config, model size, steps, cost, memory, and what is missing. Writes nothing, and
    needs no right to. Raises Missing if anything is.

    Of a config in configs/eval: what an evaluation of the run in `workdir` costs. Of one like configs/eval/shift.py:
    which evaluation sets are there and which are missing, for that run or, without one, for a run on ImageNet.
    """
    if suites.is_suite(config):
        _dry_run_shift(config, workdir, output)
        return
    if workdir and _says_only_how_to_evaluate(config):
        own, left_out = for_evaluation(ConfigDict(read_config(workdir)), config)
        own = prepare(own)
        _note(left_out)
        problems, dataset = data.examine(own, ("evaluation",))
        lacking = [*_lacking(own, dataset, workdir, output), *problems]
        dry.describe_evaluation(list(sweep.configs(own).values()) or [own], dataset, lacking)
        return
    _refuse_suite(config)
    config = prepare(config)
    missing = []
    for check in (check_folder, check_start, *([check_config] if workdir else [])):
        try:
            check(config, workdir)
        except UserError as error:
            missing.append(str(error))
    dry.describe(config, missing)


def _says_only_how_to_evaluate(config):
    """Whether a config says nothing of a net, only how to evaluate one: those in configs/eval."""
    return config is not None and "evaluation" in config and "model" not in config


def _refuse_suite(config):
    """Raises UserError for a config in configs/eval."""
    if _says_only_how_to_evaluate(config):
        raise UserError(
            "--config tells how to evaluate a run, as those in configs/eval do, not how to train one; use "
            "--mode=evaluate --workdir=RUN (or --mode=dry_run, to see what that costs), or give the config of a "
            "training run, e.g. --config=configs/digits.py"
        )


def _note(left_out):
    """Says what of --config an evaluation does not take."""
    if left_out and parallel.is_main_process():
        kept = "; ".join(left_out)
        print(f"note: from --config come only how to evaluate and where the data is; the run keeps its own: {kept}")


def _check_net(config, size):
    """Raises UserError where the net cannot take images of this size; shapes only, nothing is computed."""
    model = create_model(config.model)
    images = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    variables = jax.eval_shape(lambda key: models.init(model, key, size), jax.random.key(0))
    jax.eval_shape(lambda variables, images: model.apply(variables, images, train=False), variables, images)
