"""Runs with result files made by hand, as an evaluation writes them."""

import json

import numpy as np

NET = {
    "model": "nf_resnet26",
    "norm": "bn",
    "width": 1.0,
    "stage_sizes": [],
    "method": "at",
    "adversarial_weight": 0.5,
    "terms": "paper",
    "pgdat_clean_forward": False,
    "epsilon_255": 8.0,
    "attack_norm": "linf",
    "epochs": 90,
    "batch_size": 256,
    "seed": 0,
}
ROWS = {  # what differs from NET
    "nofrost": {},
    "st_nf": {"method": "standard", "adversarial_weight": 0.0},
    "st": {"model": "resnet26", "method": "standard", "adversarial_weight": 0.0},
    "sat": {"model": "resnet26"},
    "sat_in": {"model": "resnet26", "norm": "in"},
    "mbnat": {"model": "resnet26", "norm": "mbn"},
    "trades": {"model": "resnet26", "method": "trades"},
    "fat": {"model": "resnet26", "method": "fat", "adversarial_weight": 1.0},
    "trades_fat": {"model": "resnet26", "method": "trades_fat"},
}


def net(row="nofrost", depth=26, **fields):
    mine = NET | ROWS[row] | fields
    return mine | {"model": mine["model"].replace("26", str(depth))}


def share(right, n):
    return {"accuracy": right / n, "n": n, "ci95": [max(0.0, right / n - 0.02), min(1.0, right / n + 0.02)]}


def attack(name, right, n=1000, epsilon_255=8.0, flags=(), **fields):
    found = share(right, n)
    entry = {"name": name, "robust_accuracy": found["accuracy"], "ci95": found["ci95"], "n": n, "norm": "linf"}
    return entry | {"epsilon_255": epsilon_255, "steps": None, "queries": None, "flags": list(flags)} | fields


def result(net, clean=700, attacks=(), n=1000, name="paper", source="tfds:imagenet2012", sha="", **fields):
    """net: None for a result without it."""
    return {
        "schema": 1,
        "name": name,
        "checkpoint": {"path": "runs/some", "step": 7, "params_sha256": sha or json.dumps(net)},
        "dataset": {
            "source": source,
            "split": "validation",
            "n": n,
            "of": n,
            "index_sha256": "0" * 64,
            "label_set": "1000 classes",
        },
        "recipe": "paper",
        "net": net,
        "clean": share(clean, n),
        "attacks": list(attacks),
        "flags": [],
        **fields,
    }


def write(run, result, arrays=None, config=None):
    """Puts a result into a run's folder; returns the path of its JSON."""
    folder = run / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['name']}.json"
    path.write_text(json.dumps(result))
    if arrays is not None:
        np.savez(folder / f"{result['name']}.npz", **arrays)
    if config is not None:
        (run / "config.json").write_text(json.dumps(config))
    return path


def arrays(right, **attacks):
    """right: bool [N] when clean; attacks: {name: bool [N]}."""
    right = np.asarray(right, bool)
    return {"index": np.arange(len(right)), "label": np.arange(len(right)) % 10, "clean_correct": right} | attacks
