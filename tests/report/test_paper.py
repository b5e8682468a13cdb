"""paper.json has the paper's numbers: the same as the docstrings of the configs, which were written by other hands."""

import importlib

import pytest

from nofrost_jax.report import paper
from nofrost_jax.report.exhibits import EXHIBITS, METHODS

TITLES = {  # of docstrings
    "clean": "clean",
    "pgd_20": "PGD",
    "apgd_ce_20": "APGD-CE",
    "apgd_dlr_20": "APGD-DLR",
    "mia_20": "MIA",
    "cw_20": "CW",
    "rays_400": "RayS",
    "square_400": "Square",
    "aa_fast_20": "fast AutoAttack (aa_fast_20)",
    "pgd_10_eps_{epsilon}": "PGD-10",
    "pgd_50_eps_{epsilon}": "PGD-50",
}
DATA = paper.read()
ROWS = [(name, row) for name, table in DATA["tables"].items() for row in table["rows"]]


def docstring(module):
    return " ".join(importlib.import_module(f"configs.{module}").__doc__.split())


def written(key, value):
    return f"{value:.1f}" if key in ("rays_400", "square_400") else f"{value:.2f}"


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda one: one if isinstance(one, str) else one["row"])
def test_a_row_is_that_of_the_configs(table, row):
    if table == "table5":
        margin, thickness, smoothness = row["values"].values()
        assert f"| {row['method']} | {margin:.4f} | {thickness:.2f} | {smoothness:.3f} |" in docstring(
            "eval.properties"
        )
        return
    if table == "table4":
        deviations = row["deviations"]
        parts = [f"{TITLES[key]} {value:.2f} +- {deviations[key]:.2f}" for key, value in row["values"].items()]
        assert ", ".join(parts).replace("fast AutoAttack (aa_fast_20)", "aa_fast_20") in docstring("nofrost_r26")
        return
    parts = [f"{TITLES[key]} {written(key, value)}" for key, value in row["values"].items()]
    at = f" at eps {row['epsilon_255']}/255" if "epsilon_255" in row else ""
    assert ", ".join(parts) + at in docstring(f"{row['row']}_r{row['depth']}")


def test_numbers_of_the_text_are_those_of_the_configs():
    first, second, *_ = DATA["text"]
    for row in (first, second):
        values = "clean {clean} and APGD-CE {apgd_ce_20:g} at gamma".format(**row["values"])
        assert f"{values} {row['gamma']:g}" in docstring("mbnat_r26")
    star = DATA["differences"][1]["values"]
    assert "PGD {pgd_20:+.2f}, Square {square_400:+.2f}".format(**star) in docstring("nofrost_star_r50")
    assert f"ImageNet-R {star['shift.imagenet_r']:+.2f}" in docstring("nofrost_star_r50")
    assert f"ImageNet-C accuracy {star['shift.imagenet_c']:+.2f}" in docstring("nofrost_star_r50")
    (public,) = DATA["public"]
    measured = "{apgd_ce_20:.2f} % under APGD-CE-20 on the authors' checkpoint, {apgd_ce_100:.2f} % with 100 steps and"
    assert f"{measured} {{aa_standard:.2f}} %".format(**public["values"]) in docstring("eval.paper")


def test_every_cell_of_the_paper_has_a_place_in_our_tables():
    for table, row in ROWS:
        exhibit = EXHIBITS[table]
        keys = [column.key for column in exhibit.columns]
        assert [key for key in keys if key in row["values"]] == list(row["values"])
        assert set(keys) - row["values"].keys() <= {"aa_fast_20", "aa_standard"}  # added by us
        assert row["depth"] in {net.depth for net in exhibit.nets if net.row == row["row"]}
        assert paper.find(table, row["row"], row.get("epsilon_255")) is row
    assert sum(len(row["values"]) for _, row in ROWS) == 54 + 54 + 6 + 5 + 9 + 9 + 18


def test_rows_have_names_and_sources():
    for row in [*DATA["text"], *DATA["differences"], *DATA["public"]]:
        assert row["source"] and row["row"] in METHODS and row["values"]
    assert paper.find("table1", "mbnat") is None and paper.find("figure1", "st") is None
