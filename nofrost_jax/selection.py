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
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(temporary, self.folder)
