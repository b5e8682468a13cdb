"""Result files with values like the paper's, made by hand, for every figure. None of them was measured."""

import numpy as np

from tests.report import made

TABLE1 = {  # clean, PGD-20, APGD-CE-20, aa_fast_20, aa_standard in %
    "st": (72.7, 0.01, 0.0, 0.0, 0.0),
    "sat": (52.6, 10.6, 5.0, 3.8, 1.6),
    "trades": (39.6, 9.9, 6.2, 3.5, 2.0),
    "fat": (58.7, 7.0, 2.4, 1.7, 0.4),
    "trades_fat": (55.6, 11.9, 5.8, 4.6, 1.9),
    "nofrost": (70.1, 12.2, 6.3, 5.0, 1.1),
}
AUGMENTED = {"deepaugment": "sat", "tda": "sat", "combine": "sat", "nofrost_star": "nofrost"}
RADII = (8, 10, 12, 14, 16, 32, 64)
N = 50_000


def net(row, **fields):
    if row in AUGMENTED:
        terms = "paper" if row == "nofrost_star" else row
        return made.net(AUGMENTED[row], method="augmented", terms=terms, **fields)
    return made.net("sat", adversarial_weight=1.0, **fields) if row == "pgdat" else made.net(row, **fields)


def attack(name, percent, n=N, epsilon_255=8.0, **fields):
    kind, _, steps = name.partition("_20")[0], None, 20 if "20" in name else None
    fields = {"attack": {"mia": "mi_fgsm", "pgdt": "pgd_targeted"}.get(kind, kind), "steps": steps} | fields
    return made.attack(name, round(n * percent / 100), n, epsilon_255, **fields)


def paper(row, seed=0, factor=1.0, **fields):
    """A result like that of configs/eval/paper.py."""
    clean, *under = TABLE1[row]
    names = ("pgd_20", "apgd_ce_20", "aa_fast_20", "aa_standard")
    attacks = [
        attack(name, factor * value, 5000 if name == "aa_standard" else N)
        for name, value in zip(names, under, strict=True)
    ]
    attacks += [attack("square_400", 45, steps=None, queries=400), attack("pgdt_20_all", 3 * under[0])]
    attacks[0]["flags"] = ["weak_attack"]
    return made.result(net(row, seed=seed, **fields), round(N * clean / 100), attacks, N, sha=f"{row}{seed}{fields}")


def mixed(gamma, interpolation="logits", **mixture):
    """MBNAT at a weight of its adversarial branch."""
    share = 1 / (1 + np.exp(8 * (0.5 - gamma)))
    names = {"pgd_20": 12.4, "apgd_ce_20": 6.5, "aa_fast_20": 5.2, "pgdt_20_all": 38.0, "aa_standard": 1.3}
    drop = {"logits": 1.0, "all": 0.9, "random": 0.8}[interpolation]
    attacks = [attack(name, drop * share * most, 1000 if name == "aa_standard" else N) for name, most in names.items()]
    mbn = {"gamma": gamma, "interpolation": interpolation} | mixture
    name = f"mbn_{interpolation}_gamma_{gamma:g}"
    clean = round(N * (69.7 - 13 * gamma**2) / 100)
    return made.result(net("mbnat"), clean, attacks, N, name, mbn=mbn, sha="mbnat")


def swept(row):
    """A result like that of configs/eval/epsilon_sweep.py."""
    most = 3 * TABLE1[row][1]
    attacks = []
    for radius in RADII:
        left = most * np.exp((8 - radius) / 6)
        attacks.append(attack(f"pgdt_20_eps_{radius}", 0.9 * left, epsilon_255=float(radius)))
        attacks.append(attack(f"pgdt_20_eps_{radius}_all", left, epsilon_255=float(radius)))
    return made.result(net(row), round(N * TABLE1[row][0] / 100), attacks, N, "epsilon_sweep", sha=f"{row}0{{}}")


def shifted(row, percent):
    """A result like that of configs/eval/shift.py."""
    sets = {"imagenet_r": percent - 4, "imagenet_sketch": percent - 12}
    entries = [made.share(round(300 * value), 30_000) | {"name": name, "flags": []} for name, value in sets.items()]
    cell = made.share(round(500 * percent), N) | {"corruption": "fog", "severity": 1}
    corruptions = {"name": "imagenet_c", "mean_accuracy": percent / 100, "cells": [cell], "flags": []}
    sha = f"{row}0{{}}"
    return made.result(net(row), 35_000, n=N, name="shift", sha=sha, shift=entries, corruptions=corruptions)


