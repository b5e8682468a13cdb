"""What a config of a training method gets wrong is said in one line, before anything is computed."""

import pytest

from nofrost_jax.config import prepare
from nofrost_jax.errors import UserError
from tests.conftest import tiny_config

WRONG = [  # row, fields, words of the line
    ("trades", {"method__beta": -1.0}, ["method.beta=-1.0", "at least 0"]),
    ("trades", {"method__beta": float("nan")}, ["method.beta=nan"]),
    ("trades", {"method__beta": float("inf")}, ["method.beta=inf", "finite"]),
    ("trades", {"method__trades_forwards": 4}, ["method.trades_forwards=4", "between 2 and 3"]),
    ("trades", {"method__trades_forwards": 1}, ["method.trades_forwards=1", "between 2 and 3"]),
    ("freeat", {"method__replays": 0}, ["method.replays=0", "at least 1"]),
    ("sat", {"method__tau_epochs": (50, 90)}, ["method.tau_epochs", "fat or trades_fat"]),
    ("trades", {"method__tau_epochs": (50,)}, ["method.tau_epochs", "fat or trades_fat"]),
    ("fat", {"method__tau_epochs": (90, 50)}, ["method.tau_epochs=(90, 50)", "ascending"]),
    ("fat", {"method__tau_epochs": (50, 50)}, ["method.tau_epochs=(50, 50)", "ascending"]),
    ("trades_fat", {"method__tau_epochs": (0, 50)}, ["method.tau_epochs=(0, 50)", "1 or more"]),
    ("fat", {"attack__tau": -1}, ["config.attack", "tau", "-1"]),
    ("fat", {"attack__jitter_255": -0.5}, ["config.attack", "jitter_255"]),
    ("fat", {"attack__name": "friendly_kl"}, ["method.name=fat", "attack.name=friendly,", "now friendly_kl"]),
    ("trades_fat", {"attack__name": "friendly"}, ["method.name=trades_fat", "attack.name=friendly_kl"]),
    ("fastat", {"attack__steps": 2}, ["method.name=fast", "steps=1", "epsilon_times:1.25", "now pgd", "2"]),
    ("freeat", {"attack__steps": 4}, ["method.name=free", "steps=1", "epsilon_times:1", "now pgd", "4"]),
    ("freeat", {"attack__step_rule": "epsilon_times:x"}, ["config.attack", "epsilon_times:A"]),
    ("fastat", {"optimizer__point_epochs": ()}, ["optimizer.point_epochs=()", "ascending"]),
    ("fastat", {"optimizer__point_epochs": (0.0, 5.0)}, ["point_epochs=(0.0, 5.0)", "equally many"]),
    (
        "fastat",
        {"optimizer__point_epochs": (0.0, 5.0, 5.0), "optimizer__point_shares": (1.0, 0.5, 0.1)},
        ["point_epochs=(0.0, 5.0, 5.0)", "ascending"],
    ),
    (
        "fastat",
        {"optimizer__point_epochs": (5.0, 0.0), "optimizer__point_shares": (1.0, 0.5)},
        ["point_epochs=(5.0, 0.0)", "ascending"],
    ),
    ("fastat", {"optimizer__point_shares": (-1.0,)}, ["point_shares=(-1.0,)", "0 or more"]),
    ("freeat", {"optimizer__decay_epochs": 0}, ["optimizer.decay_epochs=0", "at least 1"]),
    ("freeat", {"optimizer__schedule": "decays"}, ["optimizer.schedule='decays'", "did you mean decay?"]),
    ("st", {"method__name": "fats"}, ["method.name='fats'", "standard, at, trades, fat, trades_fat, fast, free"]),
    ("sat", {"data__views": ("clean", "tda")}, ["data.views=('clean', 'tda')", "method.name=at;", "('clean',)"]),
    ("sat", {"data__views": ()}, ["data.views=()", "set it to ('clean',)"]),
    ("combine", {"data__views": ("clean", "tda")}, ["method.terms=combine", "('clean', 'deepaugment', 'tda')"]),
    ("nofrost_star", {"data__views": ("clean", "tda")}, ["method.terms=paper", "set it to ('clean', 'augmented')"]),
    ("deepaugment", {"data__views": ("clean", "clean", "deepaugment")}, ["('clean', 'deepaugment')"]),
    ("deepaugment", {"data__views": ("clean", "deepaugmented")}, ["deepaugmented", "('clean', 'deepaugment')"]),
    ("tda", {"method__terms": "td"}, ["method.terms='td'", "paper", "did you mean tda?"]),
    ("tda", {"method__tda_noise": 1.5}, ["method.tda_noise=1.5", "between 0 and 1"]),
    ("tda", {"method__tda_blur": -1.0}, ["method.tda_blur=-1.0", "at least 0"]),
    ("tda", {"data__tda_crop_scale": (0.8, 0.5)}, ["data.tda_crop_scale=(0.8, 0.5)", "of 0 to 1"]),
    ("combine", {"deepaugment__mode": "file"}, ["deepaugment.mode='file'", "did you mean files?"]),
    ("combine", {"deepaugment__mode": "files"}, ["deepaugment.folders=()", "edsr, cae", "leave edsr out"]),
    (
        "combine",
        {"deepaugment__mode": "files", "deepaugment__folders": ("EDSR",)},
        ["deepaugment.folders=('EDSR',)", "has no folder for cae", "leave cae out"],
    ),
    ("combine", {"deepaugment__sources": ("edsr", "edsr")}, ["deepaugment.sources=('edsr', 'edsr')", "each once"]),
    ("combine", {"deepaugment__sources": ()}, ["deepaugment.sources=()", "each once"]),
    ("combine", {"deepaugment__sources": ("esdr",)}, ["deepaugment.sources='esdr'", "did you mean edsr?"]),
    ("combine", {"deepaugment__mode": "on_device"}, ["mode=on_device", "weights, now ''", "random:SEED"]),
    (
        "combine",
        {"deepaugment__mode": "on_device", "deepaugment__weights": "random:0"},
        ["mode=on_device", "12 pixels or more, now 8"],
    ),
    ("combine", {"deepaugment__group": 0}, ["deepaugment.group=0", "at least 1"]),
    ("combine", {"deepaugment__maximum": -0.5}, ["deepaugment.maximum=-0.5", "at least 0"]),
]


