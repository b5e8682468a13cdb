"""Which checkpoint of a run counts: the last, or the best one while training, chosen as the authors' code does it.

`checkpoint.select` = best_ra_val measures the run on the evaluation split itself under their attack and keeps the most
robust state (their best_RA.pth); best_sa_val keeps the most accurate on clean images (best_SA.pth, the only one of
standard training). Results of such runs carry a flag. best_ra_holdout is best_ra_val on training images that are held
out for it. Ties go to the later state.

Their attack is PGD with 5 steps of the training attack's size, 1 pixel value at radius 8 and ten steps, 0.25 and 0.5 at
2 and 4 (PGDAT.py:163), after epochs 1, 11, 21, ... (`evaluation.every_epochs` apart) and each of the last tenth (:283);
in NoFrost*'s script with the training's number of steps, every 7 epochs and in the last fifth (CRT_TDAT.py:164, :286).
They measure clean accuracy after every epoch.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from nofrost_jax import checkpoint, files, parallel
from nofrost_jax.attacks import threat
from nofrost_jax.classifier import at_gamma
from nofrost_jax.data.dataset import Dataset
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import results, runs
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.programs import Programs
from nofrost_jax.fields import require_choice, to_plain
from nofrost_jax.state import TrainState

NAME = "selection"

SELECTIONS = ("last", "best_ra_val", "best_sa_val", "best_ra_holdout")


def check_rule(config: ConfigDict) -> None:
    """Raises UserError for an unknown rule, and for one that needs held-out images where there are none."""
    require_choice("checkpoint.select", config.checkpoint.select, SELECTIONS)
    if config.checkpoint.select == "best_ra_holdout" and not config.data.holdout:
        raise UserError(
            "config.checkpoint.select=best_ra_holdout chooses on held-out training images, but config.data.holdout=0; "
            "set it to a number of images, e.g. a tenth of the training set"
        )


def evaluation_config(config: ConfigDict) -> ConfigDict:
    """The run's config with the selection's split and its single attack."""
    own = config.copy_and_resolve_references()
    with own.unlocked():
        if config.checkpoint.select == "best_ra_holdout":
            own.data.eval_split = "holdout"
        attack = selection_attack(config)
        own.evaluation.attacks = ConfigDict({NAME: attack} if attack else {})
        own.evaluation.while_training = type(own.evaluation.while_training)()
        own.evaluation.limit = own.evaluation.classes = own.evaluation.save_images = 0
        own.evaluation.properties.measure = False
        own.evaluation.ids = ""
    return own


def selection_attack(config: ConfigDict) -> dict[str, Any] | None:
    """Options of the authors' attack at the training radius, or None where clean accuracy decides."""
    if config.checkpoint.select == "best_sa_val":
        return None
    training, radius = config.attack, config.attack.epsilon_255
    # The single steps of FastAT and FreeAT are not in their code: measured like the others.
    several = training.get("steps", 1) > 1 and "step_rule" in training
    rule, steps = (training.step_rule, training.steps) if several else ("nofrost", 10)
    size = 255 * threat.step_size(rule, radius / 255, steps, training.norm) or 1  # at radius 0 any size will do
    own = {"steps": training.steps if config.method.name == "augmented" else 5, "step_rule": f"fixed:{size:g}"}
    return {"name": "pgd", "protocol": "selection", **own, "epsilon_255": radius, "norm": training.norm}


def measures_after(config: ConfigDict, epoch: int) -> bool:
    """Whether a state is measured after `epoch`, from 1 to `config.epochs`."""
    if config.checkpoint.select == "best_sa_val":
        return True
    every, rest = config.evaluation.every_epochs, 0.8 if config.method.name == "augmented" else 0.9
    return epoch > int(rest * config.epochs) or bool(every and (epoch - 1) % every == 0)


def start(
    config: ConfigDict, workdir: str, devices: parallel.Devices, dataset: Dataset, evaluator: Evaluator | None = None
) -> "Best | None":
    """The run's Best, or None where its last checkpoint counts. evaluator: the run's, whose compiled programs serve the
    selection as well."""
    if parallel.is_main_process():
        _finish_replacing(os.path.join(workdir, checkpoint.BEST))
    if config.checkpoint.select == "last":
        return None
    return Best(config, workdir, devices, dataset, evaluator.programs if evaluator else None)


