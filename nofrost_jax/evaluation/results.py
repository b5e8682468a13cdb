"""The evaluation result: per-image outcomes in, DESIGN's JSON schema 1 out."""

import importlib.metadata
import math
import os

import jax
import numpy as np

from nofrost_jax import files
from nofrost_jax.attacks import threat
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import flags

PACKAGES = ("jax", "jaxlib", "flax", "numpy")
PROTOCOLS = ("aa_fast_20", "aa_standard")  # always shown, run or not: one flatters, the other is what the field reports


def wilson(successes, n, z=1.959963984540054):
    """95 % Wilson score interval [lo, hi] of `successes` out of `n` (Wilson, 1927); [0, 1] for n = 0."""
    if n == 0:
        return [0.0, 1.0]
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [max(0.0, centre - half), min(1.0, centre + half)]


def share_of(correct, n):
    """Accuracy with its interval and n; correct: bool [N], of which `n` images count."""
    successes = int(correct.sum())
    return {"accuracy": successes / max(n, 1), "n": int(n), "ci95": wilson(successes, int(n))}


def robust_accuracy(outcome):
    """Share of the images that a protocol was for, right when clean and under its attacks."""
    return int(outcome["robust"].sum()) / max(int(outcome["selected"].sum()), 1)


def summarize(protocols, outcomes, num_classes, compile_seconds):
    """{"clean", "attacks", "worst_case", "convergence", "flags"} of the schema, from an Evaluator's outcomes.

    compile_seconds: {member description: seconds}, for what this process compiled for these outcomes.
    """
    curves = flags.convergence(protocols, outcomes)
    entries = [attack_entry(protocol, outcomes, num_classes, compile_seconds) for protocol in protocols]
    weak = flags.weak_attacks(protocols, outcomes)
    for entry in entries:
        if entry["name"] in weak:
            entry["flags"] = sorted({*entry["flags"], "weak_attack"})
            entry["weaker_than"] = weak[entry["name"]]
        short = entry["steps"] is not None and entry["steps"] < 100
        if (
            short
            and entry["norm"] == "linf"
            and any(c["converged"] is False and c["epsilon_255"] == entry["epsilon_255"] for c in curves)
        ):
            entry["flags"] = sorted({*entry["flags"], "not_converged"})
    found = flags.of_result(protocols, outcomes, curves).union(*(entry["flags"] for entry in entries))
    clean = share_of(outcomes["correct"], len(outcomes["correct"]))
    return {
        "clean": clean | {"nan": int(outcomes["nan"].sum()), "seconds": round(outcomes["seconds"], 3)},
        "attacks": entries,
        "worst_case": worst_case(protocols, outcomes),
        "convergence": curves,
        "flags": sorted(found),
    }


