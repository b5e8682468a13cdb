"""The tables: what stands in a cell, which are best, what is missing; a text of a file never becomes more than text."""

import csv
import io
import statistics

import numpy as np
import pytest

from nofrost_jax.report import overview, tables, text
from nofrost_jax.report.collect import IMAGENET, collect
from nofrost_jax.report.exhibits import EXHIBITS
from tests.report import made

PAPER = {  # attack -> how many of 1,000 images stay right
    "st": {"clean": 760, "pgd_20": 0, "aa_fast_20": 0, "aa_standard": 0},
    "sat": {"clean": 590, "pgd_20": 130, "aa_fast_20": 60, "aa_standard": 50},
    "nofrost": {"clean": 740, "pgd_20": 220, "aa_fast_20": 90},
}


def run(folder, row="nofrost", right=None, seed=0, n=1000, source="tfds:imagenet2012", depth=26, flags=(), **fields):
    """A run with a result, and per-image outcomes whose first images are the right ones."""
    right = dict(right or PAPER[row])
    clean = right.pop("clean")
    attacks = [made.attack(name, count, n, flags=flags, steps=20) for name, count in right.items()]
    columns = {name: np.arange(n) < count for name, count in right.items()}
    result = made.result(made.net(row, depth, seed=seed), clean, attacks, n, source=source, sha=str(folder), **fields)
    made.write(folder, result, made.arrays(np.arange(n) < clean, **columns))


def table(folder, name="table3", source=IMAGENET):
    return next(one for one in tables.tables(collect(folder))[0] if (one.exhibit.name, one.source) == (name, source))


def cells(line):
    return [cell.text for cell in line.cells]


def test_our_numbers_stand_beside_the_papers(tmp_path):
    run(tmp_path / "a")
    sat, sat_in, nofrost = table(tmp_path).lines
    assert cells(nofrost) == ["74.0", "22.0", "9.0", "not run"]  # aa_standard was not run, and says so
    assert cells(sat) == ["–"] * 4 and not sat.nets
    assert [cell.paper_text for cell in nofrost.cells] == ["70.13", "12.24", "", ""]
    assert [cell.paper_text for cell in sat_in.cells] == ["56.78", "11.06", "", ""]
    assert nofrost.cells[0].interval == "72.0 to 76.0"


def test_off_imagenet_the_papers_values_do_not_stand_beside_ours(tmp_path):
    run(tmp_path / "a", source="digits")
    one = table(tmp_path, source="digits")
    assert not any(cell.paper_text for line in one.lines for cell in line.cells)
    shown = text.exhibit([one])
    assert "cannot be compared" in shown and "| SAT w/ IN | 56.78 | 11.06 | – | – |" in shown
    assert table(tmp_path, "table2", "digits").lines[-1].nets  # one net in place of both depths


def test_many_images_have_two_decimals(tmp_path):
    run(tmp_path / "a", right={"clean": 35_065}, n=50_000)
    assert table(tmp_path).lines[-1].cells[0].text == "70.13"


def test_seeds_are_a_mean_and_a_sample_deviation(tmp_path):
    counts = (700, 705, 725)
    for seed, count in enumerate(counts):
        run(tmp_path / str(seed), right=PAPER["nofrost"] | {"clean": count}, seed=seed)
    one = table(tmp_path, "table4")
    (line,) = one.lines
    share = [count / 10 for count in counts]
    assert line.seeds == (0, 1, 2)
    assert line.cells[0].text == f"{statistics.mean(share):.1f} ± {statistics.stdev(share):.1f}" == "71.0 ± 1.3"
    assert line.cells[0].interval == "" and line.cells[0].paper_text == "70.15 ± 0.03"
    assert [lack.what for lack in one.missing] == ["NoFrost (ResNet-26): APGD-CE, APGD-DLR, AA (standard)"]


def test_a_seed_without_a_number_and_a_missing_seed_are_told(tmp_path):
    run(tmp_path / "0")
    run(tmp_path / "1", right={"clean": 700}, seed=1)
    one = table(tmp_path, "table4")
    assert cells(one.lines[0])[:2] == ["72.0 ± 2.8", "22.0 (1 of 2)"]
    assert one.missing[0].what.startswith("NoFrost (ResNet-26): seed 2, PGD")
    assert one.missing[0].command == f"python -m nofrost_jax.tools.reproduce table4 --workdir={tmp_path}"


