"""A result as text for the screen: clean, each attack, both AutoAttack protocols run or not, the curve, the flags."""

from collections.abc import Mapping, Sequence
from typing import Any

from nofrost_jax.analysis.properties import TITLES
from nofrost_jax.flag_texts import DESCRIPTIONS
from nofrost_jax.report.exhibits import PROTOCOLS
from nofrost_jax.tables import aligned

_NAMES = {"apgd_ce": "APGD-CE", "apgd_dlr": "APGD-DLR", "apgd_t": "APGD-T", "fab_t": "FAB-T", "square": "Square"}


def render(result: Mapping[str, Any]) -> str:
    """The table of a result, a plain dict of schema 1."""
    data, clean = result["dataset"], result["clean"]
    rows = [("clean", "", f"{clean['accuracy']:.2%}", _interval(clean["ci95"]), "", "nan" if clean["nan"] else "")]
    for entry in result["attacks"]:
        interval = _interval(entry["ci95"]) + (f", n = {entry['n']}" if entry["n"] < data["n"] else "")
        figures = f"{entry['robust_accuracy']:.2%}", interval, f"{entry['uint8_accuracy']:.2%}"
        rows.append((entry["name"], _details(entry), *figures, ", ".join(entry["flags"])))
    done = {entry["attack"] for entry in result["attacks"]}
    classes = int(data["label_set"].split()[0])
    rows += [(name, _not_run(name, classes), "", "", "", "") for name in PROTOCOLS if name not in done]
    if len(result["attacks"]) > 1:
        worst = result["worst_case"]
        partial = f", {', '.join(worst['partial'])} on some images only" if worst["partial"] else ""
        detail = f"{_ball(worst)}, {len(worst['attacks'])} attacks{partial}"
        rows.append(("worst case", detail, f"{worst['robust_accuracy']:.2%}", _interval(worst["ci95"]), "", ""))
    step = result.get("checkpoint", {}).get("step")
    net = {None: "a function", -1: "export"}.get(step, f"step {step}")
    part = f" of {data['of']}" * (data["n"] < data["of"])
    chosen = f" ({data['choice']})" * (data["choice"] != "all")
    lines = [f"{data['source']}, {data['n']}{part} {data['split']} images{chosen}, {net}"]
    head = ("", "", "accuracy", "95 % interval", "as uint8", "flags")
    lines += [f"  {line}" for line in aligned([head, *rows], "<<><><")]
    lines += properties_lines(result)
    lines += [_curve(curve) for curve in result["convergence"]]
    lines += [f"  {name}: {DESCRIPTIONS[name]}" for name in result["flags"]]
    return "\n".join(lines)


def properties_lines(result: Mapping[str, Any]) -> list[str]:
    """A table of what was measured of each image (`analysis.properties`); [] where nothing was."""
    if "properties" not in result:
        return []
    rows = [("", "mean", "95 % interval", "deviation")]
    for name, title in TITLES.items():
        one = result["properties"][name]
        if one["mean"] is None:
            rows.append((title, "-", "no finite value", ""))
            continue
        interval = "{:.4g} to {:.4g}".format(*one["ci95"]) + f", n = {one['n']}" * (one["n"] < result["dataset"]["n"])
        rows.append((title, f"{one['mean']:.4g}", interval, f"{one['sd']:.4g}"))
    return [f"  {line}" for line in aligned(rows, "<><>")]


def _not_run(protocol: str, classes: int) -> str:
    least = {"aa_fast_20": 3, "aa_standard": 4}[protocol]
    return f"not run, needs {least} classes" if classes < least else "not run"


def _ball(entry: Mapping[str, Any]) -> str:
    return f"eps {entry['epsilon_255']:g}/255{' in l2' * (entry['norm'] == 'l2')}"


def _details(entry: Mapping[str, Any]) -> str:
    half = f", {entry['precision']}" * (entry["precision"] != "float32")
    ball = _ball(entry) + ", all images counted" * (entry["count"] == "all")
    if "members" in entry:
        return f"{ball}: {' > '.join(map(_member, entry['members']))}{half}"
    options, parts = entry["options"], [ball]
    parts += [f"{entry[name]} {name}" for name in ("steps", "queries") if entry[name] is not None]
    parts += [entry["step_rule"]] * (entry["step_rule"] is not None)
    parts += ["zero start"] * (options.get("start") == "zero")
    parts += [f"{entry['restarts']} restarts"] * (entry["restarts"] > 1)
    rescaled = ["rescaled" if options["rescale"] else "raw schedule"] if "rescale" in options else []
    return ", ".join([*parts, *[entry["precision"]] * bool(half), *rescaled])


def _member(member: Mapping[str, Any]) -> str:
    """ "APGD-T 9 x 100" """
    options, name = member["options"], _NAMES.get(member["name"], member["name"])
    if "queries" in options:
        return f"{name} {options['queries']}"
    rounds = f"{options['targets']} x " if "targets" in options else ""
    return f"{name} {rounds}{options.get('steps', '')}".rstrip()


def _curve(curve: Mapping[str, Any]) -> str:
    points = ", ".join(f"{steps} steps {share:.2%}" for steps, share in curve["accuracy"].items())
    verdict = {True: ": converged", False: ": NOT converged", None: ""}[curve["converged"]]
    return f"  APGD-CE at eps {curve['epsilon_255']:g}/255 on {curve['n']} images: {points}{verdict}"


def _interval(ci95: Sequence[float]) -> str:
    return f"{ci95[0]:.1%} to {ci95[1]:.1%}"
