"""Results are found and read, nets are told apart, and no file, however damaged or hostile, stops the report."""

import json
import os
import pickle

import pytest

from nofrost_jax import errors
from nofrost_jax.report.collect import IMAGENET, collect, value
from nofrost_jax.report.exhibits import EXHIBITS
from tests.report import made

KEYS = {column.key for one in EXHIBITS.values() for column in one.columns} | {"shift.imagenet_c", "shift.imagenet_r"}


def reasons(folder):
    return {one.path: one.reason for one in collect(folder).refused}


def test_results_of_one_net_are_joined_and_seeds_told_apart(tmp_path):
    pgd = made.attack("pgd_20", 200, steps=20)
    made.write(tmp_path / "a", made.result(made.net("sat"), attacks=[pgd], sha="a"))
    made.write(tmp_path / "a", made.result(made.net("sat"), name="shift", sha="a"))
    made.write(tmp_path / "b", made.result(made.net("sat", seed=1), sha="b"))
    found = collect(tmp_path)
    assert [(net.row, net.depth, net.seed, len(net.evaluations)) for net in found.nets] == [
        ("sat", 26, 0, 2),
        ("sat", 26, 1, 1),
    ]
    assert found.sources == (IMAGENET,) and found.refused == ()
    assert found.of(IMAGENET, "sat", 26) == list(found.nets) and found.of(IMAGENET, "sat", 50) == []
    assert value(found.nets[0], "pgd_20").accuracy == 0.2 and value(found.nets[1], "pgd_20") is None


def test_the_value_of_most_images_at_the_radius_of_the_training_counts(tmp_path):
    net = made.net("nofrost", epsilon_255=4.0)
    few, many = made.attack("pgd_20", 90, 100, 4.0, steps=20), made.attack("pgd_20", 700, 1000, 4.0, steps=20)
    for name, attacks in {"a": [few], "b": [many], "c": [made.attack("pgd_20", 1, 5000, 8.0, steps=20)]}.items():
        made.write(tmp_path, made.result(net, attacks=attacks, name=name))
    swept = [made.attack("pgd_10_eps_2", 800, epsilon_255=2.0, steps=10), made.attack("pgd_10_eps_4", 600, steps=10)]
    made.write(tmp_path, made.result(net, attacks=swept, name="small_epsilon"))
    (found,) = collect(tmp_path).nets
    assert value(found, "pgd_20").accuracy == 0.7 and value(found, "pgd_20").n == 1000
    assert value(found, "pgd_10_eps_2").accuracy == 0.8
    assert value(found, "pgd_10_eps_{epsilon}").accuracy == 0.6


def test_flags_of_the_attack_and_of_the_whole_result_go_with_a_value(tmp_path):
    attacks = [made.attack("pgd_20", 5, flags=["weak_attack"], steps=20), made.attack("apgd_ce_20", 5, steps=3)]
    made.write(tmp_path, made.result(made.net(), attacks=attacks, flags=["not_converged", "selected_on_evaluation"]))
    (found,) = collect(tmp_path).nets
    assert value(found, "pgd_20").flags == ("selected_on_evaluation", "weak_attack")
    assert value(found, "clean").flags == ("selected_on_evaluation",)
    assert value(found, "apgd_ce_20").flags == ("not_as_named", "selected_on_evaluation")  # three steps, not 20


def test_branches_of_a_mixture_are_nets_of_their_own(tmp_path):
    for gamma in (0.0, 0.5):
        mbn = {"gamma": gamma, "interpolation": "logits"}
        made.write(tmp_path, made.result(made.net("mbnat"), name=f"mbn_logits_gamma_{gamma:g}", mbn=mbn))
    assert [net.label for net in collect(tmp_path).nets] == ["MBNAT, gamma 0", "MBNAT, gamma 0.5"]


