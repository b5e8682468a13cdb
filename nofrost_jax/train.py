"""The training loop: the same for every method, net and data set. Re-running a command resumes it, bit for bit."""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import data, errors, fields, keys, methods, metrics, models, optim, parallel, progress, selection
from nofrost_jax.checkpoint import load_variables
from nofrost_jax.classifier import at_gamma, check_net, create_model
from nofrost_jax.config import check_devices, for_training
from nofrost_jax.data import skips
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.evaluate import evaluate_run
from nofrost_jax.evaluation import results, runs
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.files import remove_tree
from nofrost_jax.processes import require_joined
from nofrost_jax.saving import Checkpoints
from nofrost_jax.state import TrainState
from nofrost_jax.workdir import check_checkpoint, check_config, check_start, check_workdir, write_config, write_notes


def train(config: ConfigDict | None, workdir: str, force: bool = False, output: str = "") -> None:
    """Trains (or resumes) the config in `workdir`, then evaluates the result. `output` must be "". Raises UserError or
    Preempted."""
    if output:
        raise UserError("--output is for --mode=evaluate; a training writes to its --workdir")
    config = for_training(config)
    check_workdir(workdir)
    check_start(config, workdir)
    dataset = data.open(config)
    check_net(config)
    devices = parallel.Devices()
    require_joined()
    check_devices(config, devices.count, jax.process_count(), create_model(config.model).has_batch_stats)
    with parallel.StopSignal() as stop, parallel.exclusive(os.path.join(workdir, "lock"), "a training"):
        check_config(config, workdir, force)
        for line in [*methods.TABLE[config.method.name].notes(config), *dataset.notes]:
            parallel.say(f"note: {line}")
        evaluator = runs.evaluator(config, devices, dataset)  # one for both, so that each attack compiles once
        fit(config, workdir, dataset, devices, evaluator, stop, force)
        with errors.machine("the training is done and saved"):
            evaluate_run(config, workdir, dataset, evaluator, stop, reuse=True, final=True)


def fit(
    config: ConfigDict,
    workdir: str,
    dataset: data.Dataset,
    devices: parallel.Devices,
    evaluator: Evaluator | None,
    stop: parallel.StopSignal,
    force: bool = False,
) -> TrainState:
    """Trains to the end, from the newest checkpoint if there is one; returns the final TrainState, on all devices.

    config: resolved. evaluator: measures the net during training. stop: asked after every step. Raises Preempted after
    a signal, UserError if the loss or a gradient is not finite, MachineError.
    """
    with errors.machine(errors.INTACT):
        trainer = Trainer(config, workdir, dataset, devices, evaluator, stop, force)
    with contextlib.closing(trainer), errors.machine(trainer.kept):
        return trainer.loop()


