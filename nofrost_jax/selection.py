"""Which checkpoint of a run counts: the last, or the one that was most robust while training (the authors' `best_RA`).

With `config.checkpoint.select` = best_ra_val the run is measured on the evaluation split itself, as the authors' code
does it; results of such a run carry a flag. best_ra_holdout measures on training images that are held out for it. The
attack is theirs: PGD with 5 steps of 1 pixel value, every `evaluation.every_epochs` and after each of the last tenth of
the epochs.
"""

import json
import os
import shutil

from ml_collections import ConfigDict

from nofrost_jax import checkpoint, parallel, validate
from nofrost_jax.data import check
from nofrost_jax.evaluation import results
from nofrost_jax.evaluation.engine import Evaluator

LABEL = "selection"


def evaluation_config(config):
    """The run's config with the selection's split and its single attack."""
    own = config.copy_and_resolve_references()
    with own.unlocked():
        if config.checkpoint.select == "best_ra_holdout":
            own.data.eval_split = "holdout"
        own.evaluation.attacks = ConfigDict({LABEL: selection_attack(config)})
        own.evaluation.while_training = type(own.evaluation.while_training)()
        own.evaluation.limit = own.evaluation.save_images = 0
    return own


def selection_attack(config):
    """PGD-5 with steps of 1 pixel value at the training radius."""
    options = {"name": "pgd", "protocol": "selection", "steps": 5, "step_rule": "fixed:1"}
    return options | {"epsilon_255": config.attack.epsilon_255}


def start(config, workdir, devices, per_epoch):
    """The run's Best, or None where its last checkpoint counts.

    What another rule or attack chose in this folder, before `--force`, is put aside as `best_before`.
    """
    folder = os.path.join(workdir, checkpoint.BEST)
    if parallel.is_main_process():
        _finish_replacing(folder)
        kept = checkpoint.read_selection(folder)
        if kept and (kept["rule"], kept["attack"]) != (config.checkpoint.select, selection_attack(config)):
            shutil.rmtree(f"{folder}_before", ignore_errors=True)
            os.replace(folder, f"{folder}_before")
    return None if config.checkpoint.select == "last" else Best(config, workdir, devices, per_epoch)


def _finish_replacing(folder):
    """Brings the earlier choice back where a run was killed after putting it aside and before the new one was there."""
    if os.path.isdir(f"{folder}.old"):
        if os.path.exists(folder):
            shutil.rmtree(f"{folder}.old")
        else:
            os.replace(f"{folder}.old", folder)


class Best:
    """Keeps the most robust variables so far in `WORKDIR/best/`, an export with `selection.json` beside it.

    Of equal ones the earlier stays, so that a resumed run, which measures some steps again, ends with the same.
    """

    def __init__(self, config, workdir, devices, per_epoch):
        self.folder, self.config, self._per_epoch = os.path.join(workdir, checkpoint.BEST), config, per_epoch
        own = evaluation_config(config)
        self._evaluator = Evaluator(own, devices, check(own, splits=("evaluation",)))

    def is_due(self, step):
        """After every `evaluation.every_epochs`, after each of the last tenth of the epochs, and at the end."""
        epoch, rest = divmod(step, self._per_epoch)
        every = self.config.evaluation.every_epochs
        return rest == 0 and ((every and epoch % every == 0) or epoch > self.config.epochs - self.config.epochs / 10)

    def look(self, state, step, stop):
        """Measures the state after `step`; returns its robust accuracy. Raises Preempted as an evaluation does."""
        folder = f"{self.folder}_outcomes"
        outcomes = self._evaluator.run(state.variables, stop, folder)
        found = results.robust_accuracy(outcomes["plans"][LABEL])
        parallel.wait_for_all(f"selection at step {step}")
        if parallel.is_main_process():
            shutil.rmtree(folder)
            kept = checkpoint.read_selection(self.folder)
            if kept is None or found > kept["robust_accuracy"]:
                self._keep(state, {"step": step, "robust_accuracy": found})
        parallel.wait_for_all(f"selection at step {step} is kept")
        return found

    def _keep(self, state, record):
        record |= {"rule": self.config.checkpoint.select, "attack": selection_attack(self.config)}
        record["n"], temporary = self._evaluator.count, f"{self.folder}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        checkpoint.export(temporary, state.variables, json.dumps(validate.to_plain(self.config), indent=2) + "\n")
        with open(os.path.join(temporary, checkpoint.SELECTION), "w") as file:
            json.dump(record, file, indent=2)
        if os.path.isdir(self.folder):
            os.replace(self.folder, f"{self.folder}.old")
        os.replace(temporary, self.folder)
        shutil.rmtree(f"{self.folder}.old", ignore_errors=True)
