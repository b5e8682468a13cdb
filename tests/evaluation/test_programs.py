"""The programs of an evaluation: weights that are standardized once are the same net, a family shares a program."""

import importlib

import jax
import numpy as np
import pytest

from nofrost_jax import classifier, keys
from nofrost_jax.config import for_evaluation, prepare, resolve
from nofrost_jax.evaluation import protocols, runs
from nofrost_jax.evaluation.programs import to_pixels
from nofrost_jax.models import init
from tests.evaluation import suite


@pytest.fixture(scope="module")
def config():
    return suite.tiny_config(attack_dtype="bfloat16")


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_weights_are_standardized_once(config, dtype, bound):
    programs = runs.programs(config, suite.first_devices())
    variables = init(classifier.create_model(config.model), jax.random.key(0), 8)
    ready = programs.ready(variables)
    assert "gain" in variables["params"]["stem"] and "gain" not in ready["params"]["stem"]
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    logits_fn = jax.jit(classifier.logits_fns(config)[dtype])
    expected = logits_fn(variables, images)
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits_fn(ready, images), expected, rtol=0, atol=bound * np.abs(expected).max())


def test_a_net_without_such_weights_stays_as_it_is(config):
    config = config.copy_and_resolve_references()
    config.model.name = "resnet26"
    programs = runs.programs(config, suite.first_devices())
    variables = init(classifier.create_model(config.model), jax.random.key(0), 8)
    jax.tree.map(np.testing.assert_array_equal, programs.ready(variables), variables)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "friendly", "mi_fgsm", "apgd_dlr", "apgd_t", "fab_t", "square"])
def test_attacks_of_a_family_share_a_program(name):
    config = suite.tiny_config()
    programs, variables = runs.programs(config, suite.first_devices()), suite.tiny_variables()
    ready = programs.ready(variables)
    classify = suite.classifier(config, ready)
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    labels = np.asarray(jax.jit(classify.predict)(images))
    batch = {"image": images, "label": labels, "index": np.arange(16, dtype=np.int32), "active": np.ones(16, bool)}
    image_keys = keys.per_image(keys.named(jax.random.key(0), name), batch["index"])
    for epsilon_255, steps in ((2, 2), (20, 4)):
        amount = {} if name == "fgsm" else {"queries": 12} if name == "square" else {"steps": steps}
        (member,) = protocols.make("", {"name": name, "epsilon_255": epsilon_255, **amount}).members
        memo, attack = programs.blank(member.attack, images.shape), member.attack
        state, found = programs.stage(member, ready, batch, jax.random.key(0), 0, memo)

        @jax.jit
        def alone(images, attack=attack):
            return attack.stage(classify, images, labels, image_keys, attack.begin(images, batch["active"]), 0)

        expected = alone(to_pixels(images))
        assert (state.forwards == expected.forwards).all() and state.forwards.max() > 0
        # A sign that two compilations round to different sides of 0 is a difference of a whole step.
        assert np.mean(np.abs(found - expected.images) > 1e-5) < 0.01
        distance = float(np.abs(found - to_pixels(images)).max()) * 255
    assert 2.01 < distance < 20.01 and len(programs.compile_seconds) == 1


def test_attacks_that_differ_in_more_than_numbers_do_not():
    options = {"name": "pgd", "epsilon_255": 8}
    other = (
        {"steps": 5},
        {"epsilon_255": 2},
        {"step_rule": "nofrost"},
        {"start": "zero"},
        {"norm": "l2"},
        {"restarts": 2},
    )
    made = [protocols.make("", options | changed).members[0].attack for changed in ({}, *other)]
    families = [attack.family[0] for attack in made]
    assert families[0] == families[1] == families[2] and len(set(families)) == 5
    for attack in made:
        (kind, fields), numbers = attack.family
        assert kind(**dict(fields), **numbers) == attack


@pytest.mark.parametrize(
    ("name", "attacks", "programs"), [("epsilon_sweep", 7, 1), ("small_epsilon", 8, 2), ("convergence", 16, 7)]
)
def test_a_suite_compiles_a_program_for_each_family(name, attacks, programs):
    """The numbers of docs/performance.md."""
    own = prepare(importlib.import_module("configs.nofrost_r50").get_config())
    config, _ = for_evaluation(own, importlib.import_module(f"configs.eval.{name}").get_config())
    members = {member for protocol in protocols.make_all(resolve(config)) for member in protocol.members}
    families = {(member.attack.family[0], member.dtype) for member in members}
    assert (len(members), len(families)) == (attacks, programs)
