"""What a wrong command line, config or data set gets: one clear line, exit code 2, and nothing on the disk."""

import concurrent.futures
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import run
from nofrost_jax.errors import UserError
from tests.conftest import TINY, overrides, run_main, tiny_config

DIGITS = "--config=configs/digits.py"


def assert_refused(outcome, *words):
    assert outcome.returncode == 2, outcome
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), outcome.stderr
    for word in words:
        assert word in lines[0], lines[0]


WRONG_VALUES = [  # override, words of the line
    ("method.name=att", ["method.name", "'att'", "standard, at", "did you mean at?"]),
    ("model.name=nf_resnet51", ["model.name", "did you mean nf_resnet50?"]),
    ("model.norm=batch", ["model.norm", "bn, mbn, in"]),
    ("model.stem=big", ["model.stem", "imagenet, small"]),
    ("model.dtype=float16", ["model.dtype", "bfloat16"]),
    ("recipe=autors", ["recipe", "did you mean authors?"]),
    ("attack.name=pdg", ["attack.name", "did you mean pgd?"]),
    ("attack.step_rule=fast", ["config.attack", "step_rule", "'fast'", "nofrost"]),
    ("attack.steps=0", ["config.attack", "steps=0"]),
    ("evaluation.attacks.pgd_20.name=pgd20", ["evaluation.attacks.pgd_20", "'pgd20'"]),
    ("evaluation.attacks.pgd_20.epsilon_255=0.03", ["evaluation.attacks.pgd_20.epsilon_255", "8/255 is written 8"]),
    ("optimizer.schedule=cosin", ["optimizer.schedule", "did you mean cosine?"]),
    ("data.augmentation=flip", ["data.augmentation", "random_resized_crop"]),
    ("data.source=mnist", ["data.source", "'mnist'", "tfds:NAME"]),
    ("data.source=tfds:", ["data.source", "tfds:NAME"]),
    ("data.crop_scale=(0.5, 0.1)", ["data.crop_scale"]),
    ("attack.epsilon_255=-1", ["attack.epsilon_255=-1.0", "out of range", "pixel value"]),
    ("attack.epsilon_255=256", ["attack.epsilon_255=256.0", "out of range"]),
    ("attack.epsilon_255=0.03", ["attack.epsilon_255=0.03", "[0, 1] scale", "the unit is the pixel value", "8"]),
    ("attack.epsilon_255=nan", ["attack.epsilon_255=nan"]),
    ("method.adversarial_weight=1.5", ["method.adversarial_weight=1.5", "between 0 and 1"]),
    ("method.adversarial_weight=-0.1", ["method.adversarial_weight=-0.1", "between 0 and 1"]),
    ("method.adversarial_weight=nan", ["method.adversarial_weight=nan"]),
    ("model.norm=mbn", ["model.norm=mbn", "nf_resnet26", "resnet26"]),
    ("model.bn_group_size=many", ["bn_group_size", "'many'", "global"]),
    ("model.stage_sizes=(1, 0)", ["model.stage_sizes", "at least one block"]),
    ("model.num_classes=5", ["10 classes", "model.num_classes = 10"]),
    ("data.std=(0.3, 0.0, 0.3)", ["data.std", "positive"]),
    ("data.mean=(0.3, 0.3)", ["data.mean", "three"]),
    ("optimizer.learning_rate=nan", ["optimizer.learning_rate"]),
    ("optimizer.learning_rate=inf", ["optimizer.learning_rate"]),
    ("optimizer.weight_decay=-inf", ["optimizer.weight_decay"]),
    ("evaluation.mbn_gamma=2", ["evaluation.mbn_gamma"]),
    ("evaluation.name=../other", ["evaluation.name", "plain file name"]),
    ("epochs=0", ["epochs=0", "at least 1"]),
    ("batch_size=0", ["batch_size=0"]),
    ("batch_size=60", ["batch_size=60", "8 devices", "56 and 64"]),
    ("evaluation.batch_size=100", ["evaluation.batch_size=100", "8 devices", "104"]),
    ("batch_size=1600", ["1600", "1437"]),
    ("seed=-1", ["seed=-1"]),
    ("log.every_steps=0", ["log.every_steps"]),
    ("checkpoint.keep=0", ["checkpoint.keep"]),
    # What does not even parse: absl and ml_collections speak.
    ("epochs=1.5", ["config.epochs", "1.5"]),
    ("epochs=many", ["config.epochs", "many"]),
    ("optimizer.learning_rate=fast", ["config.optimizer.learning_rate", "fast"]),
    ("optimizer.learning_ratee=1", ["learning_ratee", 'Did you mean "learning_rate"']),
    ("optimiser.learning_rate=1", ["optimiser", 'Did you mean "optimizer"']),
    ("attack.steps.more=1", ["error"]),
]


