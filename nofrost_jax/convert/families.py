"""Which net a state dict is of: its family, depth, width and classes, from the names and shapes of its tensors."""

import re
from collections.abc import Mapping
from typing import Any

from nofrost_jax.errors import UserError
from nofrost_jax.models import STAGE_SIZES

Shape = tuple[int, ...]
TAKEN = (
    "convert takes timm's NF-ResNets, and ResNets of bottleneck blocks as in timm or torchvision (26, 50, other depths "
    "and widths, wide_resnet50_2)"
)
_STEM = 64  # channels of the first convolution
_OTHERS = {  # a name that only such nets have
    r"(^|\.)attn\.(qkv|proj)|self_attention\.": "a vision transformer",
    r"denseblock1\.": "a DenseNet",
    r"gamma$|conv_dw|dwconv": "a ConvNeXt or another net of depthwise convolutions",
    r"^block1\.layer\.0\.": "a CIFAR WideResNet",
    r"\.shortcut\.0\.": "a CIFAR ResNet",
    r"^features\.0\.": "a net like VGG, MobileNet or torchvision's ConvNeXt",
    r"^layer1\.0\.se\.|\.se\.": "a net with squeeze-and-excitation",
    r"^conv1\.0\.|^stem\.conv1\.|^stem\.0\.": "a ResNet with another stem",
    r"^layer1\.0\.conv3\.": "a ResNet of other blocks (ResNeXt), or without batch norm",
    r"^layer1\.0\.conv2\.": "a ResNet of basic blocks (18 or 34)",
    r"(^|\.)bias$|(^|\.)weight$": "another net",
}


def section(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `config.model` that the tensors of a net tell: name, norm, num_classes, width, stage_sizes, stem.

    Only their names and shapes are looked at; whether all of them fit, `from_timm` checks. Raises UserError for a net
    of another family.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    if _has(shapes, "stem.conv.weight", 4) and "stem.conv.gain" in shapes and _has(shapes, "head.fc.weight", 2):
        stem, head, stage = "stem.conv.weight", "head.fc.weight", "stages.{}.{}.conv3.weight"
        places, ratio = range(4), 0.25
    elif _has(shapes, "conv1.weight", 4) and "bn1.running_mean" in shapes and _has(shapes, "fc.weight", 2):
        stem, head, stage, places = "conv1.weight", "fc.weight", "layer{}.{}.conv3.weight", range(1, 5)
        ratio = _ratio(shapes)
    else:
        raise _unknown(shapes)
    if stage.format(places[0], 0) not in shapes or not ratio:
        raise _unknown(shapes)
    sizes = [_count(shapes, stage, place) for place in places]
    sizes = tuple(sizes[: sizes.index(0)] if 0 in sizes else sizes)
    name = _name("nf_resnet" if stem == "stem.conv.weight" else "wide_resnet" if ratio == 0.5 else "resnet", sizes)
    return {
        "name": name,
        "norm": "bn",
        "num_classes": shapes[head][0],
        "width": shapes[stem][0] / _STEM,
        "stage_sizes": () if sizes == STAGE_SIZES[name] else sizes,
        "stem": "small" if shapes[stem][-1] == 3 else "imagenet",
    }


def _has(shapes: Mapping[str, Shape], name: str, rank: int) -> bool:
    return len(shapes.get(name, ())) == rank


def _ratio(shapes: Mapping[str, Shape]) -> float:
    """Channels inside the first block, as a share of those it ends with; 0.0 for a block of another kind."""
    inner, outer = shapes.get("layer1.0.conv2.weight", ()), shapes.get("layer1.0.conv3.weight", ())
    if len(inner) != 4 or len(outer) != 4 or inner[0] != inner[1]:  # the last: grouped convolutions
        return 0.0
    return {4.0: 0.25, 2.0: 0.5}.get(outer[0] / inner[0], 0.0)


def _count(shapes: Mapping[str, Shape], stage: str, place: int) -> int:
    count = 0
    while stage.format(place, count) in shapes:
        count += 1
    return count


def _name(family: str, sizes: tuple[int, ...]) -> str:
    """The family's name of this depth; of another depth its last one, whose `stage_sizes` then say the depth."""
    names = [name for name in STAGE_SIZES if name.startswith(family)]
    return next((name for name in names if STAGE_SIZES[name] == sizes), names[-1])


def _unknown(shapes: Mapping[str, Shape]) -> UserError:
    if not shapes:
        return UserError(f"there are no tensors of a net in it; {TAKEN}")
    found = next((what for mark, what in _OTHERS.items() if any(re.search(mark, name) for name in shapes)), "no net")
    listed = ", ".join(name[:60] for name in list(shapes)[:3])
    return UserError(f"these are the weights of {found} ({len(shapes)} tensors: {listed}, ...); {TAKEN}")
