"""Names of results. A name stands for one evaluation of one set of parameters; no other result may overwrite it."""

import itertools
import os

from nofrost_jax import fields
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import results
from nofrost_jax.fields import differences, to_plain
from nofrost_jax.shift import suites

SHOWN = 3  # differences in a message


def asked_for(config, dataset):
    """What was evaluated, apart from the net, as plain values. If these differ, so do the results.

    config: the run's, resolved, with the evaluation's values. Its name, and how it is computed, are left out. dataset:
    None for a suite of sets. A folder counts by its contents, not its path. Raises UserError if these cannot be read.
    """
    if suites.is_suite(config):
        asked = suites.asked_for(config)
    else:
        plain = fields.deciding_part(to_plain(config))
        asked = {name: plain[name] for name in ("evaluation", "data")}
        asked["data"] = {name: asked["data"][name] for name in ("source", "eval_split")}
        if config.data.source.startswith("folder:"):
            asked["data"]["contents"] = dataset.fingerprint
        asked["evaluation"].pop("every_epochs", None)
    asked["evaluation"]["ids"] = Choice.read(0, config.evaluation.ids).plain.get(
        "ids_sha256", ""
    )  # what is in the list
    return asked


def make_room(config, dataset, output, params_sha256="", force=False):
    """The earlier result of this very evaluation, or None if its name is free.

    dataset: see `asked_for`. params_sha256: of the net to be evaluated, "" if not known yet. If the name belongs to a
    different evaluation, raises UserError, or with `force` renames that result and says so.
    """
    name = config.evaluation.name
    done = results.load(output, name)
    differing = _differences(done, asked_for(config, dataset), params_sha256) if done else []
    if not differing:
        return done
    folder = os.path.join(output, "evaluations")
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    free = next(other for other in numbered if not os.path.exists(os.path.join(folder, f"{other}.json")))
    more = f" and {len(differing) - SHOWN} more" * (len(differing) > SHOWN)
    what = f"{folder}/{name}.json is of something else ({', '.join(differing[:SHOWN])}{more})"
    if not force:
        raise UserError(
            f"{what} and would be lost; give this result another name, e.g. --config.evaluation.name={free}, or give "
            f"--force, which renames the other {free}"
        )
    results.rename(output, name, free)
    print(f"note: {what}; it is {free}.json from now on", flush=True)
    return None


def _differences(done, asked, params_sha256):
    """How an earlier result differs from the evaluation that was asked for, as text."""
    of, found = done.get("checkpoint", {}), done.get("asked", {})
    net = []
    if params_sha256 and of.get("params_sha256") != params_sha256:
        net = [f"another checkpoint, of step {of.get('step')}"]
    if found.keys() != asked.keys():
        return [*net, "another evaluation"]
    lines = differences(found, asked)
    return [*net, *(line if len(line) < 80 else line.partition(": ")[0] for line in lines)]
