"""Evaluates a run's newest checkpoint, or an export, with the evaluators that the training run itself uses."""

import hashlib
import importlib.metadata
import json
import os
import time

import jax

from nofrost_jax import metrics, models, parallel, validate
from nofrost_jax.checkpoint import load_variables, tree_sha256
from nofrost_jax.classifier import create_model
from nofrost_jax.evaluation import pictures, results, table

MIXTURE = ("gamma", "interpolation", "p", "seed")
PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def evaluate(config, workdir, spec, devices, evaluator, stop, reuse=False):
    """Writes `evaluations/NAME.json` and `.npz` of `config.evaluation` into the run's folder; returns the result.

    config: the run's resolved config, whose `evaluation` may have been replaced; `evaluator` is made of it. stop: the
    StopSignal. reuse: show the result that is already there, if it is of the same config and parameters.
    """
    model = create_model(config.model)
    abstract = jax.eval_shape(lambda key: models.init(model, key, spec.image_size), jax.random.key(0))
    step, variables, meta = load_variables(workdir, abstract)
    done = results.load(workdir, config.evaluation.name) if reuse else None
    digest, main = tree_sha256(variables), parallel.is_main_process()
    if done and (done["config_sha256"], done["checkpoint"]["params_sha256"]) == (config_sha256(config), digest):
        if main:
            print(table.render(done))
            print(f"written by an earlier run: {workdir}/evaluations/{done['name']}.json", flush=True)
        return done
    if main:
        names = ", ".join(["clean", *config.evaluation.attacks])
        print(
            f"evaluating {names} on {evaluator.count} {spec.eval_split} images of {config.data.source} ...", flush=True
        )
    start, folder = time.perf_counter(), os.path.join(workdir, "evaluations", "outcomes")
    outcomes = evaluator.run(devices.replicate(variables), stop, folder, progress=main)
    checkpoint = {"path": os.path.relpath(workdir), "step": step, "params_sha256": digest}
    checkpoint |= {"selection": meta["selection"]} if "selection" in meta else {}
    result = describe(config, spec, checkpoint, evaluator, outcomes)
    if main:
        path = results.save(workdir, result, outcomes)
        print(table.render(result))
        print(f"written: {path}  ({metrics.format_seconds(time.perf_counter() - start)})", flush=True)
        for picture in pictures.save(workdir, config.evaluation.name, evaluator.plans, outcomes):
            print(f"written: {picture}", flush=True)
    return result


def config_sha256(config):
    """Hex SHA-256 of the config's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(validate.to_plain(config), sort_keys=True).encode()).hexdigest()


def _mixture(section):
    """How the two branches of a mixture-BN net were weighed."""
    names = ("gamma", "interpolation") if section.mbn_interpolation != "random" else MIXTURE
    return {name: section[f"mbn_{name}"] for name in names}


def describe(config, spec, checkpoint, evaluator, outcomes):
    """The result as DESIGN's schema 1."""
    summary = results.summarize(evaluator.plans, outcomes, config.model.num_classes, evaluator.programs.compile_seconds)
    if checkpoint.get("selection", {}).get("rule") == "best_ra_val":
        summary["flags"] = sorted({*summary["flags"], "selected_on_evaluation"})
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
            "index_sha256": hashlib.sha256(outcomes["index"].astype("<i8").tobytes()).hexdigest(),
            "crop": spec.eval_crop,
            "mean": list(config.data.mean),
            "std": list(config.data.std),
            "label_set": f"{config.model.num_classes} classes",
        },
        "precision": f"verdict float32 highest, attacks {config.evaluation.attack_dtype}",
        "seed": config.seed,
        **({"mbn": _mixture(config.evaluation)} if config.model.norm == "mbn" else {}),
        "rng": {
            "implementation": str(jax.config.jax_default_prng_impl),
            "partitionable": bool(jax.config.jax_threefry_partitionable),
        },
        "execution": {
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "processes": jax.process_count(),
            "batch_size": config.evaluation.batch_size,
            "chunk_size": evaluator.chunk_size,
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        **summary,
    }