def test_seeds_of_another_table_are_not_asked_for(tmp_path):
    """Table 4 has three seeds; Table 1 needs one, and Table 5 shows no seed that it has nothing of."""
    mean = {"margin": {"mean": 0.3, "ci95": [0.2, 0.4], "sd": 1.0, "n": 500}}
    for seed in (0, 1):
        counts = {"clean": 700} | ({"mia_20": 100} if seed == 0 else {})
        run(tmp_path / str(seed), right=counts, seed=seed, **({"properties": mean} if seed == 0 else {}))
    one = table(tmp_path, "table1")
    assert cells(one.lines[-1])[4] == "10.0 (1 of 2)" and "MIA" not in one.missing[-1].what
    assert "PGD" in one.missing[-1].what
    assert table(tmp_path, "table5").lines[-1].cells[0].text == "0.3000"


def test_other_ways_of_training_and_equal_seeds_are_lines_of_their_own(tmp_path):
    run(tmp_path / "paper", seed=0)
    run(tmp_path / "authors", seed=0, recipe="authors")
    assert [line.label for line in table(tmp_path, "table4").lines] == [
        "NoFrost, recipe authors",
        "NoFrost, recipe paper",
    ]
    run(tmp_path / "again", seed=0)
    assert "NoFrost, recipe paper (again)" in [line.label for line in table(tmp_path, "table4").lines]


def test_best_and_second_are_marked_and_ties_share_a_mark(tmp_path):
    run(tmp_path / "st", "st", {"clean": 760, "pgd_20": 220}, depth=50)
    run(tmp_path / "st_nf", "st_nf", {"clean": 750, "pgd_20": 219}, depth=50)
    run(tmp_path / "nofrost", "nofrost", {"clean": 740, "pgd_20": 220}, depth=50)
    lines = table(tmp_path, "table6").lines
    assert [[cell.rank for cell in line.cells[:2]] for line in lines] == [[1, 1], [2, 2], [0, 1]]
    shown = text.one(table(tmp_path, "table6"))
    assert "**76.0**" in shown and "<u>75.0</u>" in shown and "**22.0** [" in shown


def test_equal_values_are_not_ranked(tmp_path):
    for row in ("st", "nofrost"):
        run(tmp_path / row, row, {"clean": 700}, depth=50)
    assert {cell.rank for line in table(tmp_path, "table6").lines for cell in line.cells} == {0}


def test_less_is_smoother(tmp_path):
    for row, amount in (("sat", 4.9), ("nofrost", 3.0)):
        mean = {name: {"mean": amount, "ci95": [0, 9], "sd": 1.0, "n": 500} for name in ("margin", "smoothness")}
        made.write(tmp_path / row, made.result(made.net(row), properties=mean, name="properties", sha=row))
    for gamma in (0.0, 0.5, 1.0):
        mbn = {"gamma": gamma, "interpolation": "logits"}
        made.write(tmp_path / f"m{gamma}", made.result(made.net("mbnat"), mbn=mbn, sha=str(gamma)))
    lines = table(tmp_path, "table5").lines
    assert [line.label for line in lines] == ["SAT", "MBNAT, gamma 0", "MBNAT, gamma 1", "NoFrost"]  # not 0.5
    margin, _, smoothness = ([line.cells[place].rank for line in lines] for place in range(3))
    assert (margin, smoothness) == ([1, 0, 0, 2], [2, 0, 0, 1])
    assert lines[0].cells[2].text == "4.900" and lines[0].cells[2].paper_text == "4.927"


def test_radii_are_ranked_apart(tmp_path):
    for epsilon, count in ((2.0, 700), (4.0, 600)):
        for row in ("nofrost",):
            net = made.net(row, 50, epsilon_255=epsilon)
            attack = made.attack(f"pgd_10_eps_{epsilon:g}", count, epsilon_255=epsilon, steps=10)
            made.write(tmp_path / f"{row}{epsilon}", made.result(net, attacks=[attack]))
    shown = {line.label: line for line in table(tmp_path, "table7").lines}
    assert list(shown)[2::3] == ["NoFrost, eps 2/255", "NoFrost, eps 4/255"]
    assert [line.cells[1].text for line in shown.values()][2::3] == ["70.0", "60.0"]
    assert shown["NoFrost, eps 4/255"].cells[1].paper_text == "36.14"
    assert not any(cell.rank for line in shown.values() for cell in line.cells)


