"""What a step costs: passes counted inside the net while it runs, against `passes` and against the table of costs."""

import jax
import numpy as np
import pytest

from configs.methods import ROWS
from nofrost_jax import methods
from tests.methods.helpers import (
    BATCH,
    DATA,
    VIEWS,
    SmallNet,
    Trainer,
    Watched,
    random_variables,
    small_net,
    tiny_config,
)

T, M = 2, 3  # attack steps, FreeAT's replays
# Forwards, backwards to the image, backwards to the parameters of a step, per clean image: T (F + Bx) is an attack.
TABLE = {
    "st": (1, 0, 1),
    "st_nf": (1, 0, 1),
    "pgdat": (T + 1, T, 1),
    "sat": (T + 2, T, 2),
    "nofrost": (T + 2, T, 2),
    "sat_in": (T + 2, T, 2),
    "mbnat": (T + 2, T, 2),
    "trades": (1 + T + 2, T, 2),  # 1: the clean prediction that its attack leaves
    "fat": (T + 1, T, 1),  # at most
    "trades_fat": (1 + T + 2, T, 2),  # at most
    "fastat": (1 + 1, 1, 1),
    "freeat": (M, M, M),
    "deepaugment": (2, 0, 2),
    "tda": (1, 0, 1),
    "combine": (T + 4, T, 4),
    "nofrost_star": (T + 3, T, 3),
}


def measure(config, model, batch=DATA | VIEWS):
    """((F, Bx, B) per image, train-mode forwards per image, keys of those forwards, mean attack steps) of a step."""
    watched = Watched(model)
    trainer = Trainer(config, model=watched, variables=random_variables(model))
    _, metrics = jax.device_get(trainer(trainer.start(), batch))
    jax.effects_barrier()
    counts = tuple(watched.seen[name] / BATCH for name in ("F", "Bx", "B"))
    attack_steps = metrics["attack_steps"][0] / BATCH if "attack_steps" in metrics else None
    return counts, watched.seen["train"] / BATCH, watched.image_keys, attack_steps


def test_the_table_is_complete():
    assert set(TABLE) == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_step_costs_what_the_table_says(row):
    """The attack's passes run in evaluation mode, but for FastAT's and FreeAT's; and no image's key serves twice."""
    config = tiny_config(row, method__replays=M, deepaugment__mode="files")
    if row not in ("fastat", "freeat"):
        config.attack.steps = T
    if "fat" in row:
        config.attack.tau = T  # never stops
    counts, trained, image_keys, attack_steps = measure(config, small_net(row))
    assert counts == TABLE[row] == methods.TABLE[config.method.name].passes(config)
    assert trained == (2 if row == "fastat" else counts[2])
    attacks = config.method.name in ("at", "trades", "fat", "trades_fat") or row in ("combine", "nofrost_star")
    assert attack_steps == (T if attacks else None)
    used = np.concatenate([np.asarray(one).reshape(-1, 2) for one in image_keys])
    assert len(used) == trained * BATCH and len(np.unique(used, axis=0)) == len(used)


@pytest.mark.parametrize(
    ("row", "option", "expected"),
    [
        ("trades", {"method__trades_forwards": 3}, (1 + T + 3, T, 3)),
        ("sat", {"method__adversarial_weight": 0.0}, (1, 0, 1)),
        ("freeat", {"method__replays": 1}, (1, 1, 1)),
        ("nofrost_star", {"method__terms": "authors"}, (T + 4, T, 4)),
    ],
)
def test_options_cost_what_they_promise(row, option, expected):
    config = tiny_config(row, deepaugment__mode="files", **option)
    if row != "freeat":
        config.attack.steps = T
    counts, *_ = measure(config, SmallNet())
    assert counts == expected == methods.TABLE[config.method.name].passes(config)


def test_the_clean_forward_of_pgdat_costs_what_passes_says():
    config = tiny_config("pgdat", method__pgdat_clean_forward=True, attack__steps=T)
    counts, trained, *_ = measure(config, SmallNet())
    assert counts[:2] == (T + 2, T) and trained == 2
    assert counts == methods.TABLE["at"].passes(config)


@pytest.mark.parametrize(("row", "clean_passes", "tau"), [("fat", 0, 0), ("trades_fat", 1, 1)])
def test_an_attack_that_stops_early_costs_less_and_never_more(row, clean_passes, tau):
    """All images wrong from the start, and tau 0: one look, no step. tau 1: two looks, one step."""
    config, model = tiny_config(row, attack__steps=4, attack__tau=tau), SmallNet()
    variables = random_variables(model)
    frozen = model.clone(axis_name=None)
    images = (DATA["image"] / 255 - np.array(config.data.mean)) / np.array(config.data.std)
    logits = frozen.apply(variables, images.astype(np.float32), train=False)
    batch = DATA | {"label": np.asarray(logits).argmin(1).astype(np.int32)}
    most = methods.TABLE[row].passes(config)
    (forwards, image_backwards, backwards), trained, _, attack_steps = measure(config, model, batch)
    assert attack_steps == tau
    # A loop's last look computes a gradient, too, that nobody uses.
    assert (forwards, image_backwards) == (clean_passes + tau + 1 + trained, tau + 1)
    assert forwards < most[0] and image_backwards < most[1] and backwards == most[2]
