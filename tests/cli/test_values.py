"""What a wrong value in a config gets: one clear line, exit code 2, and nothing on the disk."""

import pytest

from nofrost_jax.config import prepare
from nofrost_jax.errors import UserError
from tests.cli.helpers import DIGITS, assert_refused
from tests.conftest import tiny_config

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
    ("evaluation.attacks.pgd_20.epsilon_255=0.03", ["evaluation.attacks.pgd_20.epsilon_255", "write 8/255 as 8"]),
    ("optimizer.schedule=cosin", ["optimizer.schedule", "did you mean cosine?"]),
    ("data.augmentation=flip", ["data.augmentation", "random_resized_crop"]),
    ("data.source=mnist", ["data.source", "'mnist'", "tfds:NAME"]),
    ("data.source=tfds:", ["data.source", "tfds:NAME"]),
    ("data.crop_scale=(0.5, 0.1)", ["data.crop_scale"]),
    ("attack.epsilon_255=-1", ["attack.epsilon_255=-1.0", "out of range", "pixel value"]),
    ("attack.epsilon_255=256", ["attack.epsilon_255=256.0", "out of range"]),
    ("attack.epsilon_255=0.03", ["attack.epsilon_255=0.03", "[0, 1] scale", "the unit is the pixel value", "8"]),
    ("attack.norm=l1", ["config.attack.norm='l1'", "linf, l2"]),
    ("evaluation.attacks.pgd_20.norm=l2", ["pgd_20.norm=l2 needs a radius of its own", "765"]),
    ("attack.epsilon_255=nan", ["attack.epsilon_255=nan"]),
    ("method.adversarial_weight=1.5", ["method.adversarial_weight=1.5", "between 0 and 1"]),
    ("method.adversarial_weight=-0.1", ["method.adversarial_weight=-0.1", "between 0 and 1"]),
    ("method.adversarial_weight=nan", ["method.adversarial_weight=nan"]),
    ("model.norm=mbn", ["model.norm=mbn", "nf_resnet26", "resnet26"]),
    ("model.bn_group_size=many", ["bn_group_size", "'many'", "global"]),
    ("model.stage_sizes=(1, 0)", ["model.stage_sizes", "at least one block"]),
    ("model.stage_sizes=(1, 'b')", ["model.stage_sizes=(1, 'b')", "at least one block"]),
    ("data.std=('a', 'b', 'c')", ["data.std=('a', 'b', 'c')", "numbers"]),
    ("optimizer.point_epochs=('a',)", ["optimizer.point_epochs=('a',)", "numbers"]),
    ("model.num_classes=5", ["10 classes", "model.num_classes = 10"]),
    ("data.std=(0.3, 0.0, 0.3)", ["error: config.data.std=(0.3, 0.0, 0.3) must be positive"]),
    ("data.mean=(0.3, 0.3)", ["data.mean", "three"]),
    ("data.mean=(123.675, 116.28, 103.53)", ["data.mean", "[0, 255] scale", "(0.485, 0.456, 0.406)"]),
    ("data.std=(58.395, 57.12, 57.375)", ["data.std", "[0, 255] scale", "(0.229, 0.224, 0.225)"]),
    ("data.train_resize=16", ["data.train_resize=16", "random_resized_crop", "now none"]),
    ("data.mean=(-0.3, 0.3, 0.3)", ["error: config.data.mean=(-0.3, 0.3, 0.3) must not be negative"]),
    ("optimizer.learning_rate=nan", ["optimizer.learning_rate"]),
    ("optimizer.learning_rate=inf", ["optimizer.learning_rate"]),
    ("optimizer.weight_decay=-inf", ["optimizer.weight_decay"]),
    ("evaluation.mbn_gamma=2", ["evaluation.mbn_gamma"]),
    ("evaluation.name=../other", ["evaluation.name", "must be a file name"]),
    ("epochs=0", ["epochs=0", "at least 1"]),
    ("batch_size=0", ["batch_size=0"]),
    ("batch_size=60", ["batch_size=60", "8 devices", "56 and 64"]),
    ("evaluation.batch_size=100", ["evaluation.batch_size=100", "8 devices", "104"]),
    ("batch_size=1600", ["1600", "1437"]),
    ("seed=-1", ["seed=-1"]),
    ("log.every_steps=0", ["log.every_steps"]),
    ("checkpoint.keep=0", ["checkpoint.keep"]),
    # What does not even parse: absl and ml_collections speak.
    ("epochs=1.5", ["error: --config.epochs=1.5 is wrong: it must be a whole number"]),
    ("epochs=two: 2", ["error: --config.epochs=two: 2 is wrong: it must be a whole number"]),
    ("optimizer.learning_rate=fast", ["--config.optimizer.learning_rate=fast is wrong: it must be a number"]),
    ("log.tensorboard=maybe", ["--config.log.tensorboard=maybe is wrong: it must be True or False"]),
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
        ("clean", {"name": "pgd"}, "evaluation.attacks.clean is not a valid name"),
        ("pgd-20", {"name": "pgd"}, "is not a valid name"),
        ("mine", {"steps": 3}, "evaluation.attacks.mine has no name"),
        ("mine", {"name": "pgd", "stepz": 3}, "stepz"),
        ("mine", 20, "must have fields"),
    ],
)
def test_wrong_evaluation_attacks_are_named(name, options, words):
    config = tiny_config(evaluation__only="")
    config.evaluation.attacks[name] = options
    with pytest.raises(UserError, match=words):
        prepare(config)


def test_an_evaluation_attack_needs_only_its_name():
    config = tiny_config(evaluation__only="")
    config.evaluation.attacks.mine = {"name": "pgd"}
    resolved = prepare(config).evaluation.attacks.mine
    assert resolved.epsilon_255 == config.attack.epsilon_255 and resolved.protocol == "custom"


@pytest.mark.parametrize("group", ["48", "7"])
def test_batch_norm_groups_must_fit(cli, tmp_path, group):
    args = [f"--workdir={tmp_path}/run", f"--config.model.bn_group_size={group}"]
    assert_refused(cli(f"{DIGITS}:sat", *args), f"bn_group_size={group}", "global")
    assert not any(tmp_path.iterdir())
