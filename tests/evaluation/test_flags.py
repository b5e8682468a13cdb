"""Every flag fires on an example made for it, and stays silent beside it."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest

from nofrost_jax import attacks
from nofrost_jax.config import for_evaluation, resolve
from nofrost_jax.evaluation import flags, protocols, results
from nofrost_jax.evaluation.outcomes import blank_rows
from nofrost_jax.flag_texts import DESCRIPTIONS

N = 1000
CORRECT = np.arange(N) < 900


def protocol(label, name, epsilon_255=8.0, **options):
    return protocols.make(label, {"name": name, "epsilon_255": epsilon_255, **options})


def outcomes(protocols, robust, **columns):
    """Outcomes in which the first `robust[label]` images survive each protocol; a cascade's numbers are a list."""
    found = {}
    for one in protocols:
        survivors, members = CORRECT, []
        counts = robust[one.name] if isinstance(robust[one.name], list) else [robust[one.name]]
        for count in counts:
            rows = blank_rows(N) | {name: np.full(N, value) for name, value in columns.items()}
            attacked = CORRECT if one.individual else survivors
            rows["attacked"], rows["robust"] = attacked, ~attacked | (np.arange(N) < count)
            survivors = survivors & rows["robust"]
            members.append(rows | {"survivors": survivors})
        selected = np.ones(N, bool)
        found[one.name] = {"selected": selected, "robust": survivors, "robust_uint8": survivors, "members": members}
    heads = {"correct": CORRECT, "nan": np.zeros(N, bool), "seconds": 0.0, "randomised": False, "probabilities": False}
    return heads | {"protocols": found}


def flags_of(protocols, robust, num_classes=1000, **columns):
    result = results.summarize(protocols, outcomes(protocols, robust, **columns), num_classes, {})
    return {entry["name"]: set(entry["flags"]) for entry in result["attacks"]}, set(result["flags"])


def test_the_authors_checkpoint_is_not_converged():
    """Their issue 2: 12.03 % under APGD-CE-20, 5.29 % under APGD-CE-100."""
    protocols = [protocol("apgd_ce_20", "apgd_ce", steps=20), protocol("apgd_ce_100", "apgd_ce", steps=100)]
    entries, result = flags_of(protocols, {"apgd_ce_20": 120, "apgd_ce_100": 53})
    assert entries["apgd_ce_20"] == {"not_converged"} and entries["apgd_ce_100"] == set()
    assert result == {"not_converged"}
    assert flags_of(protocols, {"apgd_ce_20": 120, "apgd_ce_100": 110})[1] == set()


def test_convergence_is_seen_across_the_two_protocols():
    protocols = [protocol("aa_fast_20", "aa_fast_20"), protocol("aa_standard", "aa_standard")]
    robust = {"aa_fast_20": [120, 94], "aa_standard": [53, 20, 20, 13]}
    entries, result = flags_of(protocols, robust)
    assert "not_converged" in entries["aa_fast_20"] and "not_converged" in result
    (curve,) = flags.convergence(protocols, outcomes(protocols, robust))
    assert curve["accuracy"] == {20: 0.12, 100: 0.053} and curve["converged"] is False and curve["n"] == N


@pytest.mark.parametrize(
    ("chosen", "robust", "weak"),
    [
        ("pgd mi_fgsm rays", (224, 361, 300), {"mi_fgsm", "rays"}),  # the paper's NoFrost ResNet-50
        ("pgd mi_fgsm rays", (224, 230, 220), set()),
        ("pgd mi_fgsm rays", (224, 220, 100), {"pgd"}),  # queries beat gradients: masked?
        ("aa_fast_20 square", ([300, 250], 200), {"aa_fast_20"}),
        ("aa_fast_20 square", ([300, 250], 245), set()),
        ("pgd apgd_ce", (224, 120), {"pgd"}),
    ],
)
def test_a_weak_attack_is_called_so(chosen, robust, weak):
    names = chosen.split()
    entries, _ = flags_of([protocol(name, name) for name in names], dict(zip(names, robust, strict=True)))
    assert {name for name, found in entries.items() if "weak_attack" in found} == weak


