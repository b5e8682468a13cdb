"""What a dry run shows, and a few command lines as a user starts them, as processes."""

import concurrent.futures
import json
import os
import re

import pytest

from nofrost_jax import classifier, costs, models, train
from nofrost_jax.config import prepare
from nofrost_jax.data import catalog
from tests.cli.helpers import DIGITS, assert_refused, make_run, tree
from tests.conftest import TINY, overrides, run_main, tiny_args, tiny_config


def test_dry_run_of_the_demonstration(cli, tmp_path):
    outcome = cli(DIGITS, "--mode=dry_run", f"--workdir={tmp_path}/run")
    assert outcome.returncode == 0, outcome.stderr
    text = " ".join(outcome.stdout.split())
    assert "epsilon_255: 38.25" in text and "label_smoothing: 0.1" in text
    assert "1,437 training and 360 evaluation images" in text
    assert "steps 660 (30 epochs of 22)" in text
    assert "passes per image 12 forward, 10 backward to the image, 2 backward to the parameters" in text
    assert "devices 8 (8 clean images each)" in text
    assert "missing: nothing" in text
    assert not any(tmp_path.iterdir())


def test_dry_run_of_nofrost_star_counts_its_streams_and_says_whose_images_they_are(cli, tmp_path):
    """Ten attack steps and three forwards; the cost line has the clean images alone."""
    outcome = cli("--config=configs/digits.py:nofrost_star", "--mode=dry_run")
    assert outcome.returncode == 0, outcome.stderr
    text = " ".join(outcome.stdout.split())
    assert "passes per image 13 forward, 10 backward to the image, 3 backward to the parameters" in text
    assert "note DeepAugment: Noise2Net" in text and "devices 8 (8 clean images each)" in text
    fields = {"deepaugment.mode": "files", "deepaugment.folders": f"('{tmp_path}/EDSR', '{tmp_path}/CAE')"}
    fields |= {"data.source": f"folder:{tree(tmp_path / 'data', count=40)}", "evaluation.only": "pgd_20"}
    outcome = cli("--config=configs/digits.py:nofrost_star", "--mode=dry_run", *overrides(fields))
    assert outcome.returncode == 3, outcome.stderr
    missing = [line for line in outcome.stdout.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 2
    for line, name in zip(missing, ("EDSR", "CAE"), strict=True):
        assert f"no DeepAugment images of {name} in {tmp_path}/{name}" in line and "hendrycks/imagenet-r" in line
    assert "DeepAugment: files of edsr and cae" in outcome.stdout


def test_one_word_finds_the_papers_files(cli, tmp_path):
    """`:files=DIR`: ImageNet, EDSR's and CAE's images side by side, as the generator leaves them."""
    classes = ("n01440764", "n01443537")
    for name, splits in (("imagenet", ("train", "val")), ("edsr", ("train",)), ("cae", ("train",))):
        tree(tmp_path / name, splits, classes)
    fields = {"model.num_classes": 2, "model.stage_sizes": (1,), "data.image_size": 32, "data.eval_resize": 36}
    fields |= {"batch_size": 8}
    config = f"--config=configs/nofrost_star_r26.py:files={tmp_path}"
    outcome = cli(config, "--mode=dry_run", *overrides(fields))
    assert outcome.returncode == 0 and "files of edsr and cae" in outcome.stdout, outcome
    outcome = cli(config, "--mode=dry_run", *overrides(fields | {"recipe": "authors"}))
    assert outcome.returncode == 0 and "files of edsr;" in outcome.stdout and "(30 epochs of 2)" in outcome.stdout


def test_dry_run_of_an_evaluation_says_hours(cli, tmp_path):
    """Passes times images times operations, at the rate that is named; each weight of a sweep, mixed ones twice."""

    def look(name, row, *args):
        folder = tmp_path / row
        folder.mkdir()
        train.write_config(prepare(tiny_config(row)), str(folder))
        (folder / "checkpoints/7").mkdir(parents=True)
        outcome = cli(f"--config=configs/eval/{name}", "--mode=dry_run", f"--workdir={folder}", *args)
        assert outcome.returncode == 0, outcome
        assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "config.json"]
        return outcome.stdout

    fields = {"evaluation.attacks.aa_standard.limit": 10, "evaluation.only": "pgd_20,aa_standard"}
    text = look("paper.py", "sat", *overrides(fields))
    assert "data               360 evaluation images\n" in text and text.endswith("missing: nothing\n")
    assert "pgd_20: at most 20 forward and 20 backward passes per image; 360 images: " in text
    assert "aa_standard: at most 7,829 forward and 1,910 backward passes per image; 10 images: " in text
    (told,) = re.findall(r"^all +(\S+) s at most, on one A100 at an assumed 10 TFLOP/s", text, re.MULTILINE)
    config = prepare(tiny_config("sat"))
    model = classifier.create_model(config.model)
    variables = models.abstract_variables(model, 8)
    with costs.xla_convolutions():
        flops = costs.forward_flops(model, variables, 8)
    counted = flops * (360 * (1 + 20 + 20) + 10 * (7829 + 1910))
    assert float(told) == pytest.approx(counted / 1e13, rel=0.05)
    swept = look("mbn_gamma.py", "mbnat", "--config.evaluation.only=pgd_20")
    seconds = [float(told) for told in re.findall(r"pgd_20: .*images: (\S+) s$", swept, re.MULTILINE)]
    assert len(seconds) == 11 and seconds[5] == pytest.approx(2 * seconds[0], rel=0.1) and seconds[10] == seconds[0]
    assert (costs.hours(3.6e17), costs.hours(3.6e18)) == ("about 10 h", "about 100 h")