def test_data_sets_and_splits_are_kept_apart(tmp_path):
    names = ["digits", "tfds:cifar10", "folder:/moved/some/where"]
    for number, source in enumerate(names):
        one = made.result(made.net(seed=number), source=source, asked={"data": {"contents": "12345678abc"}})
        made.write(tmp_path / str(number), one)
    for split in ("extra", "holdout", "train[-5000:]"):
        one = made.result(made.net(), source="digits")
        one["dataset"]["split"] = split
        made.write(tmp_path / split, one)
    found = collect(tmp_path)
    assert found.sources == ("digits", "digits, extra", "tfds:cifar10", "where (12345678)")
    assert [one.reason for one in found.refused] == [
        "it is of images held out of the training set, not of the test images"
    ] * 2


@pytest.mark.parametrize(
    ("source", "fields", "is_imagenet"),
    [
        ("tfds:imagenet2012", {}, True),
        ("tfds:imagenet2012:5.1.0", {}, True),
        ("tfds:imagenet2012_real", {}, False),  # other labels
        ("folder:/data/ilsvrc", {"of": 50_000}, True),
        ("folder:/data/imagenette", {"of": 3925, "label_set": "10 classes"}, False),
        ("folder:/data/other", {"of": 50_000, "label_set": "100 classes"}, False),
    ],
)
def test_what_counts_as_imagenet(tmp_path, source, fields, is_imagenet):
    one = made.result(made.net(), source=source)
    one["dataset"] |= fields
    made.write(tmp_path, one)
    assert (collect(tmp_path).sources == (IMAGENET,)) == is_imagenet


def test_outside_of_imagenet_one_net_stands_in_for_both_depths(tmp_path):
    made.write(tmp_path, made.result(made.net(width=0.25), source="digits"))
    found = collect(tmp_path)
    assert found.of("digits", "nofrost", 26) == found.of("digits", "nofrost", 50) == list(found.nets)
    made.write(tmp_path, made.result(made.net(width=0.25)))  # the same miniature on ImageNet is no net of the paper
    assert collect(tmp_path).of(IMAGENET, "nofrost", 26) == []


def test_a_result_of_an_older_version_takes_its_net_from_the_config(tmp_path):
    net = made.net("trades", seed=3)
    config = {
        "model": {"name": net["model"], **{name: net[name] for name in ("norm", "width", "stage_sizes")}},
        "method": {"name": "trades", "adversarial_weight": 0.5, "terms": "paper", "pgdat_clean_forward": False},
        "attack": {"epsilon_255": 8.0},
        **{name: net[name] for name in ("epochs", "batch_size", "seed")},
    }
    made.write(tmp_path / "known", made.result(None, sha="x"), config=config)
    made.write(tmp_path / "unknown", made.result(None, sha="y"), config={"model": [1]})
    known, unknown = collect(tmp_path).nets
    assert (known.row, known.seed, known.depth) == ("trades", 3, 26)
    assert (unknown.row, unknown.label) == ("", "unknown")


def test_the_command_can_be_pasted_whatever_the_file_says(tmp_path):
    one = made.result(made.net(), name="figure3")
    one["checkpoint"]["path"] = "runs/$(touch bad); x"
    made.write(tmp_path, one)
    assert collect(tmp_path).evaluations[0].command == (
        "python main.py --mode=evaluate --config=configs/eval/paper.py "
        "--config.evaluation.only=pgd_20,square_400,aa_fast_20,aa_standard --config.evaluation.name=figure3 "
        "'--workdir=runs/$(touch bad); x'"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"[" * 200_000, "it is not JSON"),
        (b"\xff\xfe{}", "it is not JSON"),
        (b'{"schema": 1', "it is not JSON"),
        (b"null", "it is not an evaluation result"),
        (b"[]", "it is not an evaluation result"),
        (b'{"schema": 2, "checkpoint": {}}', "it is of schema 2"),
        (b'{"schema": 1, "checkpoint": {}}', "it lacks name"),
        (pickle.dumps({}), "it is a Python pickle"),
        (b"9" * 10_000, "it is not JSON"),
    ],
)
def test_a_file_that_is_no_result_is_one_line(tmp_path, content, words):
    good = made.write(tmp_path, made.result(made.net()))
    (good.parent / "bad.json").write_bytes(content)
    found = collect(tmp_path)
    assert len(found.nets) == 1
    assert [one.path for one in found.refused] == ["evaluations/bad.json"]
    assert words in found.refused[0].reason and "\n" not in found.refused[0].reason


