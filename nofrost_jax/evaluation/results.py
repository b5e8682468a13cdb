"""The evaluation result: per-image outcomes in, DESIGN's JSON schema 1 out."""

import dataclasses
import importlib.metadata
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from nofrost_jax import buckets, fields, files
from nofrost_jax.analysis.properties import VALUES, Properties
from nofrost_jax.attacks import threat
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import flags, store
from nofrost_jax.evaluation.protocols import Member, Protocol

PACKAGES = ("jax", "jaxlib", "flax", "numpy")
Z95 = 1.959963984540054  # standard deviations of a 95 % interval
Result = dict[str, Any]


def wilson(successes: int, n: int, z: float = Z95) -> list[float]:
    """95 % Wilson score interval [lo, hi] of `successes` out of `n` (Wilson, 1927); [0, 1] for n = 0."""
    if n == 0:
        return [0.0, 1.0]
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [max(0.0, centre - half), min(1.0, centre + half)]


def share_of(correct: np.ndarray, n: int) -> dict[str, Any]:
    """{"accuracy", "n", "ci95"}; correct: bool [N], where `n` images count."""
    successes = int(correct.sum())
    return {"accuracy": successes / max(n, 1), "n": n, "ci95": wilson(successes, n)}


def robust_accuracy(outcome: Mapping[str, Any]) -> float:
    """Share of the images that a protocol was for, right when clean and under its attacks."""
    return int(outcome["robust"].sum()) / max(int(outcome["selected"].sum()), 1)


def summarize(
    protocols: Sequence[Protocol], outcomes: Mapping[str, Any], num_classes: int, compile_seconds: Mapping[str, float]
) -> dict[str, Any]:
    """{"clean", "attacks", "worst_case", "convergence", "flags"} of the schema, from an Evaluator's outcomes.

    compile_seconds: {member's key: seconds} of what this process compiled for these outcomes. Attacks of one family
    share a program, which counts for the first.
    """
    curves = flags.convergence(protocols, outcomes)
    unconverged = {curve["epsilon_255"] for curve in curves if curve["converged"] is False}
    weak, entries = flags.weak_attacks(protocols, outcomes), []
    for protocol in protocols:
        entry = attack_entry(protocol, outcomes, num_classes, compile_seconds)
        marks = set(entry["flags"])
        if protocol.name in weak:
            marks.add("weak_attack")
            entry["weaker_than"] = weak[protocol.name]
        few_steps = entry["steps"] is not None and entry["steps"] < 100
        if few_steps and protocol.norm == "linf" and protocol.epsilon_255 in unconverged:
            marks.add("not_converged")
        entries.append(entry | {"flags": sorted(marks)})
    found = flags.of_result(protocols, outcomes, curves).union(*(entry["flags"] for entry in entries))
    clean = share_of(outcomes["correct"], len(outcomes["correct"]))
    return {
        "clean": clean | {"nan": int(outcomes["nan"].sum()), "seconds": round(outcomes["seconds"], 3)},
        "attacks": entries,
        "worst_case": worst_case(protocols, outcomes),
        "convergence": curves,
        "flags": sorted(found),
    }


