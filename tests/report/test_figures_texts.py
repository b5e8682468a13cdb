"""Names and flags in figures and their captions are short."""

from nofrost_jax.report.collect import collect
from nofrost_jax.report.figures import beyond, lookup
from tests.report import figured, made


def test_flags_in_captions_are_short(tmp_path):
    rows = list(figured.TABLE1)[:4]
    for place, row in enumerate(rows):
        names = [f"pgd_{steps}" for steps in range(1, 7)]
        flags = [["weak_attack"] * (place < 2 and name == "pgd_1") + ["few"] * (place > 0) for name in names]
        attacks = [figured.attack(name, 10, flags=some) for name, some in zip(names, flags, strict=True)]
        one = made.result(made.net(row), attacks=attacks, flags=["partial"], sha=row)
        made.write(tmp_path / row, one)
    numbers = [lookup.number(net, name) for net in lookup.nets(collect(tmp_path).nets) for name in ("clean", *names)]
    assert lookup.flags(numbers) == (
        " Flags: few (6 attacks of SAT, TRADES, FAT), partial (all), weak_attack (pgd_1 of ST, SAT)."
    )


def test_long_names_keep_both_ends():
    assert beyond._fitting("short.pth", ", 50") == "short.pth, 50"
    shown = beyond._fitting("resnet50_l2_eps3_seed0.ckpt", ", 50, 8/255")
    assert shown == "resnet…0.ckpt, 50, 8/255" and len(shown) == beyond.LONGEST