def test_dry_run_of_an_evaluation_names_what_is_missing(cli, tmp_path, monkeypatch):
    """A checkpoint, also for the evaluation sets; a batch that fits; a free name. The data is looked at once."""
    folder, looks = make_run(cli, tmp_path), []
    monkeypatch.setattr(catalog, "open_config", lambda *args, own=catalog.open_config: looks.append(1) or own(*args))

    def missing(name, *args):
        outcome = cli(f"--config=configs/eval/{name}.py", "--mode=dry_run", f"--workdir={folder}", *args)
        lines = outcome.stdout.splitlines()
        found = [line for line in lines if line.startswith("missing: ") and line != "missing: nothing"]
        assert outcome.returncode == (3 if found else 0), outcome
        return found, [line for line in lines if line.startswith("note: ")]

    (one,), notes = missing("paper", "--config.evaluation.only=pgd_20")
    assert (
        one == f"missing: no checkpoint in {folder}; give the folder of a training run, or one with model.safetensors"
    )
    assert looks == [1] and not notes
    assert any("no checkpoint" in line for line in missing("shift")[0])
    (folder / "checkpoints").mkdir()
    lines, _ = missing("paper", "--config.evaluation.only=pgd_20", "--config.evaluation.batch_size=9")
    assert len(lines) == 2 and f"{folder}/checkpoints yet" in lines[0] and "batch_size=9" in lines[1]
    (folder / "checkpoints/7").mkdir()
    (folder / "evaluations").mkdir()
    (folder / "evaluations/paper.json").write_text('{"name": "paper"}')
    none, (note,) = missing("paper", "--config.evaluation.only=pgd_20")
    assert not none and "paper.json is of something else" in note