def test_flags_are_footnotes(tmp_path):
    run(tmp_path / "a", flags=["weak_attack", "not_heard_of"])
    one = table(tmp_path)
    assert list(one.flags) == ["not_heard_of", "weak_attack"]
    shown = text.one(one)
    assert "22.0<sup>a,b</sup>" in shown and "<sup>b</sup> weak\\_attack: another attack" in shown
    assert "not known to this version" in shown


def test_the_number_of_images_the_radius_and_the_recipe_are_told(tmp_path):
    run(tmp_path / "sat", "sat", recipe="authors")
    net, few = made.net("nofrost"), [made.attack("aa_standard", 5, 100)]
    made.write(tmp_path / "nofrost", made.result(net, attacks=few))
    one = table(tmp_path)
    assert text.remarks(one) == ("1,000 images (AA (standard) 100 to 1,000); epsilon 8/255; recipe authors, paper.")
    assert text.remarks(one) in text.one(one)


def test_nets_are_compared_on_the_same_images_with_corrected_p(tmp_path):
    run(tmp_path / "sat", "sat")
    run(tmp_path / "nofrost")
    found = table(tmp_path).pairs
    assert [(pair.first, pair.second, pair.column) for pair in found] == [
        ("NoFrost", "SAT", "Clean"),
        ("NoFrost", "SAT", "PGD"),
        ("NoFrost", "SAT", "AA (fast, 20 steps)"),
    ]
    assert [pair.difference.only_first for pair in found] == [150, 90, 30]
    raw = [pair.difference.p for pair in found]
    assert raw[0] < raw[1] < raw[2]
    assert [pair.p for pair in found] == pytest.approx([3 * raw[0], 2 * raw[1], raw[2]], rel=1e-12, abs=0)
    shown = text.comparisons(found)
    assert "| NoFrost − SAT | Clean | 0 | 1,000 | +15.0 |" in shown and "Not compared" not in shown


def test_another_attack_of_the_name_is_marked_not_averaged_not_ranked_not_compared(tmp_path):
    for row, rule, count in (("sat", "nofrost", 130), ("nofrost", "madry", 220)):
        attack = made.attack("pgd_20", count, steps=20, step_rule=rule)
        made.write(tmp_path / row, made.result(made.net(row), attacks=[attack], name="paper" * (row == "sat") or "own"))
    one = table(tmp_path)
    assert [line.cells[1].text for line in one.lines] == ["13.0", "–", "22.0"]
    assert one.lines[-1].cells[1].flags == ("other_settings",) and {line.cells[1].rank for line in one.lines} == {0}
    assert "another attack of this name" in text.one(one)
    assert [pair.reason for pair in one.pairs if pair.column == "PGD"] == ["they were attacked in different ways"]
    (lack,) = [lack for lack in one.missing if lack.what.startswith("NoFrost")]
    assert "PGD" in lack.what  # its command makes the attack of the others
    second = made.attack("pgd_20", 120, steps=20, step_rule="nofrost")
    made.write(tmp_path / "1", made.result(made.net(seed=1), attacks=[second]))
    (line,) = [line for line in table(tmp_path).lines if line.net.row == "nofrost"]
    assert line.cells[1].text == "12.0 (1 of 2)" and line.cells[1].seeds == (1,) and line.cells[1].flags == ()


def test_what_is_missing_is_of_the_tables_without_a_number_too(tmp_path):
    run(tmp_path / "sat", "sat")
    run(tmp_path / "nofrost")
    made, lacks = tables.tables(collect(tmp_path))
    assert {lack for one in made for lack in one.missing} < set(lacks)


def test_a_pair_that_cannot_be_compared_says_why(tmp_path):
    run(tmp_path / "sat", "sat")
    run(tmp_path / "nofrost")
    (tmp_path / "sat" / "evaluations" / "paper.npz").write_bytes(b"PK")
    (pair, *_) = table(tmp_path).pairs
    assert pair.difference is None and "cannot be read" in pair.reason
    assert "cannot be read" in text.comparisons([pair])


def test_a_partial_set_gives_what_there_is_and_names_the_rest(tmp_path):
    run(tmp_path / "nofrost", depth=50)
    made, lacks = tables.tables(collect(tmp_path))
    assert [one.exhibit.name for one in made] == ["table2", "table6"]
    assert {lack.exhibit for lack in lacks} == {name for name in EXHIBITS if name.startswith("table")}
    assert "SAT (ResNet-50): everything" in [lack.what for lack in lacks if lack.exhibit == "table2"]
    run(tmp_path / "digits", source="digits")
    commands = {lack.command for lack in tables.tables(collect(tmp_path))[1] if lack.source == "digits"}
    assert f"python -m nofrost_jax.tools.reproduce table1 --source=digits --workdir={tmp_path}" in commands


