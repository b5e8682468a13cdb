"""The rows of the paper's tables: each sets the net, and the loss on which images."""

from typing import Any

from ml_collections import config_dict

from configs import common

NETS = {"bn": ("", "bn"), "in": ("", "in"), "mbn": ("", "mbn"), "nf": ("nf_", "bn")}  # prefix of the name, norm
# The paper's early-stop iteration is 1. FAT's code says its tau and the papers' differ by one, so tau could also be 0.
# FAT's code has a jitter of 0.255 with cross-entropy.
FRIENDLY = {"tau": 1, "jitter_255": 0.0}

Row = tuple[str, str, float, dict[str, Any]]  # net, method, Equation 1's lambda, fields of the training attack
ROWS: dict[str, Row] = {  # the fields are those that differ from configs/common.py
    "nofrost": ("nf", "at", 0.5, {}),  # adversarial training of a normalizer-free net
    "st": ("bn", "standard", 0.0, {}),  # standard training
    "st_nf": ("nf", "standard", 0.0, {}),  # the same without batch norm (Table 6)
    "sat": ("bn", "at", 0.5, {}),  # standard adversarial training: half clean, half adversarial
    "pgdat": ("bn", "at", 1.0, {}),  # Madry et al. (2018): adversarial only
    "mbnat": ("mbn", "at", 0.5, {}),  # mixture BN (Xie & Yuille, 2020)
    "sat_in": ("in", "at", 0.5, {}),  # SAT with instance norm (Table 3)
    "trades": ("bn", "trades", 0.5, {"name": "pgd_kl"}),  # Zhang et al. (2019)
    "fat": ("bn", "fat", 1.0, {"name": "friendly", **FRIENDLY}),  # Zhang et al. (2020)
    "trades_fat": ("bn", "trades_fat", 0.5, {"name": "friendly_kl", **FRIENDLY}),  # the same on TRADES
    "fastat": ("bn", "fast", 1.0, {"steps": 1, "step_rule": "epsilon_times:1.25"}),  # Wong et al. (2020)
    "freeat": ("bn", "free", 1.0, {"steps": 1, "step_rule": "epsilon_times:1"}),  # Shafahi et al. (2019)
    "deepaugment": ("bn", "augmented", 0.0, {}),  # Hendrycks et al. (2021); this row and the next do not attack
    "tda": ("bn", "augmented", 0.0, {}),  # Hermann et al. (2020)
    "combine": ("bn", "augmented", 0.5, {}),  # clean, DeepAugment, TDA and adversarial images on batch norm
    "nofrost_star": ("nf", "augmented", 0.5, {}),  # NoFrost*: without batch norm (Equation 2)
}
TERMS = {"deepaugment": "deepaugment", "tda": "tda", "combine": "combine"}  # method.terms; the recipe sets NoFrost*'s
OPEN = {  # fields that the recipe fills for NoFrost* and Combine on ImageNet; the authors have a separate script
    "epochs": int,
    "model.bn_group_size": str,
    "batch_size": int,
    "optimizer.learning_rate": float,
    "optimizer.learning_rate_batch": int,
    "evaluation.every_epochs": int,
    "deepaugment.mode": str,
}


def apply(config, row):
    """`config` with the net, the method and the attack of a row of `ROWS`; everything else stays.

    `freeat` also divides the epochs by its replays, so it costs as many passes as standard training.
    """
    if row not in ROWS:
        raise ValueError(f"unknown row {row!r} after the config file; choose one of {', '.join(ROWS)}")
    net, config.method.name, config.method.adversarial_weight, attack = ROWS[row]
    prefix, config.model.norm = NETS[net]
    config.model.name = prefix + config.model.name.removeprefix("nf_")
    config.attack = {**config.attack, **attack}
    config.method.terms = TERMS.get(row, config.method.terms)
    if config.method.name == "free":
        config.epochs = -(-config.epochs // config.method.replays)
    return config


def imagenet(row, depth, arg=""):
    """The ImageNet config of a row, for ResNet-26 or ResNet-50. arg: see `common.with_arg`."""
    config = common.get_config()
    config.model.name = f"resnet{depth}"
    if row in ("nofrost_star", "combine"):
        for field, kind in OPEN.items():
            section, name = field.rpartition(".")[::2]
            (config[section] if section else config)[name] = config_dict.placeholder(kind)
    return common.with_arg(apply(config, row), arg)