@pytest.mark.parametrize(("override", "words"), WRONG_VALUES, ids=[override for override, _ in WRONG_VALUES])
def test_wrong_value_is_one_line_and_writes_nothing(cli, tmp_path, override, words):
    assert_refused(cli(DIGITS, f"--workdir={tmp_path}/run", f"--config.{override}"), *words)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["train", "dry_run"])
def test_every_mode_validates(cli, tmp_path, mode):
    assert_refused(cli(DIGITS, f"--mode={mode}", f"--workdir={tmp_path}/run", "--config.epochs=0"), "epochs=0")
    assert not any(tmp_path.iterdir())


def test_mbn_needs_both_kinds_of_images(cli, tmp_path):
    row = f"{DIGITS}:mbnat"
    assert_refused(cli(row, f"--workdir={tmp_path}/run", "--config.method.name=standard"), "norm=mbn", "method.name=at")
    assert_refused(cli(row, f"--workdir={tmp_path}/run", "--config.method.adversarial_weight=1"), "norm=mbn", "between")
    assert not any(tmp_path.iterdir())


def test_a_net_that_cannot_take_the_images_is_refused_before_anything_is_written(cli, tmp_path):
    """Instance norm on the 1x1 maps of a fourth stage would erase every image."""
    args = [f"{DIGITS}:sat_in", f"--workdir={tmp_path}/run", "--config.model.stage_sizes=(1, 1, 1, 1)"]
    assert_refused(cli(*args), "1x1")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("clean", {"name": "pgd"}, "evaluation.attacks.clean cannot be called so"),
        ("pgd-20", {"name": "pgd"}, "cannot be called so"),
        ("mine", {"steps": 3}, "evaluation.attacks.mine has no name"),
        ("mine", {"name": "pgd", "stepz": 3}, "stepz"),
        ("mine", 20, "must have fields"),
    ],
)
def test_wrong_evaluation_attacks_are_named(name, options, words):
    config = tiny_config(attacks="")
    config.evaluation.attacks[name] = options
    with pytest.raises(UserError, match=words):
        run.prepare(config)


def test_an_evaluation_attack_needs_only_its_name():
    config = tiny_config(attacks="")
    config.evaluation.attacks.mine = {"name": "pgd"}
    resolved = run.prepare(config).evaluation.attacks.mine
    assert resolved.epsilon_255 == config.attack.epsilon_255 and resolved.protocol == "custom"


@pytest.mark.parametrize("group", ["48", "7"])
def test_batch_norm_groups_must_fit(cli, tmp_path, group):
    args = [f"--workdir={tmp_path}/run", f"--config.model.bn_group_size={group}"]
    assert_refused(cli(f"{DIGITS}:sat", *args), f"bn_group_size={group}", "global")
    assert not any(tmp_path.iterdir())


COMMAND_LINES = [
    (["--workdir=RUN"], ["--config is missing", "configs/digits.py"]),
    ([DIGITS], ["--workdir is missing"]),
    (["--config=configs/digit.py", "--workdir=RUN"], ["configs/digit.py", "No such file"]),
    (["--config=configs/digit.py", "--workdir=RUN", "--config.epochs=1"], ["configs/digit.py", "No such file"]),
    (["--config=configs", "--workdir=RUN"], ["'configs'"]),
    ([f"{DIGITS}:satt", "--workdir=RUN"], ["configs/digits.py:satt", "unknown row 'satt'", "nofrost, st, st_nf, sat"]),
    (["--config=configs/nofrost_r50.py:runlocall", "--workdir=RUN"], ["'runlocall'", "runlocal"]),
    ([DIGITS, "--workdir=RUN", "--mode=tarin"], ["--mode=tarin", "train|evaluate|dry_run"]),
    ([DIGITS, "--wordkir=RUN"], ["wordkir"]),
    ([DIGITS, "--workdir=RUN", "--config.epochs", "3", "more"], ["'more'"]),
    ([DIGITS, "--workdir=RUN", "epochs=3"], ["'epochs=3'"]),
    (["--config.epochs=3", DIGITS, "--workdir=RUN"], ["config.epochs", "before"]),
    ([DIGITS, "--workdir=RUN/file/run"], ["RUN/file is a file"]),
    ([DIGITS, "--workdir=RUN/file"], ["RUN/file is a file"]),
    ([DIGITS, "--workdir=gs://bucket/run"], ["gs://bucket/run is a URL", "mount"]),
    (["--mode=evaluate", "--workdir=RUN", "--config.evaluation.limit=3"], ["evaluation.limit", "give --config=FILE"]),
    (["--mode=evaluate"], ["--workdir is missing"]),
    (["--mode=evaluate", "--workdir=RUN/none"], ["RUN/none/config.json", "folder of a training run"]),
]


