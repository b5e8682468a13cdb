"""The precision of a training step's matrix products is a field, and the default changes no operation."""

import re

import jax
import pytest

from nofrost_jax import methods
from nofrost_jax.config import prepare
from nofrost_jax.errors import UserError
from tests import conftest
from tests.methods import helpers


def program(row="nofrost", **fields):
    """The text of a row's training step."""
    config = helpers.tiny_config(row, **fields)
    trainer = helpers.Trainer(config, model=helpers.small_net(row))
    batch = trainer.devices.shard(helpers.DATA)
    return trainer.step.lower(trainer.start(), batch, trainer.key).as_text()


def products(text):
    """The precision of each matrix product, as the compiler is told."""
    lines = [line for line in text.splitlines() if "dot_general" in line]
    return {(re.findall(r"precision = \[(\w+), (\w+)\]", line) or [("DEFAULT", "DEFAULT")])[0] for line in lines}


def test_the_field_is_the_precision_of_every_product_forward_and_backward():
    for name in ("high", "highest"):
        text = program(matmul_precision=name)
        assert products(text) == {(name.upper(),) * 2}, "also those of the attack"
    assert products(program()) == {("DEFAULT", "DEFAULT")}


def test_the_default_is_the_step_itself(monkeypatch):
    text = program(matmul_precision="default")
    monkeypatch.setattr(methods, "at_precision", lambda step, name: step)
    assert program() == text
    with jax.default_matmul_precision("highest"):  # what is set outside, by a flag or a variable, still holds
        assert products(program()) == {("HIGHEST", "HIGHEST")}


def test_it_is_checked_and_must_be_there():
    with pytest.raises(UserError, match=r"config.matmul_precision='best' is unknown; choose one of default, high"):
        prepare(conftest.tiny_config(matmul_precision="best"))
    config = conftest.tiny_config()
    with config.unlocked():
        del config.matmul_precision
    with pytest.raises(UserError, match=r"config.matmul_precision is missing"):
        prepare(config)