def put_aside(config: ConfigDict, workdir: str) -> None:
    """Renames what another rule or attack chose in this folder, before `--force`, to `best_before`."""
    folder = os.path.join(workdir, checkpoint.BEST)
    kept = checkpoint.read_selection(folder)
    if kept and not _same_rule(kept, config):
        files.remove_tree(f"{folder}_before", missing_ok=True)
        files.rename(folder, f"{folder}_before")


def _same_rule(kept: dict[str, Any], config: ConfigDict) -> bool:
    return (kept["rule"], kept["attack"]) == (config.checkpoint.select, selection_attack(config))


def _finish_replacing(folder: str) -> None:
    """Brings the earlier choice back where a run was killed between removing it and writing the new one."""
    if files.is_folder(f"{folder}.old"):
        if files.exists(os.path.join(folder, checkpoint.SELECTION)):
            files.remove_tree(f"{folder}.old")
        else:
            files.remove_tree(folder, missing_ok=True)  # in a bucket the half of one
            files.rename(f"{folder}.old", folder)


class Best:
    """Keeps the best variables so far in `WORKDIR/best/`, an export with `selection.json`.

    Ties go to the later state, so that a resumed run, which measures some steps again, ends with the same.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: str,
        devices: parallel.Devices,
        dataset: Dataset,
        programs: Programs | None = None,
    ) -> None:
        self.folder, self.config = os.path.join(workdir, checkpoint.BEST), config
        self._per_epoch, own = dataset.steps_per_epoch, evaluation_config(config)
        self._evaluator = runs.evaluator(own, devices, dataset.under(own), programs)

    def kept(self) -> dict[str, Any] | None:
        """How the kept variables were chosen, or None."""
        return checkpoint.read_selection(self.folder)

    def require(self, known: dict[str, Any] | None, forced: Sequence[str] = ()) -> None:
        """Raises UserError where the choice `known`, which was `kept` when the checkpoint was saved, is lost.

        forced: what --force changed in the config; the choice counts under the new config, too.
        """
        kept = self.kept()
        there = kept and _same_rule(kept, self.config)
        if known and _same_rule(known, self.config) and not there:
            raise UserError(
                f"{self.folder} is lost, where config.checkpoint.select={known['rule']} chose step {known['step']}; "
                "put it back, or begin again in a new --workdir"
            )
        if forced and there:
            files.write(os.path.join(self.folder, "config.json"), self._config_json())

    def _config_json(self) -> str:
        return json.dumps(to_plain(self.config), indent=2) + "\n"

    def is_due(self, step: int) -> bool:
        """Whether the state after `step` is measured: at the end of some epochs."""
        epoch, rest = divmod(step, self._per_epoch)
        return rest == 0 and measures_after(self.config, epoch)

    def measure(self, state: TrainState, step: int, stop: parallel.StopSignal) -> float:
        """Measures the state after `step`; returns its accuracy. Raises Preempted as an evaluation does."""
        folder = f"{self.folder}_outcomes"
        variables = at_gamma(state.variables, self.config.evaluation.mbn_gamma)
        outcomes = self._evaluator.run(variables, stop, folder, progress=parallel.is_main_process())
        protocol = outcomes["protocols"].get(NAME)
        found = float(np.mean(outcomes["correct"])) if protocol is None else results.robust_accuracy(protocol)
        parallel.wait_for_all(f"selection at step {step}")
        if parallel.is_main_process():
            files.remove_tree(folder)
            kept = checkpoint.read_selection(self.folder)
            if kept is None or found >= kept["accuracy"]:
                self._keep(state, {"step": step, "accuracy": found})
        parallel.wait_for_all(f"selection at step {step} is kept")
        return found

    def _keep(self, state: TrainState, record: dict[str, Any]) -> None:
        record |= {"rule": self.config.checkpoint.select, "attack": selection_attack(self.config)}
        record |= {"n": self._evaluator.images.count, "params_sha256": checkpoint.tree_sha256(state.variables)}
        temporary = f"{self.folder}.tmp"
        files.remove_tree(temporary, missing_ok=True)
        checkpoint.export(temporary, state.variables, self._config_json())
        files.write_json(os.path.join(temporary, checkpoint.SELECTION), record, seal=True)
        if files.is_folder(self.folder):
            files.rename(self.folder, f"{self.folder}.old")
        files.rename(temporary, self.folder)
        files.remove_tree(f"{self.folder}.old", missing_ok=True)
