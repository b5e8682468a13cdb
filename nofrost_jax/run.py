"""What `main.py` can do: train, evaluate, dry_run. Each validates everything first; what it refuses writes nothing."""

import contextlib
import signal
import threading

import jax
from ml_collections import ConfigDict

from nofrost_jax import attacks, data, methods, models, optim, parallel, validate
from nofrost_jax import dry_run as dry
from nofrost_jax.checkpoint import read_config
from nofrost_jax.classifier import create_model
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.evaluate import evaluate as evaluate_run
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.train import fit, prepare_workdir


def prepare(config):
    """The resolved config, with every value checked; no device and no file is touched."""
    if config is None:
        raise UserError("--config is missing; give a config file, e.g. --config=configs/digits.py")
    config = validate.resolve(config)
    choices = {
        "model.name": models.NAMES,
        "model.norm": models.NORMS,
        "model.stem": models.STEMS,
        "model.dtype": models.DTYPES,
        "model.bn_running": ("mean", "first"),
        "method.name": methods.NAMES,
        "attack.name": attacks.NAMES,
        "optimizer.schedule": optim.SCHEDULES,
        "data.augmentation": data.AUGMENTATIONS,
    }
    validate.check_config(config, choices=choices, is_source=data.is_known, create_attack=attacks.create)
    return config


def train(config, workdir, force=False):
    """Trains (or resumes) the config in `workdir`, then evaluates the result. Raises UserError, or Preempted."""
    config = prepare(config)
    validate.check_workdir(workdir)
    spec = data.check(config)
    devices = _checked_devices(config)
    prepare_workdir(config, workdir, force)
    with _preemptible():
        evaluator = Evaluator(config, devices)  # one for both, so that each attack compiles once
        fit(config, workdir, spec, devices, evaluator)
        evaluate_run(config, workdir, spec, devices, evaluator, reuse=True)


def evaluate(config, workdir):
    """Evaluates the run in `workdir` with its own config; `config` (or None) replaces its `evaluation` section."""
    if not workdir:
        raise UserError("--workdir is missing; give the folder of the run to evaluate")
    own = ConfigDict(read_config(workdir))
    if config is not None:
        own.evaluation = config.evaluation
    own = prepare(own)
    validate.check_workdir(workdir)
    spec = data.check(own)
    devices = _checked_devices(own)
    with _preemptible():
        evaluate_run(own, workdir, spec, devices, Evaluator(own, devices))


def dry_run(config, workdir):
    """Prints what `train` would do: config, model size, steps, cost, memory, and what is missing."""
    config = prepare(config)
    if workdir:
        validate.check_workdir(workdir)
    dry.describe(config)


@contextlib.contextmanager
def _preemptible():
    """Makes SIGTERM raise Preempted, where the training loop does not hear it itself: nothing is written by halves."""
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise Preempted("stopped by SIGTERM; run the same command again to go on")

    old_handler = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old_handler)


def _checked_devices(config):
    devices = parallel.Devices()
    uses_groups = create_model(config.model).has_batch_stats
    validate.check_devices(config, devices.count, jax.process_count(), uses_groups)
    return devices
