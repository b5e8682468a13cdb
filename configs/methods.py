"""The rows of the paper's tables as functions of a config: which net, and which loss on which images."""


def _row(config, family, norm, method, weight):
    depth = config.model.name.removeprefix("nf_")
    config.model.name = f"nf_{depth}" if family == "nf" else depth
    config.model.norm = norm
    config.method.name = method
    config.method.adversarial_weight = weight
    return config


ROWS = {
    "nofrost": ("nf", "bn", "at", 0.5),  # adversarial training of a normalizer-free net
    "st": ("bn", "bn", "standard", 0.0),  # standard training
    "st_nf": ("nf", "bn", "standard", 0.0),  # the same without batch norm (Table 6)
    "sat": ("bn", "bn", "at", 0.5),  # standard adversarial training: half clean, half adversarial
    "pgdat": ("bn", "bn", "at", 1.0),  # Madry et al. (2018): adversarial only
    "mbnat": ("bn", "mbn", "at", 0.5),  # mixture BN (Xie & Yuille, 2020)
    "sat_in": ("bn", "in", "at", 0.5),  # SAT with instance norm (Table 3)
}


def apply(config, row):
    """`config` with the net and the method of a row of `ROWS`; everything else stays."""
    if row not in ROWS:
        raise ValueError(f"unknown row {row!r} after the config file; choose one of {', '.join(ROWS)}")
    return _row(config, *ROWS[row])


def imagenet(row, depth, arg=""):
    """The ImageNet config of a row, for ResNet-26 or ResNet-50."""
    from configs import common

    config = common.get_config()
    config.model.name = f"resnet{depth}"
    return common.with_arg(apply(config, row), arg)