@pytest.mark.parametrize(("row", "fields", "words"), WRONG, ids=[f"{row}-{fields}" for row, fields, _ in WRONG])
def test_wrong_values_are_one_clear_line(row, fields, words):
    config = tiny_config(row)
    if row in ("fastat", "freeat"):
        config.attack.steps = 1
    with config.unlocked():
        for field, value in fields.items():
            section, name = field.split("__")
            config[section][name] = value
    with pytest.raises(UserError) as refused:
        prepare(config)
    message = str(refused.value)
    assert len(message.splitlines()) == 1 and message.startswith("config.")
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("row", "attack", "words"),
    [
        ("fat", {"name": "pgd", "steps": 2, "step_rule": "nofrost"}, "name=fat needs .*attack.name=friendly, now pgd"),
        ("trades", {"name": "pgd", "steps": 2, "step_rule": "nofrost"}, "name=trades needs .*attack.name=pgd_kl, now"),
        ("fastat", {"name": "mi_fgsm", "steps": 1, "step_rule": "nofrost"}, "name=fast takes one step .*now mi_fgsm"),
    ],
)
def test_an_attack_of_another_kind_is_refused(row, attack, words):
    """The radius apart, nothing of the row's own attack is left."""
    config = tiny_config(row)
    config.attack = {"epsilon_255": 8.0, "norm": "linf", **attack}
    with pytest.raises(UserError, match=words):
        prepare(config)


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ("trades", {"method__beta": 6.0, "method__trades_forwards": 3}),
        ("trades", {"method__beta": 0.0}),
        ("fat", {"method__tau_epochs": (50, 90), "attack__tau": 0, "attack__jitter_255": 0.255}),
        ("trades_fat", {"method__tau_epochs": (30, 50, 70), "attack__tau": 0}),
        ("fastat", {"attack__steps": 1, "optimizer__schedule": "points"}),
        ("freeat", {"attack__steps": 1, "optimizer__schedule": "decay", "method__replays": 8}),
    ],
)
def test_the_variants_of_the_methods_own_code_are_taken(row, fields):
    assert prepare(tiny_config(row, **fields)).attack.epsilon_255 > 0