def test_different_radii_are_not_compared():
    protocols = [protocol("pgd_20", "pgd", 8.0), protocol("mia_20", "mi_fgsm", 4.0)]
    assert flags_of(protocols, {"pgd_20": 200, "mia_20": 500})[0]["mia_20"] == set()


@pytest.mark.parametrize(("after", "expected"), [(97, {"square_wins"}), (98, set())])
def test_square_gains_over_white_box(after, expected):
    protocols = [protocol("aa_standard", "aa_standard")]
    entries, _ = flags_of(protocols, {"aa_standard": [100, 100, 100, after]})
    assert entries["aa_standard"] == expected


def test_square_wins_nothing_that_others_have_won():
    """Alone it fools 750 images, but none that the attacks before it left."""
    protocols = [protocol("aa_standard", "aa_standard", individual=True)]
    entries, _ = flags_of(protocols, {"aa_standard": [100, 100, 100, 150]})
    assert "square_wins" not in entries["aa_standard"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"linf_255": 8.0002}, set()),
        ({"linf_255": 8.001}, {"budget_violated"}),
        ({"in_range": False}, {"range_violated"}),
        ({"nan": True}, {"nan"}),
        ({"zero_gradient": True}, {"zero_gradient"}),
        ({"unconfirmed": True}, {"unconfirmed"}),
    ],
)
def test_what_is_wrong_with_an_attack_is_said(columns, expected):
    entries, result = flags_of([protocol("pgd_20", "pgd")], {"pgd_20": 200}, **columns)
    assert entries["pgd_20"] == expected == result


def test_few_classes():
    protocols = [protocol("apgd_t", "apgd_t")]
    assert flags_of(protocols, {"apgd_t": 200}, num_classes=9)[0]["apgd_t"] == {"few_classes"}
    assert flags_of(protocols, {"apgd_t": 200}, num_classes=10)[0]["apgd_t"] == set()


def test_a_sweep_that_stays_high():
    protocols = [protocol(f"pgdt_{radius}", "pgd_targeted", float(radius)) for radius in (8, 64)]
    assert flags_of(protocols, {"pgdt_8": 500, "pgdt_64": 60})[1] == {"large_epsilon"}
    assert flags_of(protocols, {"pgdt_8": 500, "pgdt_64": 3})[1] == set()


def test_randomised_nets_and_probabilities():
    logits = np.random.default_rng(0).normal(size=(20, 10))
    labels = logits.argmax(-1)
    assert not flags.is_randomised(np.stack([logits] * 5), labels)
    assert flags.is_randomised(np.stack([logits] * 4 + [logits + 0.01]), labels)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert flags.are_probabilities(probabilities) and not flags.are_probabilities(logits)


def test_every_flag_is_described_in_the_documentation():
    import pathlib

    docs = pathlib.Path(__file__).parents[2] / "docs"
    page = (docs / "evaluation.md").read_text() + (docs / "shift.md").read_text()
    for name in DESCRIPTIONS:
        assert f"`{name}`" in page


# Protocols and suites.


