"""One evaluation for each weight gamma of a mixture-BN net's adversarial branch, as in the paper's Figures 2 and 5."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax.errors import UserError
from nofrost_jax.tables import aligned


def configs(config: ConfigDict) -> dict[float, ConfigDict]:
    """{gamma: config} of a resolved config's `evaluation.mbn_gammas`, ascending, for the results NAME_gamma_GAMMA."""
    found = {}
    for gamma in sorted(config.evaluation.mbn_gammas):
        one = config.copy_and_resolve_references()
        with one.unlocked():
            one.evaluation.name = f"{config.evaluation.name}_gamma_{gamma:g}"
            one.evaluation.mbn_gamma = float(gamma)
            one.evaluation.mbn_gammas = type(config.evaluation.mbn_gammas)()
        found[gamma] = one
    return found


def render(config: ConfigDict, results: Mapping[float, Mapping[str, Any]]) -> str:
    """The table of a sweep: a row for each gamma, a column for clean accuracy and each attack, and for the properties.

    results: {gamma: result, a plain dict of schema 1}, all of the same attacks.
    """
    section, first = config.evaluation, next(iter(results.values()))
    drawn = f" of {section.mbn_p:.0%} of the layers, seed {section.mbn_seed}"
    mixed = section.mbn_interpolation + (drawn if section.mbn_interpolation == "random" else "")
    images = first["dataset"]["n"]
    names = [entry["name"] + f" (n = {entry['n']})" * (entry["n"] < images) for entry in first["attacks"]]
    measured = [name for name in ("margin", "thickness", "smoothness") if "properties" in first]
    rows = [("gamma", "clean", *names, *measured, "flags")]
    for gamma, result in results.items():
        shares = [result["clean"]["accuracy"], *(entry["robust_accuracy"] for entry in result["attacks"])]
        means = [result["properties"][name]["mean"] for name in measured]
        means = ["-" if mean is None else f"{mean:.4g}" for mean in means]
        rows.append((f"{gamma:g}", *(f"{share:.2%}" for share in shares), *means, ", ".join(result["flags"])))
    split = first["dataset"]["split"]
    lines = [f"{section.name}: accuracy by gamma, interpolation {mixed}, {images} {split} images"]
    lines += [f"  {line}" for line in aligned(rows, ">" * (len(rows[0]) - 1) + "<")]
    return "\n".join(lines)


def check(norm: str, section: ConfigDict) -> None:
    """Raises UserError for `mbn_gammas` out of range or given twice, and for a mixture with a net of one branch."""
    gammas = list(section.mbn_gammas)
    for gamma in gammas:
        if not 0 <= gamma <= 1:
            raise UserError(f"config.evaluation.mbn_gammas={gamma} is out of range; it must be between 0 and 1")
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        raise UserError(f"config.evaluation.mbn_gammas={tuple(gammas)} names a weight twice; give each once")
    for name, default in (("mbn_gammas", ()), ("mbn_interpolation", "logits"), ("mbn_gamma", 1.0)):
        value = tuple(gammas) if name == "mbn_gammas" else section[name]
        if norm != "mbn" and value != default:
            raise UserError(
                f"config.evaluation.{name}={value} is for a net with model.norm=mbn, and this one has {norm}; evaluate "
                f"a run of an mbnat config, or set it to {default}"
            )
