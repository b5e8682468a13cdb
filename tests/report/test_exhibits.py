"""The nets, suites and columns of `exhibits` are those of configs/."""

import importlib

import pytest

from configs import digits, methods
from configs.eval import mbn_gamma
from nofrost_jax.config import prepare
from nofrost_jax.evaluation.results import describe_net
from nofrost_jax.report import exhibits
from nofrost_jax.report.exhibits import EXHIBITS, METHODS, Net, name_of, row_of
from tests.conftest import ROOT

SUITES = {suite for exhibit in EXHIBITS.values() for _, suite in exhibit.suites}
COLUMNS = [(exhibit, column) for exhibit in EXHIBITS.values() for column in exhibit.columns]


def suite_config(suite):
    name, _, argument = suite.config.partition(":")
    module = importlib.import_module(f"configs.eval.{name}")
    return module.get_config(argument) if argument else module.get_config()


def test_the_paper_has_seven_of_each():
    assert list(EXHIBITS) == [f"{kind}{number}" for kind in ("table", "figure") for number in range(1, 8)]


@pytest.mark.parametrize("row", methods.ROWS)
def test_the_row_of_a_net_is_read_off_its_config(row):
    net = describe_net(prepare(digits.get_config(row)))
    assert row_of(net) == row and name_of(net) == METHODS[row]


def test_the_authors_nofrost_star_is_that_row_and_a_net_of_no_row_has_a_plain_name():
    config = methods.imagenet("nofrost_star", 26, "files=anywhere")
    config.recipe = "authors"
    assert row_of(describe_net(prepare(config))) == "nofrost_star"
    config = digits.get_config("trades")
    config.model.name = "nf_resnet26"
    net = describe_net(prepare(config))
    assert row_of(net) == "" and name_of(net) == "trades (NF)"


@pytest.mark.parametrize("net", sorted({net for one in EXHIBITS.values() for net in one.nets}, key=str), ids=str)
def test_every_net_has_a_config_that_has_its_settings(net):
    module = importlib.import_module(f"configs.{net.row}_r{net.depth}")
    config = module.get_config()
    config.update_from_flattened_dict(dict(net.settings))
    assert row_of(describe_net(prepare(config))) == net.row
    assert (ROOT / f"configs/{net.row}_r{net.depth}.py").exists()
    assert bool(net.variant) == bool(net.settings)


@pytest.mark.parametrize("suite", sorted(SUITES, key=str), ids=lambda suite: f"{suite.name}-{suite.config}")
def test_every_suite_is_in_configs(suite):
    config = suite_config(suite)
    assert set(suite.only) <= set(config.evaluation.attacks)
    assert suite.gammas == tuple(config.evaluation.mbn_gammas or ())
    config.update_from_flattened_dict(dict(suite.settings))
    if not suite.only:
        assert suite.name == config.evaluation.name


def test_results_of_a_mixture_are_named_by_gamma():
    found = {suite.name: suite.results for suite in SUITES}
    assert exhibits.GAMMAS == mbn_gamma.GAMMAS
    assert found["mbn_all"][:2] == ("mbn_all_gamma_0", "mbn_all_gamma_0.1") and found["paper"] == ("paper",)


@pytest.mark.parametrize(("exhibit", "column"), COLUMNS, ids=lambda one: getattr(one, "key", getattr(one, "name", "")))
def test_a_suite_of_every_net_gives_each_column(exhibit, column):
    for net in exhibit.nets:
        keys = {"clean"}
        for suite in (suite for own, suite in exhibit.suites if own == net):
            config = suite_config(suite)
            keys |= set(suite.only or config.evaluation.attacks)
            if config.evaluation.properties.measure:
                keys |= {f"properties.{name}" for name in ("margin", "thickness", "smoothness")}
        assert column.key.format(epsilon=f"{net.epsilon_255 or 8:g}") in keys


def test_accuracies_are_shown_under_both_protocols():
    for exhibit in EXHIBITS.values():
        keys = {column.key for column in exhibit.columns}
        assert exhibits.PROTOCOLS[0] in keys or not keys & {"clean"}
        assert not keys or not keys & {"clean"} or set(exhibits.PROTOCOLS) <= keys


def test_a_net_of_table_7_has_its_radius():
    assert Net("nofrost", 50).epsilon_255 is None
    assert {net.epsilon_255 for net in EXHIBITS["table7"].nets} == {2.0, 4.0}