@pytest.mark.parametrize("mode", ["dry_run", "evaluate"])
def test_a_run_of_another_version_is_refused_by_its_field(cli, tmp_path, mode):
    folder = make_run(cli, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["evaluation"]["only"]
    (folder / "config.json").write_text(json.dumps(config))
    outcome = cli("--config=configs/eval/paper.py", f"--mode={mode}", f"--workdir={folder}")
    assert_refused(outcome, f"{folder}/config.json has no evaluation.only", "another version of nofrost_jax")


def test_dry_run_names_what_is_missing(cli, tmp_path):
    fields = {"data.source": f"folder:{tmp_path}/none", "batch_size": 60}
    (tmp_path / "file").write_text("")
    fields |= {"start_from": f"{tmp_path}/pretrained"}
    outcome = cli(DIGITS, "--mode=dry_run", f"--workdir={tmp_path}/file", *overrides(fields))
    assert outcome.returncode == 3 and outcome.stderr == "", outcome
    missing = [line for line in outcome.stdout.splitlines() if line.startswith("missing: ")]
    words = (f"{tmp_path}/file is a file", "pretrained", f"{tmp_path}/none", "8 devices")
    assert len(missing) == 4 and all(word in line for word, line in zip(words, missing, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_dry_run_tells_that_the_folder_is_another_runs(cli, tmp_path):
    folder = make_run(cli, tmp_path)
    outcome = cli(*tiny_args(folder, epochs=4), "--mode=dry_run")
    assert outcome.returncode == 3 and "epochs: 3 -> 4" in outcome.stdout.splitlines()[-1], outcome
    outcome = cli(*tiny_args(folder, data__workers=3), "--mode=dry_run")
    assert outcome.returncode == 0 and "do not change the result: data.workers: 0 -> 3\n" in outcome.stdout, outcome
    (folder / "config.json").write_text("{")
    outcome = cli(*tiny_args(folder), "--mode=dry_run")
    assert outcome.returncode == 3 and "config.json" in outcome.stdout.splitlines()[-1] and not outcome.stderr, outcome


def test_dry_run_needs_no_right_to_the_workdir(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cli(DIGITS, "--mode=dry_run", f"--workdir={tmp_path}/run").returncode == 0
    assert not any(tmp_path.iterdir())


def test_real_processes(tmp_path):
    """A few of the above as a user starts them, and what only a process can show."""
    workdir = f"--workdir={tmp_path}/run"
    commands = {
        "option": [DIGITS, workdir, "--config.optimizer.learning_ratee=1"],
        "file": ["--config=configs/none.py", workdir],
        "devices": [DIGITS, workdir, "--config.batch_size=66"],
        "help": ["--help"],
        "no device": [DIGITS, workdir, "--config.attack.epsilon_255=0.03"],
        "dry run": [
            "--config=configs/nofrost_r50.py",
            "--mode=dry_run",
            workdir,
            f"--config.data.data_dir={tmp_path}/none",
        ],
    }
    # A platform that does not exist: touching any device would be an error of its own.
    variables = {"no device": {"JAX_PLATFORMS": "none"}}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = {
            name: pool.submit(run_main, *args, devices=4, **variables.get(name, {})) for name, args in commands.items()
        }
        outcomes = {name: job.result() for name, job in jobs.items()}
    assert_refused(outcomes["option"], 'Did you mean "learning_rate"')
    assert_refused(outcomes["file"], "configs/none.py")
    assert outcomes["help"].returncode == 0 and "--workdir" in outcomes["help"].stdout
    assert_refused(outcomes["devices"], "batch_size=66", "4 devices", "64 and 68")
    assert_refused(outcomes["no device"], "the unit is the pixel value")
    dry = outcomes["dry run"]
    assert dry.returncode == 3 and dry.stderr == "", dry
    text = " ".join(dry.stdout.split())
    assert "parameters 25,557,032" in text
    assert "passes per image 12 forward, 10 backward to the image, 2 backward to the parameters" in text
    assert "steps 450,360 (90 epochs of 5,004)" in text and "devices 4 (64 clean images each)" in text
    assert "memory about" in text and re.search(r"FLOPs per step 5\.[3-6]\de\+13", text)
    assert "missing: imagenet2012 is not prepared" in text
    assert not any(tmp_path.iterdir())


def test_config_json_is_what_the_dry_run_shows(cli, tmp_path):
    """The resolved config: what the recipe fills is not null any more."""
    folder = make_run(cli, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["optimizer"]["nesterov"] is True and config["model"]["dropout"] == 0
    assert config["evaluation"]["attacks"]["pgd_20"]["epsilon_255"] == 38.25
    assert config["batch_size"] == TINY["batch_size"]