def test_standard_autoattack_has_the_fields_constants():
    fast, standard = protocol("a", "aa_fast_20"), protocol("b", "aa_standard")
    eight = 8 / 255
    assert [member.attack for member in fast.members] == [
        attacks.APGD(eight, steps=20, loss="ce"),
        attacks.APGD(eight, steps=20, loss="dlr"),
    ]
    assert [member.attack for member in standard.members] == [
        attacks.APGD(eight, steps=100, loss="ce", restarts=1),
        attacks.TargetedAPGD(eight, steps=100, targets=9, restarts=1),
        attacks.FAB(eight, steps=100, targets=9, restarts=1),
        attacks.Square(eight, queries=5000, rescale=False, strict_budget=False),
    ]
    assert [member.attack.passes(1000) for member in standard.members] == [
        (101, 101),
        (9 * 102, 9 * 101),
        (9 * 201, 9 * 100),
        (5001, 0),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "aa"}, "aa_standard"),
        ({"name": "aa_standard", "steps": 20}, "fixed protocol"),
        ({"name": "cascade"}, "needs members"),
        ({"name": "cascade", "members": {"pgd": {"name": "pgd", "epsilon_255": 3.0}}}, "one radius"),
        ({"name": "pgd", "limit": -1}, "limit"),
        ({"name": "pgd", "limit": 3.7}, "limit"),
        ({"name": "pgd", "count": "every"}, "count='every' is unknown; choose one of right, all"),
        ({"name": "pgd", "steps": 2.5}, "whole number"),
        ({"name": "pgd", "steps": "3"}, "whole number"),
        ({"name": "pgd", "step_rule": 3}, "step_rule"),
        (
            {"name": "apgd_ce", "norm": "l2"},
            "only pgd, pgd_targeted, cw have norm=l2; give this one an l-infinity radius",
        ),
        ({"name": "aa_standard", "norm": "l2"}, "only pgd, pgd_targeted, cw have norm=l2"),
        ({"name": "cascade", "members": {"pgd": {"name": "pgd", "norm": "l2"}}}, "one radius in one norm"),
        ({"name": "pgd", "epsilon": 0.1}, "one radius"),
        ({"name": "square", "queries": 10.5}, "whole number"),
        ({"name": "cascade", "members": {"pgd": {"steps": 3}}}, "needs a name"),
        ({"name": "cascade", "members": {"pgd": "pgd"}}, "must have fields"),
        ({"name": "pgd", "queries": 3}, "queries"),
        ({"name": "square", "queries": 0}, "queries=0"),
    ],
)
def test_wrong_plans_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        protocols.make("x", {"epsilon_255": 8.0, **options})


def test_norms_are_not_mixed():
    """Neither in the worst case, nor where attacks are compared, nor in the audit of the ball."""
    protocols = [
        *(protocol("pgd_l2", "pgd", 765.0, norm="l2"), protocol("cw_l2", "cw", 765.0, norm="l2")),
        *(protocol("pgd", "pgd", 8.0), protocol("mia", "mi_fgsm", 8.0)),
    ]
    robust = {"pgd_l2": 100, "cw_l2": 90, "pgd": 300, "mia": 200}
    found = outcomes(protocols, robust, linf_255=8.0, l2_255=765.003)
    worst = results.worst_case(protocols, found)
    assert (worst["norm"], worst["epsilon_255"], worst["attacks"]) == ("linf", 8.0, ["pgd", "mia"])
    assert results.worst_case(protocols[:3], found)["attacks"] == ["pgd_l2", "cw_l2"], "the ball of most attacks"
    assert all(
        "budget_violated" not in entry
        for entry in flags_of(protocols, robust, linf_255=8.0, l2_255=765.003)[0].values()
    )
    entries, _ = flags_of(protocols, robust, linf_255=8.01, l2_255=765.003)
    assert {name for name, marks in entries.items() if "budget_violated" in marks} == {"pgd", "mia"}
    entries, _ = flags_of(protocols, robust, linf_255=8.0, l2_255=765.02)
    assert {name for name, marks in entries.items() if "budget_violated" in marks} == {"pgd_l2", "cw_l2"}
    same_radius = [protocol("pgd_l2", "pgd", 64.0, norm="l2"), protocol("mia", "mi_fgsm", 64.0)]
    assert "weak_attack" not in flags_of(same_radius, {"pgd_l2": 100, "mia": 300}, l2_255=0.0)[0]["mia"]