def circumstances(batch_size: int, chunk_size: int) -> dict[str, Any]:
    """{"rng", "execution", "versions"} of the schema: on what, and with what, a result was computed."""
    implementation, partitionable = store.random_numbers()
    return {
        "rng": {"implementation": implementation, "partitionable": partitionable},
        "execution": {
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "processes": jax.process_count(),
            "batch_size": batch_size,
            "chunk_size": chunk_size,
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def attack_entry(
    protocol: Protocol, outcomes: Mapping[str, Any], num_classes: int, compile_seconds: Mapping[str, float]
) -> dict[str, Any]:
    """One row of `attacks`: a single attack, or a cascade with its members."""
    outcome = outcomes["protocols"][protocol.name]
    members = [member_entry(*pair, compile_seconds) for pair in zip(protocol.members, outcome["members"], strict=True)]
    n, rows, lead = int(outcome["selected"].sum()), outcome["members"], protocol.members[0].attack
    attacked = np.any([one["attacked"] for one in rows], axis=0)
    fields = ("step_rule", "queries")
    step_rule, queries = (None if protocol.is_cascade else getattr(lead, name, None) for name in fields)
    robust = share_of(outcome["robust"], n)
    entry = {
        "name": protocol.name,
        "protocol": protocol.origin,
        "epsilon_255": protocol.epsilon_255,
        "steps": _shared("steps", protocol),
        "step_rule": step_rule,
        "restarts": getattr(lead, "restarts", 1),
        "queries": queries,
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
        "step_size_255": _step_size_255(**vars(lead)) if step_rule else None,
        "attacked": int(attacked.sum()),
        "uint8_accuracy": share_of(outcome["robust_uint8"], n)["accuracy"],
        "unconfirmed": int(np.any([one["unconfirmed"] & one["attacked"] for one in rows], axis=0).sum()),
        "precision": "/".join(sorted({member.dtype for member in protocol.members}, reverse=True)),
        "compile_seconds": round(sum(one["compile_seconds"] for one in members), 3),
    }
    if protocol.is_cascade:
        entry |= {"individual": protocol.individual, "members": members}
    return entry


def member_entry(member: Member, rows: Mapping[str, Any], compile_seconds: Mapping[str, float]) -> dict[str, Any]:
    """What one attack did: its constants, how many images it met and fooled, and at what cost."""
    attacked = rows["attacked"]
    return {
        "name": member.name,
        "options": {name: value for name, value in vars(member.attack).items() if name != "epsilon"},
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


def _step_size_255(step_rule: str, epsilon: float, steps: int, norm: str = "linf", **_: Any) -> float:
    return 255 * float(threat.step_size(step_rule, epsilon, steps, norm))


def _mean(values: np.ndarray, attacked: np.ndarray) -> float:
    return float(values[attacked].mean()) if attacked.any() else 0.0


def _shared(name: str, protocol: Protocol) -> int | None:
    """A number that all members with such a field share, or None."""
    values = {getattr(member.attack, name, None) for member in protocol.members} - {None}
    return values.pop() if len(values) == 1 else None


def worst_case(protocols: Sequence[Protocol], outcomes: Mapping[str, Any]) -> dict[str, Any]:
    """Images that are right when clean and under every attack in one ball: that of the most attacks, then l-infinity
    before l2, then the smallest. An image that an attack was not for counts as right under it; `partial` names such
    attacks."""
    balls = [protocol.ball for protocol in protocols]
    ball = min(balls, key=lambda one: (-balls.count(one), one[0] == "l2", one[1])) if balls else (None, None)
    chosen = {one.name: outcomes["protocols"][one.name] for one in protocols if one.ball == ball}
    robust = outcomes["correct"].copy()
    for outcome in chosen.values():
        robust &= outcome["robust"] | ~outcome["selected"]
    found = share_of(robust, len(robust))
    return {
        "attacks": list(chosen),
        "partial": [name for name, outcome in chosen.items() if not outcome["selected"].all()],
        "norm": ball[0],
        "epsilon_255": ball[1],
        "robust_accuracy": found["accuracy"],
        "ci95": found["ci95"],
        "n": found["n"],
    }


def describe_net(config: ConfigDict) -> dict[str, Any]:
    """What a resolved config trains and how, as plain values: enough to say which row of which table it is."""
    plain = fields.to_plain(config)
    model, method, attack = plain["model"], plain["method"], plain["attack"]
    return {
        "model": model["name"],
        **{name: model[name] for name in ("norm", "width", "stage_sizes")},
        "method": method["name"],
        **{name: method[name] for name in ("adversarial_weight", "terms", "pgdat_clean_forward")},
        "epsilon_255": attack["epsilon_255"],
        "attack_norm": attack["norm"],
        **{name: plain[name] for name in ("epochs", "batch_size", "seed")},
    }


def describe_properties(properties: Properties, measured: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """{"settings": what was measured and how, each of `properties.VALUES`: {"mean", "ci95", "sd", "n"}}.

    ci95: the normal interval of the mean. n: images whose value is finite; the others do not count. Without any the
    mean is None.
    """
    attack = {"name": type(properties.attack).__name__} | dataclasses.asdict(properties.attack)
    settings = {"smoothness_attack": attack, "thickness": dataclasses.asdict(properties.options)}
    found: dict[str, Any] = {"settings": settings | {"std": list(properties.std)}}
    for name in VALUES:
        values = measured[name][np.isfinite(measured[name])].astype(np.float64)
        n, sd = len(values), float(values.std(ddof=1)) if len(values) > 1 else 0.0
        found[name] = {"mean": None, "ci95": None, "sd": sd, "n": n}
        if n:
            mean, half = float(values.mean()), Z95 * sd / math.sqrt(n)
            found[name] |= {"mean": mean, "ci95": [mean - half, mean + half]}
    return found


def columns(outcomes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of `NAME.npz`: index, label, clean_correct, a column for each attack, True where the image stayed
    right; where an attack was for some images only, ATTACK.selected says which; properties.NAME if measured."""
    arrays = {"index": outcomes["index"], "label": outcomes["label"], "clean_correct": outcomes["correct"]}
    arrays |= {f"properties.{name}": values for name, values in outcomes["properties"].items()}
    for name, outcome in outcomes["protocols"].items():
        arrays[name] = outcome["robust"]
        if not outcome["selected"].all():
            arrays[f"{name}.selected"] = outcome["selected"]
    return arrays


def save(workdir: str | os.PathLike, result: Result, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes `evaluations/NAME.json` and, of {name: array}, `.npz`, each whole or not at all; the JSON last.

    Returns the JSON's path.
    """
    base = os.path.join(workdir, "evaluations", result["name"])
    files.make_folder(os.path.dirname(base))
    files.write_npz(f"{base}.npz", arrays)
    files.write_json(f"{base}.json", result, seal=True)
    return f"{base}.json"


def are_whole(workdir: str | os.PathLike, name: str) -> bool:
    """Whether the arrays of a result can be read. Raises OSError if a bucket fails."""
    path = os.path.join(workdir, "evaluations", f"{name}.npz")
    try:
        return bool(files.read_npz(path))
    except ValueError as error:
        if (cause := error.__cause__) and buckets.has_failed(path, cause):
            raise cause from None
        return False


def rename(workdir: str | os.PathLike, old: str, new: str) -> None:
    """Gives a result, its arrays and its pictures another name."""
    before, after = (os.path.join(workdir, "evaluations", name) for name in (old, new))
    if (result := load(workdir, old)) is None:
        return
    files.write_json(f"{after}.json", result | {"name": new}, seal=True)
    for kind in (".npz", "_images"):
        if files.exists(f"{before}{kind}"):
            files.rename(f"{before}{kind}", f"{after}{kind}")
    files.remove(f"{before}.json")


def load(workdir: str | os.PathLike, name: str) -> Result | None:
    """The result `evaluations/NAME.json` of a run, or None where there is none."""
    path = os.path.join(workdir, "evaluations", f"{name}.json")
    try:
        return files.read_json(path)
    except ValueError as error:
        raise UserError(f"the result {path} cannot be read ({error}); remove this file and run again") from error