def circumstances(batch_size, chunk_size):
    """{"rng", "execution", "versions"} of the schema: on what, and with what, a result was computed."""
    return {
        "rng": {
            "implementation": str(jax.config.jax_default_prng_impl),
            "partitionable": bool(jax.config.jax_threefry_partitionable),
        },
        "execution": {
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "processes": jax.process_count(),
            "batch_size": batch_size,
            "chunk_size": chunk_size,
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def attack_entry(protocol, outcomes, num_classes, compile_seconds):
    """One row of `attacks`: a single attack, or a cascade with its members."""
    outcome = outcomes["protocols"][protocol.name]
    members = [member_entry(*pair, compile_seconds) for pair in zip(protocol.members, outcome["members"], strict=True)]
    n, rows, lead = int(outcome["selected"].sum()), outcome["members"], protocol.members[0].attack
    attacked = np.logical_or.reduce([one["attacked"] for one in rows])
    single = (
        {} if protocol.is_cascade else {name: getattr(lead, name, None) for name in ("steps", "step_rule", "queries")}
    )
    robust = share_of(outcome["robust"], n)
    entry = {
        "name": protocol.name,
        "protocol": protocol.origin,
        "epsilon_255": protocol.epsilon_255,
        "steps": single.get("steps") or _shared("steps", protocol),
        "step_rule": single.get("step_rule"),
        "restarts": getattr(lead, "restarts", 1),
        "queries": single.get("queries"),
        "robust_accuracy": robust["accuracy"],
        "ci95": robust["ci95"],
        "n": n,
        "max_linf_255": max(one["max_linf_255"] for one in members),
        "nan": int(sum((one["nan"] & one["attacked"]).sum() for one in rows)),
        "mean_forwards": _mean(sum(one["forwards"] * one["attacked"] for one in rows), attacked),
        "mean_backwards": _mean(sum(one["backwards"] * one["attacked"] for one in rows), attacked),
        "seconds": round(sum(one["seconds"] for one in members), 3),
        "flags": flags.of_protocol(protocol, outcome, num_classes),
        "norm": protocol.norm,
        "max_l2_255": max(one["max_l2_255"] for one in members),
        "attack": protocol.attack,
        "count": protocol.count,
        "options": {} if protocol.is_cascade else members[0]["options"],
        "step_size_255": _step_size_255(lead) if single.get("step_rule") else None,
        "attacked": int(attacked.sum()),
        "uint8_accuracy": share_of(outcome["robust_uint8"], n)["accuracy"],
        "unconfirmed": int(np.logical_or.reduce([one["unconfirmed"] & one["attacked"] for one in rows]).sum()),
        "precision": "/".join(sorted({member.dtype for member in protocol.members}, reverse=True)),
        "compile_seconds": round(sum(one["compile_seconds"] for one in members), 3),
    }
    if protocol.is_cascade:
        entry |= {"individual": protocol.individual, "members": members}
    return entry


def member_entry(member, rows, compile_seconds):
    """What one attack did: its constants, how many images it met and fooled, and at what cost."""
    attacked = rows["attacked"]
    constants = {k: v for k, v in vars(member.attack).items() if k != "epsilon"}
    return {
        "name": member.name,
        "options": constants,
        "precision": member.dtype,
        "attacked": int(attacked.sum()),
        "fooled": int((attacked & ~rows["robust"]).sum()),
        "survivors": int(rows["survivors"].sum()),
        **{f"max_{n}": float(rows[n][attacked].max()) if attacked.any() else 0.0 for n in ("linf_255", "l2_255")},
        "mean_forwards": _mean(rows["forwards"], attacked),
        "mean_backwards": _mean(rows["backwards"], attacked),
        "zero_gradients": int((rows["zero_gradient"] & attacked).sum()),
        "seconds": round(rows["seconds"], 3),
        "compile_seconds": compile_seconds.get(member.key, 0.0),
    }


def _step_size_255(attack):
    norm = getattr(attack, "norm", "linf")
    return 255 * threat.step_size(attack.step_rule, attack.epsilon, attack.steps, norm)


def _mean(values, attacked):
    return float(values[attacked].mean()) if attacked.any() else 0.0


def _shared(name, protocol):
    """A number that all members with such a field share, or None."""
    values = {getattr(member.attack, name, None) for member in protocol.members} - {None}
    return values.pop() if len(values) == 1 else None


def worst_case(protocols, outcomes):
    """Images that are right when clean and under every attack in one ball: the one that most attacks have, the least
    of those, of l-infinity before l2. An image that an attack was not for counts as right under it; `partial` names
    such attacks."""
    balls = [protocol.ball for protocol in protocols]
    ball = min(balls, key=lambda one: (-balls.count(one), one[0] == "l2", one[1])) if balls else (None, None)
    chosen = [protocol.name for protocol in protocols if protocol.ball == ball]
    robust = outcomes["correct"].copy()
    for label in chosen:
        outcome = outcomes["protocols"][label]
        robust &= outcome["robust"] | ~outcome["selected"]
    found = share_of(robust, len(robust))
    return {
        "attacks": chosen,
        "partial": [label for label in chosen if not outcomes["protocols"][label]["selected"].all()],
        "norm": ball[0],
        "epsilon_255": ball[1],
        "robust_accuracy": found["accuracy"],
        "ci95": found["ci95"],
        "n": found["n"],
    }


def columns(outcomes):
    """The arrays of `NAME.npz`: index, label, clean_correct, a column for each attack, True where the image stayed
    right; where an attack was for some images only, LABEL.selected says which."""
    arrays = {"index": outcomes["index"], "label": outcomes["label"], "clean_correct": outcomes["correct"]}
    for label, outcome in outcomes["protocols"].items():
        arrays[label] = outcome["robust"]
        if not outcome["selected"].all():
            arrays[f"{label}.selected"] = outcome["selected"]
    return arrays


def save(workdir, result, arrays):
    """Writes `evaluations/NAME.json` and, of {name: array}, `.npz`, each whole or not at all; the JSON last.

    Returns the JSON's path.
    """
    folder = os.path.join(workdir, "evaluations")
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, result["name"])
    files.write_npz(f"{base}.npz", arrays)
    return _save_json(folder, result)


def _save_json(folder, result):
    path = os.path.join(folder, f"{result['name']}.json")
    files.write_json(path, result)
    return path


def rename(workdir, old, new):
    """Gives a result, its arrays and its pictures another name."""
    folder = os.path.join(workdir, "evaluations")
    _save_json(folder, load(workdir, old) | {"name": new})
    for kind in (".npz", "_images"):
        if os.path.exists(os.path.join(folder, f"{old}{kind}")):
            os.replace(os.path.join(folder, f"{old}{kind}"), os.path.join(folder, f"{new}{kind}"))
    os.remove(os.path.join(folder, f"{old}.json"))


def load(workdir, name):
    """The result `evaluations/NAME.json` of a run, or None where there is none."""
    path = os.path.join(workdir, "evaluations", f"{name}.json")
    try:
        return files.read_json(path)
    except ValueError as error:
        raise UserError(f"the result {path} cannot be read ({error}); remove this file and run again") from error