@pytest.mark.parametrize(("args", "words"), COMMAND_LINES, ids=[" ".join(args) for args, _ in COMMAND_LINES])
def test_wrong_command_line_is_one_line_and_writes_nothing(cli, tmp_path, args, words):
    (tmp_path / "file").write_text("here")
    args, words = ([text.replace("RUN", str(tmp_path)) for text in texts] for texts in (args, words))
    assert_refused(cli(*args), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_config_file_with_an_error_inside(cli, tmp_path):
    for text, word in [
        ("def get_config(:", "invalid syntax"),
        ("def get_config():\n    raise ValueError('boom')", "boom"),
    ]:
        (tmp_path / "mine.py").write_text(text)
        assert_refused(cli(f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run"), "mine.py", word)


def test_config_without_a_field(cli, tmp_path):
    lines = ["config = digits.get_config()", "del config.optimizer.agc", "return config"]
    (tmp_path / "mine.py").write_text("\n    ".join(["from configs import digits\ndef get_config():", *lines]))
    assert_refused(cli(f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run"), "optimizer.agc", "missing")
    assert not (tmp_path / "run").exists()


def test_workdir_without_permission(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert_refused(cli(DIGITS, f"--workdir={tmp_path}/run"), "cannot be written", f"no permission in {tmp_path}")
    assert not any(tmp_path.iterdir())


# Data


def tree(root, splits=("train", "val"), classes=("cat", "dog"), count=8):
    """A folder of `count` small images a class."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def refuse_folder(cli, tmp_path, root, *words, classes=2):
    fields = {"data.source": f"folder:{root}", "model.num_classes": classes, "batch_size": 8, "attacks": "pgd_20"}
    assert_refused(cli(DIGITS, f"--workdir={tmp_path}/run", *overrides(fields)), *words)
    assert not (tmp_path / "run").exists()


def test_folder_missing(cli, tmp_path):
    refuse_folder(cli, tmp_path, tmp_path / "none", f"{tmp_path}/none", "No such file", "PATH/train/CLASS")


def test_folder_empty(cli, tmp_path):
    (tmp_path / "data").mkdir()
    refuse_folder(cli, tmp_path, tmp_path / "data", f"{tmp_path}/data", "train", "PATH/train/CLASS")


def test_folder_without_train(cli, tmp_path):
    refuse_folder(cli, tmp_path, tree(tmp_path / "data", splits=["val"]), f"{tmp_path}/data", "train/")


def test_folder_with_an_empty_class(cli, tmp_path):
    root = tree(tmp_path / "data")
    (root / "train/emu").mkdir()
    refuse_folder(cli, tmp_path, root, "train/emu", "without images", classes=3)


def test_folder_with_a_broken_image_names_it(cli, tmp_path):
    root = tree(tmp_path / "data")
    (root / "train/dog/3.png").write_bytes((root / "train/dog/3.png").read_bytes()[:60])
    refuse_folder(cli, tmp_path, root, "train/dog/3.png")
    (root / "train/dog/3.png").write_bytes(b"")
    refuse_folder(cli, tmp_path, root, "train/dog/3.png", "empty")


def test_label_outside_the_classes(cli, tmp_path):
    refuse_folder(cli, tmp_path, tree(tmp_path / "data", classes=("0", "7")), "8 classes", "model 2", "num_classes = 8")


def test_tfds_not_prepared(cli, tmp_path):
    fields = {"data.data_dir": tmp_path}
    outcome = cli("--config=configs/nofrost_r50.py", f"--workdir={tmp_path}/run", *overrides(fields))
    assert_refused(outcome, "imagenet2012 is not prepared", "nofrost_jax.data.prepare imagenet2012", str(tmp_path))
    outcome = cli(DIGITS, f"--workdir={tmp_path}/run", "--config.data.source=tfds:imagenett", *overrides(fields))
    assert_refused(outcome, "imagenett")
    assert not any(tmp_path.iterdir())


# A run that is not there


def make_run(cli, tmp_path):
    """A folder with a valid config.json alone."""
    from nofrost_jax import run, train
    from tests.conftest import tiny_config

    config = run.prepare(tiny_config())
    train.prepare_workdir(config, str(tmp_path / "run"))
    train.write_config(config, str(tmp_path / "run"))
    return tmp_path / "run"


def test_evaluate_without_a_checkpoint(cli, tmp_path):
    folder = make_run(cli, tmp_path)
    assert_refused(cli("--mode=evaluate", f"--workdir={folder}"), "no checkpoint", str(folder))
    (folder / "checkpoints").mkdir()
    assert_refused(
        cli("--mode=evaluate", f"--workdir={folder}"), "no checkpoint", f"{folder}/checkpoints", "train first"
    )
    assert sorted(path.name for path in folder.rglob("*")) == ["checkpoints", "config.json"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"seed": 0}'])
def test_evaluate_with_a_broken_config_json(cli, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert_refused(cli("--mode=evaluate", f"--workdir={tmp_path}"), "config.json" if content in "{[]" else "missing")


# Dry run


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
    fields |= {"data.source": f"folder:{tree(tmp_path / 'data', count=40)}", "attacks": "pgd_20"}
    outcome = cli("--config=configs/digits.py:nofrost_star", "--mode=dry_run", *overrides(fields))
    assert outcome.returncode == 0, outcome.stderr
    missing = [line for line in outcome.stdout.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 2
    for line, name in zip(missing, ("EDSR", "CAE"), strict=True):
        assert f"no DeepAugment images of {name} in {tmp_path}/{name}" in line and "hendrycks/imagenet-r" in line
    assert "DeepAugment: files of edsr and cae" in outcome.stdout


def test_dry_run_names_what_is_missing(cli, tmp_path):
    fields = {"data.source": f"folder:{tmp_path}/none", "batch_size": 60}
    outcome = cli(DIGITS, "--mode=dry_run", f"--workdir={tmp_path}/run", *overrides(fields))
    assert outcome.returncode == 0, outcome.stderr
    missing = [line for line in outcome.stdout.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 2 and f"{tmp_path}/none" in missing[0] and "8 devices" in missing[1]
    assert not any(tmp_path.iterdir())


# As their own processes


def test_real_processes(tmp_path):
    """A few of the above as a user starts them, and what only a process can show."""
    workdir = f"--workdir={tmp_path}/run"
    commands = {
        "option": [DIGITS, workdir, "--config.optimizer.learning_ratee=1"],
        "file": ["--config=configs/none.py", workdir],
        "devices": [DIGITS, workdir, "--config.batch_size=66"],
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
    assert_refused(outcomes["devices"], "batch_size=66", "4 devices", "64 and 68")
    assert_refused(outcomes["no device"], "the unit is the pixel value")
    dry = outcomes["dry run"]
    assert dry.returncode == 0 and dry.stderr == "", dry
    text = " ".join(dry.stdout.split())
    assert "parameters 25,557,032" in text
    assert "passes per image 12 forward, 10 backward to the image, 2 backward to the parameters" in text
    assert "steps 450,360 (90 epochs of 5,004)" in text and "devices 4 (64 clean images each)" in text
    assert "memory on a GPU or TPU about" in text and re.search(r"FLOPs per step 5\.[3-6]\de\+13", text)
    assert "missing: imagenet2012 is not prepared" in text
    assert not any(tmp_path.iterdir())


def test_config_json_is_what_the_dry_run_shows(cli, tmp_path):
    """The resolved config: what the recipe fills is not null any more."""
    folder = make_run(cli, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["optimizer"]["nesterov"] is True and config["model"]["dropout"] == 0
    assert config["evaluation"]["attacks"]["pgd_20"]["epsilon_255"] == 38.25
    assert config["batch_size"] == TINY["batch_size"]
