"""What the name of a result stands for: one evaluation of one set of parameters, which no other takes the place of."""

import itertools
import os

from nofrost_jax import data, validate
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import results, shift_suite

SHOWN = 3  # differences in a message


def asked_for(config):
    """What an evaluation is of beside the net, plain values; two that differ here are not one and the same result.

    config: the run's, resolved, with the evaluation's values. How it is computed is left out, and what it is called. Of
    a folder its contents count, not its place. Raises UserError where these cannot be read.
    """
    if shift_suite.is_suite(config):
        asked = shift_suite.asked_for(config)
    else:
        plain = validate.of_result(validate.to_plain(config))
        asked = {name: plain[name] for name in ("evaluation", "data")}
        asked["data"] = {name: asked["data"][name] for name in ("source", "eval_split")}
        if config.data.source.startswith("folder:"):
            asked["data"]["contents"] = data.fingerprint(config)
        asked["evaluation"].pop("every_epochs", None)
    asked["evaluation"]["ids"] = data.choice_of(config).plain.get("ids_sha256", "")  # what is in the list
    return asked


def make_room(config, output, params_sha256="", force=False):
    """The result that has the evaluation's name and is of the same, or None where there is none.

    params_sha256: of the net that is to be evaluated, "" where it is not known yet. A result of something else is
    refused with UserError, or with `force` gets another name, and this is said.
    """
    name = config.evaluation.name
    done = results.load(output, name)
    differing = _differences(done, asked_for(config), params_sha256) if done else []
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
    """How a result differs from what is asked for, as text."""
    of, found = done.get("checkpoint", {}), done.get("asked", {})
    net = []
    if params_sha256 and of.get("params_sha256") != params_sha256:
        net = [f"another checkpoint, of step {of.get('step')}"]
    if found.keys() != asked.keys():
        return [*net, "another evaluation"]
    lines = validate.differences(found, asked)
    return [*net, *(line if len(line) < 80 else line.partition(": ")[0] for line in lines)]
