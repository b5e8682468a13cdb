"""What a method keeps from step to step survives a resume, and a run may begin with another's parameters."""

import json
import shutil

import jax
import numpy as np
import pytest

from nofrost_jax import checkpoint, train
from nofrost_jax.config import prepare
from nofrost_jax.errors import UserError
from tests.conftest import tiny_config
from tests.resume.helpers import arrays


def trained(folder, row="freeat", **fields):
    steps = {"attack__steps": 1} if row == "freeat" else {}
    train.train(tiny_config(row, evaluation__every_epochs=0, checkpoint__keep=9, **steps, **fields), str(folder))


def saved(folder, step):
    """({item: hash}, {array: shape} of the optimizer's item) of a checkpoint."""
    meta = json.loads((folder / "checkpoints" / str(step) / "meta" / "metadata").read_text())
    hashes = map(checkpoint.tree_sha256, arrays(folder, step))
    return dict(zip(("variables", "optimizer"), hashes, strict=True)), meta["shapes"]["optimizer"]


@pytest.mark.usefixtures("compile_once")
@pytest.mark.slow
def test_free_adversarial_training_resumes_with_its_noise(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trained(whole)
    shutil.copytree(whole, cut)
    for step in (12, 15):
        shutil.rmtree(cut / "checkpoints" / str(step))
    shutil.rmtree(cut / "evaluations")
    trained(cut)
    hashes, shapes = saved(whole, 15)
    assert shapes["method/noise"] == [256, 8, 8, 3]
    assert saved(cut, 15)[0] == hashes and saved(whole, 12)[0] != hashes
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.usefixtures("compile_once")
@pytest.mark.slow
def test_views_and_their_distortions_resume_bit_for_bit(tmp_path):
    """Cut in the second epoch; crops, coins, colours and random nets are functions of seed and step."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = {"data__augmentation": "pad_crop_flip", "attack__steps": 1, "epochs": 2}
    trained(whole, "nofrost_star", **options)
    notes = json.loads((whole / "evaluations/final.json").read_text())["checkpoint"]["notes"]
    assert [line.startswith("DeepAugment: Noise2Net") for line in notes] == [True]
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "10")
    shutil.rmtree(cut / "evaluations")
    trained(cut, "nofrost_star", **options)
    assert saved(cut, 10)[0] == saved(whole, 10)[0] != saved(whole, 8)[0]
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.usefixtures("compile_once")
@pytest.mark.slow
def test_a_run_may_begin_with_anothers_parameters(tmp_path):
    """With a rate of 0 it ends with them, too; the net without norms has nothing else that moves."""
    first, second = tmp_path / "first", tmp_path / "second"
    trained(first, "nofrost", epochs=1)
    shutil.rmtree(first / "evaluations")
    trained(second, "nofrost", epochs=1, start_from=str(first), optimizer__learning_rate=0.0, seed=1)
    assert saved(second, 5)[0]["variables"] == saved(first, 5)[0]["variables"]
    with pytest.raises(UserError, match=r"no checkpoint in .*nowhere"):
        trained(tmp_path / "third", "nofrost", start_from=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=f"config.start_from={first}: .* does not fit the config"):
        trained(tmp_path / "fourth", "sat", start_from=str(first))
    assert not (tmp_path / "fourth" / "config.json").exists()


def test_noise_is_that_of_the_global_batch():
    from nofrost_jax.methods import free

    config = prepare(tiny_config("freeat", attack__steps=1))
    noise = free.begin(config, 8)["noise"]
    assert noise.shape == (256, 8, 8, 3) and noise.dtype == np.float32 and not jax.device_get(noise).any()
