"""The model card: every accuracy that was measured of these variables, both protocols, nothing of others."""

import json
import shutil

import pytest

from nofrost_jax.checkpoint import load_export, tree_sha256
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.convert import card
from nofrost_jax.convert.sources import read
from nofrost_jax.errors import UserError
from tests.conftest import ROOT

DIGITS = ROOT / "notebooks/digits_nofrost"


def result(digest, *attacks, n=360, **clean):
    entries = [
        {
            "name": name,
            "attack": name.partition("__")[0],
            "norm": "linf",
            "epsilon_255": 38.25,
            "steps": 20,
            "robust_accuracy": accuracy,
            "ci95": [accuracy - 0.05, accuracy + 0.05],
            "uint8_accuracy": accuracy + 0.01,
            "flags": ["not_converged"],
        }
        for name, accuracy in attacks
    ]
    return {
        "schema": 1,
        "checkpoint": {"params_sha256": digest},
        "dataset": {"source": "folder:/home/me/x|y", "split": "val", "n": n, "of": 360},
        "clean": {"accuracy": 0.99, "ci95": [0.98, 1.0], **clean},
        "attacks": entries,
    }


@pytest.fixture
def net(tmp_path):
    """An export with a folder of evaluations, and the hash of its variables."""
    folder = tmp_path / "net"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("evaluations"))
    (folder / "evaluations").mkdir()
    return folder, tree_sha256(load_export(folder)[0])


def put(folder, name, value):
    (folder / "evaluations" / f"{name}.json").write_text(json.dumps(value))


def rows(text):
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1  # whatever was in a name
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_a_row_for_each_attack_and_both_protocols(net):
    folder, digest = net
    put(folder, "final", result(digest, ("pgd_20", 0.7), ("aa_standard", 0.6)))
    put(folder, "small", result(digest, ("x|<script>`", 0.5), n=64))
    put(folder, "other", result("0" * 64, ("aa_fast_20", 0.9)))
    text = card.write(read(folder))
    found = rows(text)
    assert [row[1] for row in found] == [
        *("none (clean)", "`pgd_20`, 20 steps", "`aa_standard`, 20 steps"),
        *("none (clean)", "`x/(script)'`, 20 steps", "`aa_fast_20`"),
    ]
    assert found[2][2:6] == ["38.25", "60.00%", "55.0% to 65.0%", "61.00%"] and found[2][6] == "not_converged"
    assert found[3][0] == "folder val, 64 of 360" and found[5][3] == "not run"
    assert "Results of other variables are left out: 1." in text and "/home/me" not in text.partition("## Measured")[2]
    assert text.startswith("---\nlibrary_name: nofrost_jax") and "## Limits" in text and digest in text


def test_results_that_cannot_be_read_are_named_and_left_out(net):
    folder, digest = net
    put(folder, "final", result(digest, ("aa_standard", 0.6)))
    texts = {"list": '["no result"]', "cut": '{"clean": {', "deep": "[" * 50_000, "empty": "", "bytes": "\udcff"}
    for name, text in texts.items():
        (folder / f"evaluations/{name}.json").write_bytes(text.encode(errors="surrogateescape"))
    for name in ("dataset", "clean", "checkpoint", "attacks"):
        put(folder, f"no_{name}", {key: value for key, value in result(digest).items() if key != name})
    old, wrong = result(digest, ("pgd_20", 0.5)), result(digest, ("pgd_20", 0.5))
    del old["attacks"][0]["uint8_accuracy"]
    wrong["attacks"][0]["ci95"] = [10**400, "x"]
    put(folder, "old", old)
    put(folder, "wrong", wrong)
    text = card.write(read(folder))
    assert [row[1] for row in rows(text)] == ["none (clean)", "`aa_standard`, 20 steps", "`aa_fast_20`"]
    names = sorted([*texts, "no_dataset", "no_clean", "no_checkpoint", "no_attacks", "old", "wrong"])
    assert f"left out: {', '.join(f'{name}.json' for name in names)}." in text


def test_each_row_of_a_mixture_net_says_its_weight(net):
    folder, digest = net
    for gamma in (0.0, 0.5):
        mixture = {"mbn": {"gamma": gamma, "interpolation": "logits"}}
        put(folder, f"final_gamma_{gamma:g}", result(digest, ("pgd_20", 0.7 - gamma / 5)) | mixture)
    found = [row[0] for row in rows(card.write(read(folder))) if row[0]]
    both = [f"folder val, 360, gamma {gamma}, interpolation logits" for gamma in (0.0, 0.5)]
    assert found == [both[0], both[0], both[1], both[1]]


def test_a_config_without_what_the_card_says_is_one_line(net, tmp_path):
    config = json.loads((net[0] / "config.json").read_text())
    del config["method"]
    (net[0] / "config.json").write_text(json.dumps(config))
    (net[0] / "README.md").unlink()
    with pytest.raises(UserError, match=r"config\.method\.name is missing"):
        convert.export(read(net[0]), str(tmp_path / "out"))


def test_without_results_both_protocols_are_not_run(net):
    assert [row[1:4] for row in rows(card.write(read(net[0])))] == [
        ["`aa_fast_20`", "", "not run"],
        ["`aa_standard`", "", "not run"],
    ]


def test_an_export_of_an_export_keeps_the_card_with_its_results(net, tmp_path):
    folder, digest = net
    put(folder, "final", result(digest, ("aa_standard", 0.6)))
    convert.main([str(folder), str(tmp_path / "one")])
    convert.main([str(tmp_path / "one"), str(tmp_path / "two")])
    text = (tmp_path / "two/README.md").read_text()
    assert "60.00%" in text and text == (tmp_path / "one/README.md").read_text()
