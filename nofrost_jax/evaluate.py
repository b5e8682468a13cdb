"""Evaluates a run's newest checkpoint, or an export, with the evaluators that the training run itself uses."""

import hashlib
import importlib.metadata
import json
import os

import jax

from nofrost_jax import metrics, models, parallel, validate
from nofrost_jax.checkpoint import load_variables, tree_sha256
from nofrost_jax.classifier import create_model
from nofrost_jax.evaluation import results

PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def evaluate(config, workdir, spec, devices, evaluator, stop, reuse=False):
    """Writes `evaluations/NAME.json` and `.npz` of `config.evaluation` into the run's folder; returns the result.

    config: the run's resolved config, whose `evaluation` may have been replaced; `evaluator` is made of it. stop: the
    StopSignal. reuse: show the result that is already there, if it is of the same config and parameters.
    """
    model = create_model(config.model)
    abstract = jax.eval_shape(lambda key: models.init(model, key, spec.image_size), jax.random.key(0))
    step, variables, _ = load_variables(workdir, abstract)
    done = results.load(workdir, config.evaluation.name) if reuse else None
    digest = tree_sha256(variables)
    if done and (done["config_sha256"], done["checkpoint"]["params_sha256"]) == (config_sha256(config), digest):
        if parallel.is_main_process():
            print(results.table(done))
            print(f"written by an earlier run: {workdir}/evaluations/{done['name']}.json", flush=True)
        return done
    names = ", ".join(["clean", *config.evaluation.attacks])
    if parallel.is_main_process():
        print(f"evaluating {names} on the {spec.eval_split} split of {config.data.source} ...", flush=True)
    outcomes = evaluator.run(devices.replicate(variables), stop, progress=parallel.is_main_process())
    checkpoint = {"path": os.path.relpath(workdir), "step": step, "params_sha256": digest}
    result = describe(config, spec, checkpoint, evaluator, outcomes)
    if parallel.is_main_process():
        path = results.save(workdir, result, outcomes)
        print(results.table(result))
        print(f"written: {path}  ({metrics.format_seconds(sum(outcomes['seconds'].values()))})", flush=True)
    return result


def config_sha256(config):
    """Hex SHA-256 of the config's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(validate.to_plain(config), sort_keys=True).encode()).hexdigest()


def describe(config, spec, checkpoint, evaluator, outcomes):
    """The result as DESIGN's schema 1."""
    entries, clean = evaluator.entries(outcomes), results.clean_entry(outcomes)
    return {
        "schema": 1,
        "name": config.evaluation.name,
        "checkpoint": checkpoint,
        "config_sha256": config_sha256(config),
        "recipe": config.recipe,
        "dataset": {
            "source": config.data.source,
            "split": spec.eval_split,
            "n": len(outcomes["index"]),
            "crop": spec.eval_crop,
            "label_set": f"{config.model.num_classes} classes",
        },
        "precision": "float32, highest",
        "seed": config.seed,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "clean": clean,
        "attacks": entries,
        "worst_case": results.worst_case(outcomes),
        "flags": sorted({flag for entry in entries for flag in entry["flags"]} | ({"nan"} if clean["nan"] else set())),
    }
