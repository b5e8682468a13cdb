"""The evaluation result: per-image outcomes in, DESIGN's JSON schema 1 and a table for the screen out. NumPy only."""

import json
import math
import os

import numpy as np

PROTOCOLS = ("aa_fast_20", "aa_standard")  # always shown, run or not: PGD alone flatters


def wilson(successes, n, z=1.959963984540054):
    """95 % Wilson score interval [lo, hi] of `successes` out of `n` (Wilson, 1927); [0, 1] for n = 0."""
    if n == 0:
        return [0.0, 1.0]
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [max(0.0, centre - half), min(1.0, centre + half)]


def clean_entry(outcomes):
    correct = outcomes["clean_correct"]
    n = len(correct)
    nan = int(outcomes["nan"].sum())
    return {"accuracy": float(np.mean(correct)), "n": n, "ci95": wilson(int(correct.sum()), n), "nan": nan}


def attack_entry(name, options, outcome, epsilon_255, seconds):
    """One row of `attacks`. outcome: per-image `robust`, `linf_255`, `in_range`, `nan`, `forwards`, `backwards`."""
    robust = outcome["robust"]
    n, max_linf = len(robust), float(outcome["linf_255"].max())
    flags = []
    if max_linf > epsilon_255 * (1 + 1e-6) + 1e-4:  # float32 rounding of the pixels, far below one pixel value
        flags.append("budget_violated")
    if not outcome["in_range"].all():
        flags.append("range_violated")
    if outcome["nan"].any():
        flags.append("nan")
    return {
        "name": name,
        "protocol": options["protocol"],
        "epsilon_255": float(epsilon_255),
        "steps": options.get("steps"),
        "step_rule": options.get("step_rule"),
        "restarts": 1,
        "queries": None,
        "robust_accuracy": float(np.mean(robust)),
        "ci95": wilson(int(robust.sum()), n),
        "n": n,
        "max_linf_255": max_linf,
        "nan": int(outcome["nan"].sum()),
        "mean_forwards": float(outcome["forwards"].mean()),
        "mean_backwards": float(outcome["backwards"].mean()),
        "seconds": round(seconds, 3),
        "flags": flags,
    }


def worst_case(outcomes):
    """Images that are right when clean and under every attack that was run."""
    robust = np.logical_and.reduce(
        [outcomes["clean_correct"], *(rows["robust"] for rows in outcomes["attacks"].values())]
    )
    n = len(robust)
    return {
        "attacks": list(outcomes["attacks"]),
        "robust_accuracy": float(np.mean(robust)),
        "ci95": wilson(int(robust.sum()), n),
        "n": n,
    }


def save(workdir, result, outcomes):
    """Writes `evaluations/NAME.json` and `.npz`, each whole or not at all; the JSON last. Returns the JSON's path."""
    folder = os.path.join(workdir, "evaluations")
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, result["name"])
    columns = {name: outcome["robust"] for name, outcome in outcomes["attacks"].items()}
    with open(f"{base}.npz.tmp", "wb") as file:
        np.savez(file, **{name: outcomes[name] for name in ("index", "label", "clean_correct")}, **columns)
    os.replace(f"{base}.npz.tmp", f"{base}.npz")
    with open(f"{base}.json.tmp", "w") as file:
        json.dump(result, file, indent=2)
        file.write("\n")
    os.replace(f"{base}.json.tmp", f"{base}.json")
    return f"{base}.json"


def load(workdir, name):
    """The result `evaluations/NAME.json` of a run, or None where there is none."""
    path = os.path.join(workdir, "evaluations", f"{name}.json")
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return json.load(file)


def table(result):
    """The result as text: clean, each attack, and both AutoAttack protocols, run or not."""
    data = result["dataset"]
    nan = f"[nan: {result['clean']['nan']}]" if result["clean"]["nan"] else ""
    rows = [("clean", nan, result["clean"]["accuracy"], result["clean"]["ci95"])]
    for attack in result["attacks"]:
        detail = f"eps {attack['epsilon_255']:g}/255, {attack['steps']} steps, {attack['step_rule']}"
        if attack["flags"]:
            detail += f" [{', '.join(attack['flags'])}]"
        rows.append((attack["name"], detail, attack["robust_accuracy"], attack["ci95"]))
    width = max(len(row[1]) for row in rows)
    step = "export" if result["checkpoint"]["step"] < 0 else f"step {result['checkpoint']['step']}"
    lines = [f"{data['source']}, {data['n']} {data['split']} images, {step}"]
    lines.append(f"  {'':12} {'':{width}}  accuracy   95 % interval")
    for name, detail, accuracy, (low, high) in rows:
        lines.append(f"  {name:12} {detail:{width}}  {accuracy:7.2%}   {low:.1%} to {high:.1%}".rstrip())
    done = {attack["name"] for attack in result["attacks"]}
    lines += [f"  {name:12} {'not run':{width}}" for name in PROTOCOLS if name not in done]
    return "\n".join(line.rstrip() for line in lines)
