"""The tables of what an accelerator gave, from result files made by hand, and what is committed."""

import json

import pytest

from nofrost_jax import errors
from nofrost_jax.report import accelerator
from tests.conftest import ROOT


def run(clean, pgd, epochs=30):
    attacks = [{"name": "aa_standard", "robust_accuracy": pgd / 2}, {"name": "pgd_20", "robust_accuracy": pgd}]
    return {"epochs": epochs, "clean": {"accuracy": clean}, "attacks": attacks}


@pytest.fixture
def folder(tmp_path):
    """Results of one device."""
    figures = {
        "ceiling": ({"copy": 3.0}, True, "790 TFLOP/s", {}),
        "correct": ({}, False, "", {"failure": {"reason": "exit code 1"}}),
        "profile": ({}, False, "", {}),
        "torch_step": ({"a": 1}, False, "", {"failure": {"reason": "killed at its limit of 90 s"}}),
        "train_step": ({}, False, "", {"failure": {"reason": "killed at its limit of 170 s"}}),
        "study_sat_seed0": (run(0.8, 0.5), True, "", {}),
        "study_sat_seed1": (run(0.82, 0.52), True, "", {}),
        "study_pgdat_nf_seed0": ({"epochs": 31}, True, "not finite at step 9", {}),
        "study_st_seed0": ({"epochs": 300}, False, "", {}),
    }
    (tmp_path / "GPU_9").mkdir()
    for name, (values, complete, headline, more) in figures.items():
        result = {"device": "GPU 9", "versions": {"jax": "0.11.2"}, "seconds": 31.7, "complete": complete}
        result |= {"headline": headline, "figures": values, **more}
        (tmp_path / "GPU_9" / f"{name}.json").write_text(json.dumps(result))
    return tmp_path


def test_a_devices_tables(folder):
    assert accelerator.render(accelerator.read(folder)).splitlines()[:-1] == [
        "**GPU 9** (jax 0.11.2)",
        "",
        "| Task | Seconds | Result |",
        "| --- | ---: | --- |",
        "| ceiling | 32 | 790 TFLOP/s |",
        "| correct | 32 | failed: exit code 1 |",
        "| profile | 32 | not finished yet |",
        "| torch_step | 32 | not finished yet |",
        "| train_step | 32 | failed: killed at its limit of 170 s |",
        "",
        "| Method | Seeds | Epochs | Clean | PGD-20 | aa_standard |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| SAT | 2 | 30 | 81.0 ± 1.4 | 51.0 ± 1.4 | 25.5 ± 0.7 |",
        "| PGDAT (NF) | 1 | 31 | – (0 of 1) | – (0 of 1) | – (0 of 1) |",
        "",
    ]


def test_another_file_is_refused(folder):
    (folder / "GPU_9" / "other.json").write_text("[]")
    with pytest.raises(errors.UserError, match=r"other\.json is not a result"):
        accelerator.read(folder)


def test_the_committed_tables_are_those_of_the_committed_files(tmp_path):
    """And the pages that will take figures from them say that there is none as long as there is none."""
    found = accelerator.read(ROOT / accelerator.RESULTS)
    page, written = (ROOT / "RESULTS.md").read_text(), tmp_path / "RESULTS.md"
    written.write_text(page.replace("measured", "guessed"))
    accelerator.main([str(ROOT / accelerator.RESULTS), f"--into={written}"])
    assert accelerator.render(found) in page, "run python -m nofrost_jax.report.accelerator --into=RESULTS.md"
    assert accelerator.render(found) in written.read_text()
    for name in ("README.md", "docs/performance.md", "docs/shift.md"):
        says_so = "no accelerator has been measured yet" in " ".join((ROOT / name).read_text().split()).lower()
        assert says_so == (not found), f"{name}: see RESULTS.md"
