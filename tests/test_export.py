"""An export is the run's classifier, bit for bit; what cannot be exported or loaded is one clear line."""

import errno
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nofrost_jax
from nofrost_jax import checkpoint, lock, models, train
from nofrost_jax.classifier import create_model
from nofrost_jax.config import prepare
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.convert import sources
from nofrost_jax.errors import UserError
from nofrost_jax.weights import tensors
from nofrost_jax.workdir import check_start
from tests.conftest import finish, saved_with, start, tiny_config


def write_config(config, folder):
    folder.mkdir()
    train.write_config(config, str(folder))


def make_run(folder, row, **fields):
    """A run's folder with one checkpoint, of step 7, of random variables; nothing is trained."""
    config = prepare(tiny_config(row, **fields))
    write_config(config, folder)
    shapes = models.abstract_variables(create_model(config.model), 8)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.uniform(0.1, 0.5, leaf.shape), leaf.dtype), shapes)
    checkpoints = checkpoint.Checkpoints(str(folder))
    checkpoints.save(7, {"variables": variables}, saved_with(config))
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def nofrost(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("nofrost") / "run", "nofrost")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(size=(4, 8, 8, 3)).astype(np.float32)


def export(source, out):
    convert.export(sources.read(source), str(out))


def logits(path, images):
    return np.asarray(jax.jit(lambda classifier, batch: classifier(batch))(nofrost_jax.load(path), images))


def test_run_and_export_give_bitwise_the_same_logits(nofrost, images, tmp_path, capsys):
    convert.main([str(nofrost), str(tmp_path / "out")])
    assert "step 7 of" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert (tmp_path / "out/config.json").read_bytes() == (nofrost / "config.json").read_bytes()
    expected = logits(nofrost, images)
    assert expected.dtype == np.float32 and np.ptp(expected) > 0.1
    np.testing.assert_array_equal(logits(tmp_path / "out", images), expected)


def test_batch_statistics_of_both_branches_are_exported(images, tmp_path):
    folder = make_run(tmp_path / "run", "mbnat")
    convert.main([str(folder), str(tmp_path / "out")])
    np.testing.assert_array_equal(logits(tmp_path / "out", images), logits(folder, images))
    names = {path.split("/")[0] for path in tensors.read(tmp_path / "out/model.safetensors")[0]}
    assert names == {"params", "batch_stats"}


