"""One name may stand for several attacks: which one counts, and which are marked."""

import pytest

from nofrost_jax.report.collect import collect, value
from nofrost_jax.report.figures import lookup
from tests.report import made


def test_the_attack_of_the_suites_counts_before_another_of_its_name(tmp_path):
    """A training's own final.json runs pgd_20 by another step rule, here on more images."""
    ours, other = {"steps": 20, "step_rule": "nofrost"}, {"steps": 20, "step_rule": "madry"}
    both, alone = made.net("sat"), made.net("nofrost")
    for net in (both, alone):
        made.write(
            tmp_path / net["model"],
            made.result(net, attacks=[made.attack("pgd_20", 100, 5000, **other)], n=5000, name="final"),
        )
    made.write(tmp_path / "paper", made.result(both, attacks=[made.attack("pgd_20", 300, **ours)], sha=""))
    more = [made.attack("pgd_20", 1, 2000, **ours)]
    made.write(tmp_path / "own", made.result(both, attacks=more, n=2000, name="more"))  # the suites' come first
    found = {net.row: value(net, "pgd_20") for net in collect(tmp_path).nets}
    assert (found["sat"].accuracy, found["sat"].n, found["sat"].flags) == (0.3, 1000, ())
    assert (found["nofrost"].n, found["nofrost"].flags) == (5000, ("other_settings",))
    assert value(collect(tmp_path / "paper").nets[0], "pgd_20").flags == ()
    assert value(collect(tmp_path / alone["model"]).nets[0], "pgd_20").flags == ()  # nothing else is there
    assert {value(net, "clean").n for net in collect(tmp_path).nets} == {5000}  # the same whatever the attacks


def test_the_suites_say_which_attack_is_usual_even_if_they_are_few(tmp_path):
    for name, rule in {"paper": "nofrost", "a": "madry", "b": "madry"}.items():
        one = made.result(made.net(), attacks=[made.attack("pgd_20", 9, steps=20, step_rule=rule)], name=name, sha=name)
        made.write(tmp_path / name, one)
    found = collect(tmp_path).nets
    assert [value(net, "pgd_20").flags for net in found] == [("other_settings",)] * 2 + [()]
    drawn = [lookup.number(net, "pgd_20") for one in found for net in lookup.nets([one])]
    assert drawn[:2] == [None, None] and drawn[2].mean == 0.009  # no figure joins them


@pytest.mark.parametrize(
    ("name", "fields", "flags"),
    [
        ("pgd_10_eps_2", {"epsilon_255": 0.25, "steps": 10}, ("not_as_named",)),
        ("pgd_10_eps_2", {"epsilon_255": 2.0, "steps": 10}, ()),
        ("pgd_10_eps_2", {"epsilon_255": 2.0, "steps": 2}, ("not_as_named",)),
        ("pgdt_20_eps_8_all", {"epsilon_255": 8.0, "steps": 20}, ()),
        ("pgdt_20_eps_12_all", {"epsilon_255": 8.0, "steps": 20}, ("not_as_named",)),
    ],
)
def test_an_attack_has_the_radius_of_its_name(tmp_path, name, fields, flags):
    made.write(tmp_path, made.result(made.net(), attacks=[made.attack(name, 5, **fields)]))
    assert value(collect(tmp_path).nets[0], name).flags == flags
