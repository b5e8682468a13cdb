"""One evaluation for each weight gamma of a mixture-BN net's adversarial branch, as in the paper's Figures 2 and 5."""

from nofrost_jax.errors import UserError
from nofrost_jax.tables import aligned


def configs(config):
    """{gamma: config} of a resolved config's `evaluation.mbn_gammas`, ascending; the result is called NAME_gamma_GAMMA.

    Such a config is the same whatever the other weights of the sweep are.
    """
    found = {}
    for gamma in sorted(config.evaluation.mbn_gammas):
        one = config.copy_and_resolve_references()
        with one.unlocked():
            one.evaluation.name = f"{config.evaluation.name}_gamma_{gamma:g}"
            one.evaluation.mbn_gamma = float(gamma)
            one.evaluation.mbn_gammas = type(config.evaluation.mbn_gammas)()
        found[gamma] = one
    return found


def render(config, results):
    """The table of a sweep: a row for each gamma, a column for clean accuracy and for each attack.

    results: {gamma: result, a plain dict of schema 1}, all of the same attacks.
    """
    section, first = config.evaluation, next(iter(results.values()))
    drawn = f" of {section.mbn_p:.0%} of the layers, seed {section.mbn_seed}"
    mixed = section.mbn_interpolation + (drawn if section.mbn_interpolation == "random" else "")
    images = first["dataset"]["n"]
    names = [entry["name"] + f" (n = {entry['n']})" * (entry["n"] < images) for entry in first["attacks"]]
    rows = [("gamma", "clean", *names, "flags")]
    for gamma, result in results.items():
        shares = [result["clean"]["accuracy"], *(entry["robust_accuracy"] for entry in result["attacks"])]
        rows.append((f"{gamma:g}", *(f"{share:.2%}" for share in shares), ", ".join(result["flags"])))
    split = first["dataset"]["split"]
    lines = [f"{section.name}: accuracy by gamma, interpolation {mixed}, {images} {split} images"]
    lines += [f"  {line}" for line in aligned(rows, ">" * (len(rows[0]) - 1) + "<")]
    return "\n".join(lines)


def check(norm, section):
    """Raises UserError where `mbn_gammas` cannot be told apart, or where a net without two branches is to mix them."""
    gammas = list(section.mbn_gammas)
    for gamma in gammas:
        if not 0 <= gamma <= 1:
            raise UserError(f"config.evaluation.mbn_gammas={gamma} is out of range; it must be between 0 and 1")
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        raise UserError(f"config.evaluation.mbn_gammas={tuple(gammas)} names a weight twice; give each once")
    set_here = {
        "mbn_gammas": tuple(gammas),
        "mbn_interpolation": section.mbn_interpolation,
        "mbn_gamma": section.mbn_gamma,
    }
    nothing = {"mbn_gammas": (), "mbn_interpolation": "logits", "mbn_gamma": 1.0}
    for name, value in set_here.items():
        if norm != "mbn" and value != nothing[name]:
            raise UserError(
                f"config.evaluation.{name}={value} is for a net with model.norm=mbn, and this one has {norm}; evaluate "
                f"a run of an mbnat config, or set it to {nothing[name]}"
            )
