"""What the tests of main.py's command line share."""

import numpy as np
from PIL import Image

from nofrost_jax import train
from nofrost_jax.config import prepare
from tests.conftest import tiny_config

DIGITS = "--config=configs/digits.py"


def assert_refused(outcome, *words, code=2):
    assert outcome.returncode == code, outcome
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), outcome.stderr
    for word in words:
        assert word in lines[0], lines[0]


def tree(root, splits=("train", "val"), classes=("cat", "dog"), count=8):
    """A folder of `count` small images a class."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def make_run(cli, tmp_path):
    """A folder with a valid config.json alone."""
    config = prepare(tiny_config())
    (tmp_path / "run").mkdir()
    train.write_config(config, str(tmp_path / "run"))
    return tmp_path / "run"
