"""Saved outcomes are of the images that they were computed on, wherever these lie."""

import json
import shutil

import jax
import pytest

from nofrost_jax.errors import UserError
from nofrost_jax.models import convolutions
from tests.conftest import tiny_args, tiny_config
from tests.data.helpers import dataset_of, encoded, picture
from tests.evaluation.suite import identity


def of(root, **fields):
    source = {"data__source": f"folder:{root}", "data__eval_split": ".", "data__holdout": 0}
    return identity(tiny_config(**source | fields))


@pytest.fixture
def tree(tmp_path):
    """Four images in two classes, PNG files that are all of one length."""
    for i in range(4):
        path = tmp_path / "one" / "01"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(i), kind="PNG").ljust(20_000, b"\0"))
    return tmp_path / "one"


def test_the_same_images_elsewhere_are_the_same(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "deep" / "other")
    assert of(tmp_path / "deep" / "other") == of(tree) == of("one", data__data_dir=str(tmp_path))


@pytest.mark.parametrize("change", ["size", "name", "label", "content"])
def test_as_many_other_images_are_others(tree, change):
    before, path = of(tree), tree / "0/2.png"
    if change == "size":
        path.write_bytes(path.read_bytes() + b"\0")
    elif change == "name":
        path.rename(tree / "0/3.png")
    elif change == "label":
        (tree / "0").rename(tree / "2")
    else:
        path.write_bytes(encoded(picture(9), kind="PNG").ljust(20_000, b"\0"))
    after = of(tree)
    assert after["images"] == before["images"]
    assert {name for name in before["data"] if before["data"][name] != after["data"][name]} == {"contents"}


def test_held_out_images_of_a_folder(tree):
    fields = {"data__eval_split": "holdout", "data__holdout": 1, "data__train_split": "one"}
    assert (
        of(tree.parent, **fields)["data"]["contents"]
        == dataset_of(tiny_config(data__source=f"folder:{tree.parent}", data__eval_split="one")).fingerprint
    )


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot list the image folder"):
        of(tmp_path / "nowhere")


def test_digits_are_told_by_their_name():
    assert identity(tiny_config())["data"]["source"] == "digits"
    assert dataset_of(tiny_config()).fingerprint == ""


@pytest.mark.parametrize(
    "option, value",
    [
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", not jax.config.jax_threefry_partitionable),
        ("jax_default_matmul_precision", "bfloat16"),
    ],
)
def test_what_jax_is_told_of_numbers_counts(option, value):
    before, old = identity(tiny_config()), getattr(jax.config, option)
    jax.config.update(option, value)
    try:
        assert identity(tiny_config()) != before
    finally:
        jax.config.update(option, old)
    assert identity(tiny_config()) == before


def test_how_convolutions_are_computed_counts_and_an_unknown_way_is_refused(monkeypatch, cli, tmp_path):
    found = set()
    for way in convolutions.CONV_IMPLEMENTATIONS:
        monkeypatch.setenv("NOFROST_CONV", way)
        found.add(json.dumps(identity(tiny_config())))
    assert len(found) == len(convolutions.CONV_IMPLEMENTATIONS)
    monkeypatch.setenv("NOFROST_CONV", "slice")
    for mode in ("train", "dry_run"):
        outcome = cli(*tiny_args(tmp_path / "run"), f"--mode={mode}")
        assert outcome.returncode == 2 and "NOFROST_CONV='slice' in the environment" in outcome.stderr, outcome
    assert not (tmp_path / "run").exists()