def properties(row, rng, scale, **fields):
    """(result, arrays) like those of configs/eval/properties.py."""
    columns = {
        "margin": np.tanh(rng.normal(scale, 0.6, 500)),
        "thickness": rng.gamma(3, 10 * scale, 500),
        "smoothness": rng.gamma(2, 1 / scale, 500),
    }
    means = {name: {"mean": float(some.mean()), "ci95": None, "sd": 1.0, "n": 500} for name, some in columns.items()}
    means = {name: {key: value for key, value in one.items() if value is not None} for name, one in means.items()}
    layers = [("module order", "stage2_block2/norm3"), ("without shortcuts", "stage3_block1/norm2")]
    statistics = [
        {"reading": reading, "number": 15, "layer": layer}
        | {"mean": rng.normal(-scale, 0.3, 256).tolist(), "var": rng.gamma(2, scale / 8, 256).tolist()}
        for reading, layer in layers
    ]
    statistics = statistics if row in ("st", "pgdat") else []
    one = made.result(net(row), 350, n=500, name="properties", bn_statistics=statistics, properties=means, **fields)
    return one, made.arrays(np.ones(500)) | {f"properties.{name}": some for name, some in columns.items()}


def convergence(row):
    """A result like that of configs/eval/convergence.py."""
    attacks, level = [], TABLE1[row][1]
    for kind, rule, factor in (("apgd_ce", None, 0.6), ("pgd", "nofrost", 1.1), ("pgd", "madry", 1.0)):
        for steps in (10, 20, 50, 100):
            value = factor * level * (1 - 0.12 * np.log2(steps / 10))
            name = f"{kind}_{steps}" + f"_{rule}" * bool(rule)
            attacks.append(attack(name, value, 1000, attack=kind, steps=steps, step_rule=rule))
    return made.result(net(row), 700, attacks, 1000, "convergence", sha=f"{row}0{{}}")


def pictures(run, name, attack, rng, k=8, side=32):
    """Saved images as `evaluation.pictures.save` writes them."""
    folder = run / "evaluations" / f"{name}_images"
    folder.mkdir(parents=True)
    ramp = np.linspace(0, 1, side)
    clean = np.stack([np.outer(ramp, np.roll(ramp, 4 * i)) for i in range(k)])[..., None] * [0.9, 0.6, 0.3]
    clean = np.rint(255 * clean).astype(np.uint8)
    adversarial = np.clip(clean / 255 + rng.choice([-8, 8], clean.shape) / 255, 0, 1).astype(np.float32)
    columns = {"index": np.arange(k), "label": np.arange(k), "clean": clean, "adversarial": adversarial}
    np.savez(folder / f"{attack}.npz", **columns, robust=np.arange(k) % 3 == 0)


def everything(folder, seed=0):
    """Results for every figure, on ImageNet with ResNet-26."""
    rng = np.random.default_rng(seed)
    for row in TABLE1:
        for one in (paper(row), swept(row), convergence(row)):
            made.write(folder / row, one)
    for other in (1, 2):
        made.write(folder / f"nofrost_{other}", paper("nofrost", other, 1 + 0.1 * other))
    for number, gamma in enumerate(np.arange(11) / 10):
        for kind, mixture in {"logits": {}, "all": {}, "random": {"p": 0.5, "seed": 0}}.items():
            if kind == "logits" or number % 2 == 0:
                made.write(folder / "mbnat", mixed(float(gamma), kind, **mixture))
    for row, percent in {"st": 38, "sat": 30, "deepaugment": 46, "tda": 42, "combine": 29, "nofrost_star": 49}.items():
        made.write(folder / row, shifted(row, percent))
        if row in AUGMENTED:
            attacks = [attack("pgd_20", 0.2 * percent), attack("square_400", percent, steps=None, queries=400)]
            made.write(folder / row, made.result(net(row), 30_000, attacks, N, "figure3", sha=f"{row}0{{}}"))
    for row, scale in {"st": 0.4, "pgdat": 0.8, "sat": 0.32, "nofrost": 0.47}.items():
        one, columns = properties(row, rng, scale, sha=f"{row}0{{}}")
        made.write(folder / row, one, columns)
    for gamma in (0.0, 1.0):
        mbn = {"gamma": gamma, "interpolation": "logits"}
        one, columns = properties("mbnat", rng, 0.3 + 0.1 * gamma, mbn=mbn, sha="mbnat")
        made.write(folder / "mbnat", one | {"name": f"properties_gamma_{gamma:g}"}, columns)
    pictures(folder / "nofrost", "paper", "pgd_20", rng)
