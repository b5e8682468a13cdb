"""Training at an l2 radius: what the step attacks with, what it reports, and which methods it is not for."""

import jax
import numpy as np
import pytest

from nofrost_jax import attacks, models
from nofrost_jax.config import prepare, resolve
from nofrost_jax.errors import UserError
from nofrost_jax.methods import at
from tests import conftest
from tests.methods import helpers

L2 = {"attack__norm": "l2", "attack__epsilon_255": 127.5, "evaluation__only": "pgd_20"}


def test_a_step_attacks_in_the_l2_ball_and_says_how_far():
    config = helpers.tiny_config("nofrost", attack__norm="l2", attack__epsilon_255=127.5)
    attack, model = attacks.create(**config.attack), helpers.SmallNet(norm="")
    assert attack.norm == "l2" and attack.epsilon == 0.5
    variables = models.init(model, jax.random.key(0), helpers.SIZE)
    image_keys = jax.random.split(jax.random.key(0), helpers.BATCH)
    loss = jax.jit(at.make_loss(model, config, attack))
    _, (_, metrics) = loss(variables["params"], {}, helpers.DATA, image_keys)
    total, count = metrics["perturbation_l2_255"]
    assert 100 < total / count <= 127.501
    assert metrics["perturbation_linf_255"][0] < total / 2
    assert np.isfinite(metrics["adversarial_accuracy"]).all()


def test_evaluations_take_the_radius_and_the_norm_of_training():
    config = prepare(conftest.tiny_config(**L2))
    assert (config.evaluation.attacks.pgd_20.norm, config.evaluation.attacks.pgd_20.epsilon_255) == ("l2", 127.5)
    own = conftest.tiny_config(**L2, evaluation__attacks__pgd_20__epsilon_255=8.0)
    assert resolve(own).evaluation.attacks.pgd_20.norm == "linf", "a radius of its own is l-infinity"


@pytest.mark.parametrize(
    ("row", "fields", "words"),
    [
        (
            "sat",
            {"attack__epsilon_255": 3.0},
            r"3\.0 looks like a radius on the .* write 3\.0 as 765",
        ),
        ("sat", {"attack__epsilon_255": 4000.0}, r"out of range; .*3533 reaches every image here"),
        ("sat", {"evaluation__only": "aa_fast_20"}, "aa_fast_20: only pgd, pgd_targeted, cw have norm=l2"),
        ("trades", {}, "attack 'pgd_kl' has no norm='l2'"),
        ("fastat", {"attack__steps": 1}, "set config.attack.name=pgd, norm=linf, steps=1"),
    ],
)
def test_what_l2_is_not_for_is_refused(row, fields, words):
    with pytest.raises(UserError, match=words):
        prepare(conftest.tiny_config(row, **(L2 | fields)))
