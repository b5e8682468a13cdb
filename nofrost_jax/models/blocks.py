"""The residual blocks that all networks share: how many there are, and how wide."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn

from nofrost_jax.models import convolutions

REMAT = ("none", "convolutions", "blocks")  # what a train-mode forward recomputes for its backward pass: see `create`
STAGE_FEATURES = (256, 512, 1024, 2048)


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One residual block: its name, output channels, stride, drop-path rate, and index from 0."""

    name: str
    features: int
    stride: int
    drop_path: float
    index: int
    opens_stage: bool


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, but never less than 90 % of it (Sandler et al., 2018)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def block_specs(stage_sizes: Sequence[int], width: float, drop_path: float) -> list[BlockSpec]:
    """All blocks in order. Drop-path rates grow linearly from 0 at the first block to `drop_path` at the last."""
    places = [(stage, block) for stage, size in enumerate(stage_sizes) for block in range(size)]
    return [
        BlockSpec(
            name=f"stage{stage + 1}_block{block + 1}",
            features=make_divisible(STAGE_FEATURES[stage] * width),
            stride=2 if stage > 0 and block == 0 else 1,
            drop_path=drop_path * index / max(len(places) - 1, 1),
            index=index,
            opens_stage=block == 0,
        )
        for index, (stage, block) in enumerate(places)
    ]


def recomputed(block: Any, remat: str, train: bool, static_argnums: tuple[int, ...]) -> Any:
    """The class of a block that follows the policy `remat`. In evaluation mode nothing is recomputed: an attack's
    gradient to the images needs no more than the signs before each ReLU, and would pay with a forward pass a step."""
    if remat == "none" or not train:
        return block
    kept = jax.checkpoint_policies.save_only_these_names(convolutions.OUTPUT) if remat == "convolutions" else None
    return nn.remat(block, policy=kept, static_argnums=static_argnums)