class Trainer:
    """What a training holds: state, step function, input, writers, checkpoints."""

    def __init__(self, config, workdir, dataset, devices, evaluator, stop, force) -> None:
        self.config, self.workdir, self.devices, self.evaluator, self.stop = config, workdir, devices, evaluator, stop
        self.dataset, self.per_epoch = dataset, dataset.steps_per_epoch
        self.total_steps = config.epochs * self.per_epoch
        self.main = parallel.is_main_process()
        self.root = jax.random.key(config.seed)

        model = create_model(config.model, axis_name=parallel.AXIS)
        method = methods.TABLE[config.method.name]
        optimizer = optim.create(config, self.per_epoch, method.updates(config))
        self.learning_rate = optim.learning_rate(config, self.per_epoch)
        self.method_step = method.make_step(model, optimizer, config, self.per_epoch)
        self.checkpoints = Checkpoints(workdir, config.checkpoint.keep)
        self.best = selection.start(config, workdir, devices, dataset, evaluator)
        variables = self._first_variables(model, config.data.image_size)
        begun = method.begin(config, config.data.image_size)
        self.state = devices.replicate(TrainState.create(variables, optimizer, begun))
        self.sums, self.own_sums, self.replaced = metrics.Sums(), metrics.Sums(), []  # the last two: this process's
        images = parallel.on_main(lambda: dataset.training_fingerprint)
        self.identity = fields.identity(config) | {"training_set": images}  # saved with every checkpoint
        self.start_step, self.evaluation_due, written = self._restore(force)
        self._describe(variables)
        if self.main:  # after `_restore`, which can still refuse a forced config
            write_config(config, workdir, force)
            selection.put_aside(config, workdir)  # after config.json, which says whose choice counts
            write_notes(method.notes(config), workdir)
        self.writer = metrics.Writer(workdir, active=self.main, tensorboard=config.log.tensorboard)
        self.writer.rewind(self.start_step, written, self.evaluation_due)
        self.progress = progress.Steps(self.total_steps, self.per_epoch, config.batch_size, self.start_step, self.main)

    def loop(self) -> TrainState:
        """All remaining steps. Metrics are read one step late, so that devices never wait for the host."""
        if self.evaluation_due:
            self._evaluate(self.start_step)
        if self.start_step >= self.total_steps:
            return self.state
        self._stop_if(self.stop.requested())  # before compiling, which can take minutes
        batches = self.dataset.train_batches(self.start_step, jax.process_index(), jax.process_count())
        key = self.devices.replicate(keys.named(self.root, "train"))
        step_fn, unread = None, None
        for step, batch in zip(range(self.start_step + 1, self.total_steps + 1), self._timed(batches), strict=False):
            step_fn = step_fn or self._compile(batch, key)
            self.state, step_metrics = step_fn(self.state, batch, key)
            self.progress.at(step)
            self.checkpoints.check()
            if unread:
                self._read(*unread)
            unread = (step, step_metrics)
            stop, last = self.stop.requested(), step == self.total_steps
            log = step % self.config.log.every_steps == 0 or last
            evaluate = self._is_evaluation(step) or (self.best is not None and self.best.is_due(step))
            save = step % self.config.checkpoint.every_steps == 0 or last or stop or evaluate
            if log or save:
                self._read(*unread)
                unread = None
                self.sums.add(metrics.over_processes(self.own_sums.state))
                self.own_sums = metrics.Sums()
            if log:
                self._log(step)
            if save:
                self._save(step, evaluation_due=evaluate)
            self._stop_if(stop)
            if evaluate:
                self._evaluate(step)
        self.checkpoints.wait()
        return self.state

    def close(self) -> None:
        self.progress.close()
        self.writer.close()
        self.checkpoints.close()

    def _first_variables(self, model: nn.Module, image_size: int) -> dict[str, Any]:
        """Random variables, or those of `config.start_from`. A resumed run replaces them."""
        variables = models.init(model, keys.named(self.root, "init"), image_size)
        if self.config.start_from and not self.checkpoints.steps:
            with errors.about(f"config.start_from={self.config.start_from}"):
                _, variables, _ = load_variables(self.config.start_from, variables)
        return variables

    def _describe(self, variables: dict[str, Any]) -> None:
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        parallel.say(
            f"{self.config.model.name}: {count:,} parameters; {self.total_steps} steps of {self.config.batch_size} "
            f"images ({self.per_epoch} an epoch) on {self.devices.describe()}"
            + f", matmul precision {self.config.matmul_precision}"
            * (self.config.matmul_precision != "default")
        )
        if self.main:
            metrics.write_overview(variables, self.workdir)

    def _restore(self, force: bool) -> tuple[int, bool, dict[str, Any] | None]:
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.state)
        restored = self.checkpoints.restore(abstract.items)
        if restored is None:
            return 0, False, None
        step, items, meta = restored
        changed = check_checkpoint(meta, self.config, self.workdir, self.identity["training_set"], force)
        if self.best:
            parallel.on_main(functools.partial(self.best.require, meta.get("best"), changed))
        if changed:
            self.identity["forced"] = [*meta.get("forced", []), *(f"from step {step}: {line}" for line in changed)]
            self.checkpoints.amend(step, self.identity)
        else:
            self.identity |= {"forced": meta["forced"]} if "forced" in meta else {}
        self.state, self.sums = TrainState.from_items(items), metrics.Sums(meta["sums"])
        parallel.say(f"resuming from the checkpoint of step {step}")
        return step, meta["evaluation_due"], meta.get("metrics")

    def kept(self) -> str:
        return f"step {step} is saved" if (step := self.checkpoints.saved()) else "no step was saved yet"

    def _stop_if(self, stop: bool) -> None:
        if stop:
            self.checkpoints.wait()
            raise Preempted(f"stopped by {self.stop.name}; {self.kept()}, run the same command again to continue")

    def _timed(self, batches: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, jax.Array]]:
        """Prefetched batches; the progress line is told how long the loop waits for each."""
        placed = self.devices.prefetch(skips.counted(batches, self.replaced))
        while True:
            start = time.perf_counter()
            batch = next(placed, None)
            self.progress.wait(time.perf_counter() - start)
            if batch is None:
                return
            yield batch

    def _compile(self, batch: dict[str, jax.Array], key: jax.Array) -> Callable:
        """Compiles the step before its first call, with one trace for the whole run, and says how long it took."""
        parallel.say("compiling the training step ...")
        start = time.perf_counter()
        compiled = self.devices.compile_step(self.method_step, self.state, batch, key)
        seconds = time.perf_counter() - start
        self.progress.pause(seconds)
        parallel.say(f"compiled in {progress.duration(seconds)}")
        return compiled

    def _read(self, step: int, step_metrics: dict[str, jax.Array]) -> None:
        """Adds a step's metrics to the window; the run stops at the first one that is not finite."""
        self.own_sums.add(self.replaced.pop(0))
        if broken := self.sums.add(step_metrics):
            self._fail(broken, step)

    def _fail(self, broken: list[str], step: int) -> NoReturn:
        raise UserError(
            f"not finite at step {step}: {', '.join(broken)}; {self.kept()}; lower config.optimizer.learning_rate or "
            "set config.optimizer.agc, in a new --workdir"
        )

    def _log(self, step: int) -> None:
        means = self.sums.means()
        scalars = {f"train/{name}": value for name, value in means.items()}
        scalars["train/learning_rate"] = float(self.learning_rate(np.int32(step - 1)))
        self.writer.write(step, scalars, self.progress.line(step, means))

    def _is_evaluation(self, step: int) -> bool:
        """Every so many epochs, except at the end, which has an evaluation of its own with a result file."""
        every = self.config.evaluation.every_epochs * self.per_epoch
        return bool(every) and step % every == 0 and step < self.total_steps

    def _evaluate(self, step: int) -> None:
        """Measures what is due at a step: for the metrics, and for the choice of a checkpoint."""
        start = time.perf_counter()
        scalars = self._measure(step) if self._is_evaluation(step) else {}
        if self.best and self.best.is_due(step):
            self.checkpoints.wait()  # a run never holds the choice of a state that it could not go on from
            scalars["eval/selection"] = self.best.measure(self.state, step, self.stop)
        self.writer.write(step, scalars)
        seconds = time.perf_counter() - start
        self.progress.pause(seconds)
        shown = "  ".join(f"{name.removeprefix('eval/')} {value:.2%}" for name, value in scalars.items())
        parallel.say(f"evaluated step {step}: {shown}  ({progress.duration(seconds)})")

    def _measure(self, step: int) -> dict[str, float]:
        names = self.config.evaluation.while_training
        folder = os.path.join(self.workdir, "evaluations", f"step_{step}")
        variables = at_gamma(self.state.variables, self.config.evaluation.mbn_gamma)
        outcomes = self.evaluator.run(variables, self.stop, folder, names, progress=self.main)
        parallel.wait_for_all(f"evaluation of step {step}")
        if self.main:
            remove_tree(folder)
        robust = {f"eval/{name}": results.robust_accuracy(one) for name, one in outcomes["protocols"].items()}
        return {"eval/clean": float(np.mean(outcomes["correct"])), **robust}

    def _save(self, step: int, evaluation_due: bool) -> None:
        """Begins to save the state. evaluation_due: the evaluation comes next, also in a run that resumes here."""
        start = time.perf_counter()
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(self.state.variables))):
            self._fail(["a parameter or a batch statistic"], step)  # metrics cover parameters only
        meta = {"step": step, "sums": self.sums.state, "evaluation_due": evaluation_due, "metrics": self.writer.written}
        meta |= self.identity | ({"best": self.best.kept()} if self.best else {})
        self.checkpoints.save(step, self.state.items, meta)
        self.progress.pause(time.perf_counter() - start)
