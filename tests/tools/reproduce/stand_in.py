"""What the tests of a study start in place of main.py.

Does as orders.json beside it tells for a run, {"select/sat/rate_0.3": "crash"}, or succeeds with the two accuracies
told there; notes in calls.jsonl what it was called with.
"""

import json
import os
import pathlib
import signal
import sys
import time


def stop(*_):
    print("heard", flush=True)
    sys.exit(75)


given = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
workdir, root = pathlib.Path(given["workdir"]), pathlib.Path(__file__).parent
parts = workdir.parts
name = "/".join(parts[-4:] if "rate_" in parts[-2] and parts[-4] == "runs" else parts[-3:])
call = {
    "run": name,
    "given": given,
    "cache": os.environ["JAX_COMPILATION_CACHE_DIR"],
    "cwd": os.getcwd(),
}
with open(root / "calls.jsonl", "a") as file:
    file.write(json.dumps(call) + "\n")
orders = json.loads((root / "orders.json").read_text())
if given.get("mode") == "evaluate":
    trained = json.loads((workdir / "evaluations/final.json").read_text())
    config, _, argument = pathlib.Path(given["config"]).name.partition(":")
    suite = given.get("config.evaluation.name", config.removesuffix(".py"))
    order = orders.get(f"{suite} {name}", 0.7)
    if order == "crash":
        raise RuntimeError("a bug")
    found = {"checkpoint": trained["checkpoint"], "clean": trained["clean"]}
    if suite == "shift":
        found["corruptions"] = {"name": "digits_c_otf", "mean_accuracy": order, "cells": [None] * 75}
    attacks = given.get("config.evaluation.only", "aa_fast_20,aa_standard,pgd_20,apgd_ce_20,apgd_dlr_20").split(",")
    found["attacks"] = [{"name": attack, "robust_accuracy": order} for attack in attacks]
    suffixes = [f"_gamma_{gamma}" for gamma in (0, 1)] if argument == "mbn" else [""]
    for suffix in suffixes:
        (workdir / f"evaluations/{suite}{suffix}.json").write_text(json.dumps(found))
    sys.exit(0)
print("training", flush=True)
order = orders.get(name, [0.9, 0.5])
if order == "preempt":
    signal.signal(signal.SIGTERM, stop)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
if order == "preempt late":  # the signal comes when the result is there already
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(os.getppid(), signal.SIGTERM)
    order = [0.9, 0.5]
if order == "crash":
    raise RuntimeError("a bug")
if order == "in use":  # by what a killed study left behind; the next time it is free
    order = (
        [0.9, 0.5] if (root / "was in use").exists() else "runs is in use by a training: process 7; wait for its end"
    )
    (root / "was in use").touch()
if order == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if isinstance(order, str):
    print(f"error: {order}", file=sys.stderr)
    sys.exit(2)
result = {
    "clean": {"accuracy": order[0], "n": 10},
    "attacks": [
        {"name": "pgd_20", "robust_accuracy": order[1], "epsilon_255": 8.0, "n": 10, "flags": ["weak_attack"]},
    ],
    "flags": ["probabilities", "weak_attack"],
    "checkpoint": {"params_sha256": "p", "path": "/somewhere"},
    "config_sha256": "c",
    "versions": {"jax": "1"},
    "execution": {"device": "cpu"},
}
(workdir / "evaluations").mkdir(exist_ok=True)
(workdir / "evaluations/final.json").write_text(json.dumps(result))