def test_every_net_is_shown_also_one_of_no_table(tmp_path):
    """Weights that were trained elsewhere have a config whose training is not theirs."""
    run(tmp_path / "sat", "sat")
    run(tmp_path / "sat_1", "sat", seed=1)
    own = made.result(made.net("st", 50), 700, [made.attack("apgd_ce_100", 53)], sha="x")
    own["checkpoint"]["file"] = "best_RA.pth"
    made.write(tmp_path / "theirs", own)
    assert {one.exhibit.name for one in tables.tables(collect(tmp_path))[0]} == {"table1", "table3"}  # not 2: no ST
    (one,) = overview.tables(collect(tmp_path))
    assert [column.key for column in one.exhibit.columns] == [
        *("clean", "pgd_20", "aa_fast_20", "aa_standard", "apgd_ce_100"),
    ]
    assert {line.label: cells(line)[-1] for line in one.lines} == {
        "SAT, ResNet-26, eps 8/255": "–",
        "best_RA.pth, ResNet-50, eps 8/255": "5.3",
    }
    assert one.lines[0].seeds == (0, 1) and cells(one.lines[1])[3] == "not run"
    assert "**All nets, ImageNet: " in text.exhibit([one]) and "of the paper, on ImageNet" not in text.exhibit([one])
    assert text.sheet([one]).count("\nnets,") == 15


def test_an_empty_folder_lacks_everything_of_imagenet(tmp_path):
    made, lacks = tables.tables(collect(tmp_path))
    assert made == [] and {lack.source for lack in lacks} == {IMAGENET}


def rows(folder):
    return list(csv.DictReader(io.StringIO(text.sheet([table(folder)]))))


def test_the_sheet_has_every_number_of_every_seed(tmp_path):
    for seed in (0, 1):
        run(tmp_path / str(seed), seed=seed, flags=["weak_attack"])
    found = [row for row in rows(tmp_path) if row["row"] == "nofrost"]
    assert [(row["seed"], row["column"]) for row in found[:2]] == [("0", "Clean"), ("1", "Clean")]
    pgd = next(row for row in found if row["key"] == "pgd_20")
    assert (pgd["value"], pgd["n"], pgd["unit"], pgd["flags"]) == ("0.22", "1000", "share", "weak_attack")
    assert float(pgd["paper"]) == pytest.approx(0.1224) and pgd["file"] == "0/evaluations/paper.json"
    assert pgd["command"].startswith("python main.py --mode=evaluate --config=configs/eval/paper.py")
    assert {row["state"] for row in found if row["key"] == "aa_standard"} == {"not run"}
    assert {row["state"] for row in rows(tmp_path) if row["row"] == "sat"} == {"missing"}


NASTY = "|x|<script>alert(1)</script>`*_[a](javascript:1)\n# head\x1b[31m"


def test_texts_of_files_stay_texts(tmp_path):
    for name in ("=cmd|' /C calc'!A0", NASTY.replace("/", "\\")):
        run(tmp_path / name, flags=[NASTY])
    one = table(tmp_path)
    shown = text.exhibit([one])
    assert (
        "<script" not in shown
        and "\x1b" not in shown
        and "\n# head" not in shown
        and "](java" not in shown.replace("\\]", "")
    )
    lines = [line for line in shown.splitlines() if line.startswith("| NoFrost")]
    assert lines and all(line.replace("\\|", "").count("|") == 6 for line in lines)
    assert not any(field.startswith(("=", "+", "-", "@")) for row in rows(tmp_path) for field in row.values())
    text.sheet([one]).encode()


def test_a_name_of_an_attack_stays_a_text_in_the_head(tmp_path):
    run(tmp_path, right={"clean": 740, "x|y <img src=x onerror=1> [a](javascript:1)": 220})
    (one,) = overview.tables(collect(tmp_path))
    shown = text.exhibit([one])
    head = next(line for line in shown.splitlines() if line.startswith("| Method"))
    assert r"| x\|y &lt;img src=x onerror=1> \[a\](javascript:1) |" in head
    assert head.replace("\\|", "").count("|") == len(one.exhibit.columns) + 2 and "<img" not in shown