def test_exporting_again_replaces_the_export(nofrost, images, tmp_path):
    export(nofrost, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    export(nofrost, tmp_path)
    np.testing.assert_array_equal(logits(tmp_path, images), logits(nofrost, images))


def test_params_of_another_net_are_refused(nofrost, tmp_path):
    export(nofrost, tmp_path / "out")
    other = make_run(tmp_path / "other", "nofrost", model__width=0.125)
    export(other, tmp_path / "other_out")
    (tmp_path / "other_out/model.safetensors").replace(tmp_path / "out/model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors and config\.json are not of one export"):
        nofrost_jax.load(tmp_path / "out")


def test_a_config_that_was_changed_is_refused(nofrost, tmp_path):
    export(nofrost, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["data"]["data_dir"] = "/elsewhere"  # decides nothing
    (tmp_path / "config.json").write_text(json.dumps(config))
    nofrost_jax.load(tmp_path)
    config["data"]["mean"][0] += 0.25
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json was changed") as caught:
        nofrost_jax.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ["no run", "no checkpoint", "export of another config", "into a run", "no folder"])
def test_refusals_are_one_line_and_write_nothing(nofrost, tmp_path, capsys, case):
    source, out = nofrost, tmp_path / "out"
    if case == "no run":
        source, words = tmp_path / "nowhere", "nowhere; give a .pth or .safetensors file"
    elif case == "no checkpoint":
        source, words = tmp_path / "run", "no checkpoint in"
        write_config(prepare(tiny_config("nofrost")), source)
    elif case == "export of another config":
        words = "another config"
        write_config(prepare(tiny_config("sat")), out)
    elif case == "into a run":
        out, words = nofrost, "is a training run"
    else:
        out.write_text("a file")
        words = "cannot be written"
    before = {path: path.stat().st_mtime_ns for path in [*tmp_path.rglob("*"), *nofrost.rglob("*")]}
    with pytest.raises(SystemExit, match="2"):
        convert.main([str(source), str(out)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    assert {path: path.stat().st_mtime_ns for path in [*tmp_path.rglob("*"), *nofrost.rglob("*")]} == before


def test_the_command_exits_with_2(tmp_path):
    done = finish(start("-m", "nofrost_jax.convert", tmp_path, tmp_path / "out"), timeout=120)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
    assert not (tmp_path / "out").exists()


def test_a_truncated_export_is_named(nofrost, tmp_path):
    convert.main([str(nofrost), str(tmp_path / "out")])
    path = tmp_path / "out/model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors.*export the run again"):
        nofrost_jax.load(tmp_path / "out")


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("number, code", [(errno.ENOSPC, 1), (errno.EROFS, 1), (errno.EINVAL, 2)])
def test_a_disk_that_fails_leaves_nothing_half_written(nofrost, tmp_path, capsys, monkeypatch, there, number, code):
    out = tmp_path / "deep/out"
    if there:
        export(nofrost, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def fail(fd, fsync=os.fsync):
        if os.fstat(fd).st_size > 1000:  # the weights, not the lock
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SystemExit, match=str(code)):
        convert.main([str(nofrost), str(out)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "cannot be written" in lines[0] and os.strerror(number) in lines[0]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert out.exists() == there and not list(tmp_path.rglob(".export*"))


def test_a_home_folder_may_be_meant(nofrost, images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    convert.main([str(nofrost), "~/out"])
    assert (tmp_path / "out/model.safetensors").exists()
    convert.main(["~/out", "~/again"])
    assert logits("~/again", images).shape == (4, 10)
    check_start(tiny_config("nofrost", start_from="~/out"), "")


def test_a_second_export_to_one_place_is_refused(nofrost, tmp_path):
    held = lock.hold(lock.place(tmp_path / "out"), "an export")
    with held, pytest.raises(UserError, match="out is in use by an export: process"):
        export(nofrost, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [False, True])
def test_a_folder_of_other_things_is_left_alone(nofrost, tmp_path, capsys, config):
    if config:
        export(nofrost, tmp_path)
    (tmp_path / "README.md").write_text("my precious readme")
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        convert.main([str(nofrost), str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert "other.txt" in line and "choose a new folder" in line
    assert (tmp_path / "README.md").read_text() == "my precious readme"


def test_a_folder_with_a_readme_alone_is_left_alone(nofrost, tmp_path):
    (tmp_path / "README.md").write_text("my precious readme")
    with pytest.raises(UserError, match=r"more than an export: README\.md; choose a new folder"):
        export(nofrost, tmp_path)
    assert (tmp_path / "README.md").read_text() == "my precious readme"


def test_an_export_keeps_its_evaluations_when_it_is_replaced(nofrost, tmp_path):
    (tmp_path / f".{'0' * 32}.tmp").write_text("of a killed writer")
    export(nofrost, tmp_path)
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations/final.txt").write_text("kept")
    export(nofrost, tmp_path)
    assert (tmp_path / "evaluations/final.txt").read_text() == "kept"


def test_names_of_a_folder_travel_with_the_export(tmp_path):
    """A run takes them from its data. An export has those that it was written with, and looks at no data."""
    names = [f"kind_{label}" for label in range(10)]
    for name in names:
        (tmp_path / "tree/train" / name).mkdir(parents=True)
    run = make_run(tmp_path / "run", "nofrost", data__source=f"folder:{tmp_path}/tree")
    assert nofrost_jax.load(run).class_names == tuple(names)
    export(run, tmp_path / "out")
    (tmp_path / "tree").rename(tmp_path / "moved")
    assert nofrost_jax.load(run).class_names is None
    assert nofrost_jax.load(tmp_path / "out").class_names == tuple(names)
    export(run, tmp_path / "without")
    (tmp_path / "moved").rename(tmp_path / "tree")
    assert nofrost_jax.load(tmp_path / "without").class_names is None
    (tmp_path / "tree/train/one_too_many").mkdir()
    assert nofrost_jax.load(run).class_names is None
