"""README and docs/: the files they name exist, the links lead somewhere, the figures are committed results."""

import json
import pathlib
import re

import pytest

from configs import digits, methods
from nofrost_jax import attacks

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "benchmarks" / "results"


def text(page):
    return (ROOT / page).read_text()


def test_two_lines_install_and_run():
    lines = [line for line in text("README.md").splitlines() if line.startswith("pip install -r requirements")]
    assert lines == [
        "pip install -r requirements.txt && python main.py --config=configs/digits.py --workdir=runs/digits",
        "pip install -r requirements-test.txt && python -m pytest",
    ]


@pytest.mark.parametrize("page", PAGES)
def test_files_and_links_exist(page):
    assert "@@" not in text(page)
    named = re.findall(r"(?:configs|launch|notebooks|benchmarks|tests)/[\w/]+\.\w+", text(page))
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text(page)) if "://" not in link]
    for name in {*named} - {"configs/NAME.py"}:
        assert (ROOT / name).exists(), name
    for link in links:
        assert (ROOT / page).parent.joinpath(link).exists(), link


def test_table_of_configs_is_complete():
    table = text("docs/configs.md")
    for path in (ROOT / "configs").glob("*_r??.py"):
        assert f"`{path.name}`" in table
    for row in methods.ROWS.keys() - {"nofrost"}:
        assert digits.get_config(row) and f"`digits.py:{row}`" in table


def test_figures_are_those_of_committed_results():
    means = json.loads((RESULTS / "digits.json").read_text())["means"]
    step = json.loads((RESULTS / "train_step_nf_resnet26_64_float32_cpu.json").read_text())["ratios"]
    readme = text("README.md")
    for figure in (
        f"clean {means['nofrost']['clean']:.1%}, PGD-20 {means['nofrost']['pgd_20']:.1%}",
        f"`aa_fast_20` {means['nofrost']['aa_fast_20']:.1%}, `aa_standard` {means['nofrost']['aa_standard']:.1%}",
        f"{means['st']['pgd_20']:.1%} under the same PGD and {means['st']['aa_standard']:.1%} under",
    ):
        assert figure in readme, figure
    for ratio in (*_peer_ratios(), step["XLA convolutions / ours"], step["step / its parts"]):
        assert f"{ratio['median']:.2f}" in text("docs/performance.md")


def test_the_bounds_on_an_accelerator_are_the_program_s():
    for program, found in json.loads((RESULTS / "gpu_program_h100.json").read_text()).items():
        name, least = program.removeprefix("nf_resnet50 bfloat16 128 "), f"{1e3 * found['seconds']:.1f}"
        of_step, of_option = f"| {least} | {found['images_per_second']:.0f} |", f"| {name} | {least} |"
        if name != "input gradient":
            assert (of_step if program.endswith(" 128 step") else of_option) in text("docs/performance.md"), program


def _peer_ratios():
    peer = json.loads((RESULTS / "attacks_cpu.json").read_text())["peer"]
    for label in ("apgd_ce_100", "aa_standard"):
        yield peer[label]["pyautoattack / ours, compilation included"]
        yield peer[label]["pyautoattack / ours"]


def test_a_methods_step_costs_what_its_passes_predict():
    for name, row in json.loads((RESULTS / "methods_cpu.json").read_text())["methods"].items():
        assert 0.85 < row["measured / predicted"]["median"] < 1.15, name
        passes = ", ".join(map(str, row["passes"]))
        assert f"| {passes} | {row['predicted']['median']:.2f} | {row['measured']['median']:.2f} |" in text(
            "docs/performance.md"
        )


def test_attacks_spend_the_passes_that_theory_gives_them():
    counts = json.loads((RESULTS / "attacks_cpu.json").read_text())["counts"]
    assert set(counts) == set(attacks.NAMES)
    assert all(row["theory"] == row["reported"] == row["counted"] for row in counts.values())


def test_figures_hold_what_was_promised():
    """Digits: the default's accuracies. The step: it costs no more than its parts, and half of XLA's on a CPU."""
    means = json.loads((RESULTS / "digits.json").read_text())["means"]
    assert means["nofrost"]["clean"] >= 0.985 and means["nofrost"]["pgd_20"] >= 0.65 and means["nofrost"]["seeds"] >= 3
    ratios = json.loads((RESULTS / "train_step_nf_resnet26_64_float32_cpu.json").read_text())["ratios"]
    assert ratios["step / its parts"]["median"] <= 1.05 and ratios["XLA convolutions / ours"]["median"] >= 2
