"""Names of results. A name belongs to one evaluation of one set of parameters; no other result may overwrite it."""

import itertools
import os
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax import fields, files
from nofrost_jax.data import Dataset
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import results
from nofrost_jax.fields import differences, to_plain
from nofrost_jax.shift import suites

SHOWN = 3  # differences in a message


def asked_for(config: ConfigDict, dataset: Dataset | None) -> dict[str, Any]:
    """What is evaluated, apart from the net, as plain values: if these differ, so do the results.

    config: the run's, resolved, with the evaluation's values; its name and how it is computed do not count. dataset:
    None for a suite of sets. A folder's contents count, not its path. Raises UserError if they cannot be read.
    """
    if suites.is_suite(config):
        asked = suites.asked_for(config)
    else:
        plain = fields.deciding_part(to_plain(config))
        asked = {name: plain[name] for name in ("evaluation", "data")}
        asked["data"] = {name: asked["data"][name] for name in ("source", "eval_split")}
        if config.data.source.startswith("folder:"):
            assert dataset is not None
            asked["data"]["contents"] = dataset.fingerprint
        asked["evaluation"].pop("every_epochs", None)
    asked["evaluation"]["ids"] = Choice.read(0, config.evaluation.ids).plain.get("ids_sha256", "")  # not its path
    return asked


def make_room(
    config: ConfigDict, dataset: Dataset | None, output: str, params_sha256: str = "", force: bool = False
) -> dict[str, Any] | None:
    """The earlier result of the same evaluation, or None if its name is free.

    dataset: see `asked_for`. params_sha256: of the net to evaluate, "" if not known yet. If the name belongs to another
    evaluation, raises UserError, or with `force` renames that result and says so.
    """
    name = config.evaluation.name
    done = results.load(output, name)
    differing = _differences(done, asked_for(config, dataset), params_sha256) if done else []
    if not differing:
        return done
    folder = os.path.join(output, "evaluations")
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    free = next(other for other in numbered if not files.exists(os.path.join(folder, f"{other}.json")))
    more = f" and {len(differing) - SHOWN} more" * (len(differing) > SHOWN)
    what = f"{folder}/{name}.json is of something else ({', '.join(differing[:SHOWN])}{more})"
    if not force:
        raise UserError(
            f"{what} and would be lost; give --force, which renames the other to {free}, or give "
            f"this result another name, with --config=FILE before it: --config.evaluation.name={free}"
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