def test_things_that_are_no_files_are_named(tmp_path):
    folder = made.write(tmp_path, made.result(made.net())).parent
    os.mkfifo(folder / "pipe.json")
    (folder / "broken.json").symlink_to("nowhere")
    (folder / "folder.json").mkdir()
    with open(folder / "huge.json", "wb") as file:
        file.truncate(65 << 20)
    found = reasons(tmp_path)
    assert found["evaluations/pipe.json"] == "it is not a file"
    assert "No such file" in found["evaluations/broken.json"]
    assert "it has 65 MiB" in found["evaluations/huge.json"] and len(found) == 3


def test_links_are_followed_once(tmp_path):
    runs = tmp_path / "scratch"
    made.write(runs / "one", made.result(made.net()))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "runs").symlink_to(runs)
    (runs / "again").symlink_to(tmp_path / "home")
    (runs / "self").symlink_to(runs / "self")
    found = collect(tmp_path / "home")
    assert [one.path for one in found.evaluations] == ["runs/one/evaluations/paper.json"]
    assert [one.path for one in found.refused] in ([], ["runs/self"])


def leaves(value, path=()):
    """The paths of all values in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from leaves(one, (*path, name))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def rich():
    """A result with everything that the report reads."""
    mean = {"mean": 0.3, "ci95": [0.2, 0.4], "sd": 1.0, "n": 10}
    cell = made.share(1, 4) | {"corruption": "fog", "severity": 1, "flags": []}
    return made.result(
        made.net("mbnat"),
        attacks=[made.attack("pgd_20", 200, steps=20)],
        mbn={"gamma": 0.5, "interpolation": "random", "p": 0.5},
        properties={"margin": mean},
        shift=[made.share(1, 4) | {"name": "imagenet_r", "flags": []}],
        corruptions={"name": "c", "mean_accuracy": 0.5, "cells": [cell], "flags": []},
    )


def test_no_value_in_a_result_stops_the_collection(tmp_path):
    """Every value is replaced by every other kind: the file is used or refused, never an exception."""
    used = 0
    nasty = [None, True, -1, 0.5, 2, 1e308, "<script>\x1b[31m\ud800", "x" * 5000, [], {}, [[]], {"mean": "a"}]
    for path in leaves(rich()):
        for new in nasty:
            file = made.write(tmp_path, {"name": "one"})
            file.write_text(json.dumps(replaced(rich(), path, new)))
            found = collect(tmp_path)
            assert len(found.nets) + len(found.refused) == 1
            for net in found.nets:
                used += 1
                assert net.label and net.source is not None and net.evaluations[0].command
                shown = [one for one in (value(net, key) for key in KEYS) if one]
                assert all(isinstance(one.accuracy, (int, float)) and one.n >= 0 for one in shown)
    assert used > 100
    for field in ("accuracy", "ci95", "n"):
        file.write_text(json.dumps(replaced(rich(), ("clean", field), float("nan"))))
        assert f"clean.{field}" in collect(tmp_path).refused[0].reason


def test_ten_thousand_files(tmp_path):
    text = json.dumps(made.result(made.net()))
    for number in range(100):
        folder = tmp_path / f"run_{number}" / "evaluations"
        folder.mkdir(parents=True)
        for other in range(100):
            (folder / f"{other}.json").write_text(text if other == 0 else "{")
    found = collect(tmp_path)
    assert len(found.evaluations) == 100 and len(found.refused) == 9900


def test_a_missing_folder_is_the_users(tmp_path):
    with pytest.raises(errors.UserError, match="is not a folder"):
        collect(tmp_path / "nowhere")