def test_dlr_needs_its_classes():
    with pytest.raises(ValueError, match="needs 3 classes"):
        protocols.check({"name": "aa_fast_20", "epsilon_255": 8.0}, 2)
    for classes in (2, 3):
        words = r"needs 4 classes.*--mode=evaluate --config=configs/eval/aa_few_classes.py --workdir=RUN"
        with pytest.raises(ValueError, match=words):
            protocols.check({"name": "aa_standard", "epsilon_255": 8.0}, classes)
        protocols.check({"name": "aa_few_classes", "epsilon_255": 8.0}, classes)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_protocol_for_few_classes_finds_all_that_can_be_fooled(classes):
    """On a linear net, of which theory says what can: a margin below epsilon times the l1 length of the slope."""
    rng, epsilon_255 = np.random.default_rng(classes), 4.0
    slopes, images = rng.normal(size=(48, classes)), rng.uniform(0.3, 0.7, (30, 4, 4, 3)).astype(np.float32)
    slopes[:, 1:] = slopes[:, :1] + 0.05 * slopes[:, 1:]
    logits = lambda x: (x.reshape(len(x), -1) - 0.5) @ slopes.astype(np.float32)  # noqa: E731
    clean = (images.reshape(30, -1) - 0.5) @ slopes
    labels = clean.argmax(-1)
    margins = (
        clean[np.arange(30), labels, None]
        - clean
        - epsilon_255 / 255 * np.abs(slopes[:, labels].T[:, :, None] - slopes).sum(1)
    )
    robust = np.delete(margins.ravel(), np.arange(30) * classes + labels).reshape(30, -1).min(-1) > 0
    assert 5 < robust.sum() < 25
    keys = jax.random.split(jax.random.key(0), 30)
    for member in protocol("few", "aa_few_classes", epsilon_255).members:
        attack = member.attack
        attack = dataclasses.replace(attack, **({"queries": 300} if member.name == "square" else {"steps": 20}))
        found = jax.jit(lambda x, y, k: attack(logits, x, y, k).images)(images, labels.astype(np.int32), keys)  # noqa: B023
        held = np.asarray(logits(np.asarray(found))).argmax(-1) == labels
        assert not (robust & ~held).any()
        missed = {"apgd_ce": 2, "fab_t": 0, "square": 8}  # cross-entropy does not lead to the nearest of two classes
        assert (held & ~robust).sum() <= missed[member.name], member.name


SUITES = ("paper", "aa_standard", "aa_fast_20", "aa_few_classes", "epsilon_sweep", "small_epsilon", "convergence")


@pytest.mark.parametrize("name", SUITES)
def test_suites_fit_any_run(name):
    own = resolve(importlib.import_module("configs.digits").get_config())
    config, left_out = for_evaluation(own, importlib.import_module(f"configs.eval.{name}").get_config())
    assert left_out == [] and config.evaluation.name == name
    assert config.evaluation.batch_size == own.evaluation.batch_size
    made = protocols.make_all(resolve(config))
    assert made and all(one.epsilon_255 > 0 for one in made)
    alone = name in ("epsilon_sweep", "small_epsilon", "aa_fast_20", "aa_few_classes")
    assert alone or {"aa_fast_20", "aa_standard"} <= {one.name for one in made}


def test_the_papers_suite_has_its_columns():
    found = {one.name: one for one in protocols.make_all(resolve(_paper()))}
    assert found["pgd_20"].members[0].attack == attacks.PGD(38.25 / 255, 20, "nofrost")
    assert found["mia_20"].members[0].attack.start == "zero"
    assert found["rays_400"].limit == 1000 and found["square_400"].members[0].attack == attacks.Square(38.25 / 255, 400)
    assert not found["apgd_ce_20"].limit and found["apgd_ce_100"].limit == 1000


def _paper():
    own = resolve(importlib.import_module("configs.digits").get_config())
    return for_evaluation(own, importlib.import_module("configs.eval.paper").get_config())[0]
