"""Two commands on one folder at the same moment: one works, the other says who does."""

import concurrent.futures
import json
import re

import pytest
from ml_collections import ConfigDict

from nofrost_jax import checkpoint, fields
from tests.conftest import finish, start, tiny_args
from tests.resume.helpers import saved_steps

IN_USE = r"error: \S+/run is in use by a training: process \d+ on \S+, since 20\S+ \S+ UTC \(\S+/run/lock\); wait .*"


def race(folder, cache):
    """Two runs of different seeds begin together; the Outcomes. Nothing but the seed: they are one program."""
    commands = [[*tiny_args(folder, seed=seed), f"--compilation_cache={cache}"] for seed in (0, 1)]
    started = [start("main.py", *command) for command in commands]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(finish, started))


def assert_unmixed(folder, outcomes):
    """One ran to its end, and all that is there is its own."""
    (winner,) = (seed for seed, outcome in enumerate(outcomes) if outcome.returncode == 0)
    loser = outcomes[1 - winner]
    assert loser.returncode == 2 and re.fullmatch(IN_USE, loser.stderr.strip()), loser
    config = checkpoint.read_config(folder)
    assert config["seed"] == winner
    steps = saved_steps(folder)
    assert steps == [12, 15]
    for step in steps:
        meta = json.loads((folder / "checkpoints" / str(step) / "meta/metadata").read_text())
        assert meta["config"] == fields.deciding_part(config)
        assert meta["config_sha256"] == fields.identity(ConfigDict(config))["config_sha256"]
    assert json.loads((folder / "evaluations/final.json").read_text())["seed"] == winner
    assert not [*folder.rglob("*lock*"), *folder.rglob("*tmp*")]


@pytest.mark.slow
def test_two_runs_that_begin_together_do_not_mix(tmp_path, compilation_cache):
    assert_unmixed(tmp_path / "run", race(tmp_path / "run", compilation_cache))
