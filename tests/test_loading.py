"""`nofrost_jax.load` of everything that holds a net: the same classifier, and what is known of it."""

import json

import jax
import numpy as np
import pytest

import nofrost_jax
from nofrost_jax import checkpoint, models
from nofrost_jax.classifier import create_model
from nofrost_jax.config import prepare
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.errors import UserError
from nofrost_jax.train import write_config
from tests.conftest import ROOT, saved_with, tiny_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of digits with checkpoints of steps 3 and 7."""
    folder = tmp_path_factory.mktemp("loading") / "run"
    folder.mkdir()
    config = prepare(tiny_config("nofrost"))
    write_config(config, str(folder))
    shapes = models.abstract_variables(create_model(config.model), 8)
    checkpoints = checkpoint.Checkpoints(str(folder))
    for step in (3, 7):
        variables = jax.tree.map(lambda leaf, step=step: np.full(leaf.shape, step / 10, leaf.dtype), shapes)
        checkpoints.save(step, {"variables": variables}, saved_with(config))
    checkpoints.close()
    return folder


def first(classifier):
    return float(classifier.variables["params"]["head"]["bias"][0])


def test_a_run_its_steps_and_its_export(run, tmp_path):
    newest, earlier = nofrost_jax.load(run), nofrost_jax.load(run / "checkpoints/3")
    assert (first(newest), first(earlier)) == (np.float32(0.7), np.float32(0.3))
    assert (newest.provenance["step"], earlier.provenance["step"]) == (7, 3)
    assert newest.class_names == earlier.class_names == tuple("0123456789")
    assert newest.config == json.loads((run / "config.json").read_text())
    convert.main([str(run / "checkpoints/3"), str(tmp_path / "out")])
    exported = nofrost_jax.load(tmp_path / "out")
    same = ("step", "params_sha256", "run")
    assert [exported.provenance[name] for name in same] == [earlier.provenance[name] for name in same]
    assert exported.provenance["source"] == str(tmp_path / "out")
    convert.main([str(tmp_path / "out"), str(tmp_path / "again")])
    again = nofrost_jax.load(str(tmp_path / "again")).provenance
    assert again | {"source": ""} == exported.provenance | {"source": ""}
    assert (tmp_path / "again/README.md").read_text() == (tmp_path / "out/README.md").read_text()


def test_a_step_that_is_not_there(run):
    with pytest.raises(UserError, match=r"no checkpoint of step 5 in .*; there are 3, 7"):
        nofrost_jax.load(run / "checkpoints/5")


def test_what_a_loaded_classifier_offers(run):
    classifier, images = nofrost_jax.load(run), np.zeros((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(classifier.logits(images), classifier(images))
    assert classifier.predict(images).shape == (2,)
    assert "Classifier(NFResNet" in repr(classifier)


def test_nets_of_one_kind_share_their_program(run):
    traced = []

    @jax.jit
    def first_logit(classifier, images):
        traced.append(1)
        return classifier(images)[0, 0]

    images = np.zeros((1, 8, 8, 3), np.float32)
    one, two = (first_logit(nofrost_jax.load(path), images) for path in (run, run / "checkpoints/3"))
    assert len(traced) == 1 and one != two


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-8], "copy or download it again"),
        (lambda data: data[:9000] + bytes([data[9000] ^ 1]) + data[9001:], "its hash differs"),
        (lambda data: b"", "it is empty"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (lambda data: b"<!DOCTYPE html><html>", "web page"),
        (lambda data: data[:8] + b"[" + data[9:], "copy or download it again"),
        (lambda data: b"\xff" * 8 + data[8:], "copy or download it again"),
    ],
)
def test_a_damaged_export_is_named(tmp_path, damage, words):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((ROOT / "notebooks/digits_nofrost" / name).read_bytes())
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=words) as caught:
        nofrost_jax.load(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_named(tmp_path):
    variables, _ = checkpoint.load_export(ROOT / "notebooks/digits_nofrost")
    variables["params"]["head"]["bias"][3] = np.nan
    checkpoint.export(str(tmp_path / "out"), variables, (ROOT / "notebooks/digits_nofrost/config.json").read_text())
    with pytest.raises(UserError, match=r"params/head/bias in .* not finite"):
        nofrost_jax.load(tmp_path / "out")


@pytest.mark.parametrize("config", ["{}", '{"model": 3, "data": {}}', "[]", "{"])
def test_another_programs_config_is_one_line(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError) as caught:
        nofrost_jax.load(tmp_path)
    assert "config" in str(caught.value) and "\n" not in str(caught.value)
