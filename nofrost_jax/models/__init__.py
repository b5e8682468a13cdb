"""The networks: ResNets without normalization and with batch, mixture-batch or instance normalization.

A network is a Flax Linen module that maps normalized images [N, H, W, 3] to logits [N, num_classes]. Its variables are
{"params": ...} and, for batch statistics, {"batch_stats": ...}, all float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax.errors import UserError
from nofrost_jax.models import layers
from nofrost_jax.models.blocks import REMAT
from nofrost_jax.models.nf_resnet import NFResNet
from nofrost_jax.models.resnet import ResNet

STAGE_SIZES = {
    "nf_resnet26": (2, 2, 2, 2),
    "nf_resnet50": (3, 4, 6, 3),
    "resnet26": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "wide_resnet50_2": (3, 4, 6, 3),
}
NAMES = tuple(STAGE_SIZES)
NORMS = ("bn", "mbn", "in")
STEMS = ("imagenet", "small")
DTYPES = ("float32", "bfloat16", "float64")
BN_RUNNING = ("mean", "first")


def create(
    name: str,
    *,
    num_classes: int = 1000,
    norm: str = "bn",
    stem: str = "imagenet",
    width: float = 1.0,
    stage_sizes: tuple[int, ...] = (),
    dtype: str = "float32",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    bn_group_size: int = 0,
    bn_running: str = "mean",
    axis_name: str | None = None,
    remat: str = "none",
) -> nn.Module:
    """A network by name. Raises ValueError for values that no network has.

    name: one of NAMES; in wide_resnet50_2 (Zagoruyko & Komodakis, 2016) the blocks are twice as wide inside. norm:
    normalization of a resnet, ignored by nf_resnet: "bn", "mbn" (batch normalization for clean and for adversarial
    images apart; Xie & Yuille, 2020) or "in" (instance). stem: "imagenet" is a strided 7x7
    convolution and max pooling, "small" one 3x3 convolution for images of 8 to 64 pixels. width: factor on all channel
    counts (rounded to 8). stage_sizes: blocks in each of one to four stages, () for the default. dtype: of the
    computation; "float64" needs jax_enable_x64. dropout: before the classifier; drop_path: of the last block, growing
    linearly with depth (Huang et al., 2016). bn_group_size: images that share batch statistics, 0 for all of the
    global batch; bn_running: running statistics from the "mean" over groups or the "first" group. axis_name: the
    mapped axis over which the batch is sharded, None if it is not. remat: what a train-mode forward leaves for its
    backward pass to compute again: "none", "convolutions" (all but their outputs) or "blocks" (all but their inputs).
    """
    choices = {"stem": (stem, STEMS), "dtype": (dtype, DTYPES), "norm": (norm, NORMS)}
    choices |= {"model": (name, NAMES), "bn_running": (bn_running, BN_RUNNING), "remat": (remat, REMAT)}
    for field, (value, allowed) in choices.items():
        if value not in allowed:
            raise ValueError(f"{field}={value!r} is unknown; choose one of {', '.join(allowed)}")
    options: Any = jax.config  # its attributes are made at run time
    if dtype == "float64" and not options.jax_enable_x64:
        raise ValueError("dtype='float64' needs jax_enable_x64; choose float32 or bfloat16")
    stage_sizes = tuple(stage_sizes) or STAGE_SIZES[name]
    if len(stage_sizes) > 4 or not all(isinstance(size, int) and size > 0 for size in stage_sizes):
        raise ValueError(f"stage_sizes={stage_sizes} must be one to four positive integers, or () for the default")
    if num_classes < 1 or width <= 0 or not (0 <= dropout < 1 and 0 <= drop_path < 1):
        given = f"{num_classes=}, {width=}, {dropout=}, {drop_path=}"
        raise ValueError(f"num_classes and width must be positive, dropout and drop_path in [0, 1); got {given}")
    if not isinstance(bn_group_size, int) or bn_group_size < 0:
        raise ValueError(f"bn_group_size={bn_group_size!r} must be a number of images, or 0 for the global batch")
    common: dict[str, Any] = {
        "stage_sizes": stage_sizes,
        "num_classes": num_classes,
        "stem": stem,
        "width": width,
        "dropout": dropout,
        "drop_path": drop_path,
        "remat": remat,
        "dtype": jnp.dtype(dtype),
    }
    if name.startswith("nf_"):
        return NFResNet(**common)
    common |= {"bottleneck": 0.5 if name.startswith("wide_") else 0.25}
    return ResNet(norm=norm, bn_group_size=bn_group_size, bn_running=bn_running, axis_name=axis_name, **common)


def init(model: nn.Module, key: jax.Array, image_size: int) -> dict:
    """Fresh float32 variables of `model` for images of `image_size` pixels, from one PRNG key.

    Only the initializers run, the network itself is not compiled. Initialization follows the networks' PyTorch
    counterparts: residual branches start at zero (gain of conv3 or scale of the last normalization).
    """
    sample = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return jax.device_put(model.lazy_init(key, sample))


def abstract_variables(model: nn.Module, image_size: int) -> dict:
    """`init`'s variables as shapes and types alone; nothing is computed."""
    return jax.eval_shape(lambda key: init(model, key, image_size), jax.random.key(0))


def check(section: ConfigDict) -> None:
    """Raises UserError for values of `config.model`, resolved, that `create` does not see or would not explain."""
    group = section.bn_group_size
    if group != "global" and not (group.isdigit() and int(group) > 0):
        raise UserError(f"config.model.bn_group_size={group!r} must be a number of images, or global")
    if section.norm == "mbn" and section.name.startswith("nf_"):
        raise UserError(
            f"config.model.norm=mbn does not fit {section.name}, which has no batch norm; set config.model.name="
            "resnet26 or resnet50 for MBNAT, or config.model.norm=bn for NoFrost"
        )
    if not all(isinstance(blocks, int) and blocks > 0 for blocks in section.stage_sizes):
        raise UserError(f"config.model.stage_sizes={section.stage_sizes} needs at least one block in each stage")


__all__ = ["BN_RUNNING", "DTYPES", "NAMES", "NORMS", "REMAT", "STEMS", "abstract_variables", "check", "create", "init"]
__all__ += ["layers"]
