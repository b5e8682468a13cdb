"""The published constants of every corruption and severity, and what of them scales with the side of the image.

ImageNet-C (Hendrycks and Dietterich, 2019) is defined for 224 x 224 pixels. Lengths are in pixels of that side; noise
levels, mixing weights and factors have no unit. `elastic_transform` counts in 244ths, a slip of the original that is
part of the published images.
"""

import math
from collections.abc import Callable

SIDE = 224
SEVERITIES = (1, 2, 3, 4, 5)
SETTINGS = "corruptions.json"  # next to files of corruptions: how they were made

_ELASTIC = 244

#: {corruption: {constant: its five values}}.
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "gaussian_noise": {"deviation": (0.08, 0.12, 0.18, 0.26, 0.38)},
    "shot_noise": {"photons": (60, 25, 12, 5, 3)},
    "impulse_noise": {"amount": (0.03, 0.06, 0.09, 0.17, 0.27)},
    "defocus_blur": {"radius": (3, 4, 6, 8, 10), "alias_sigma": (0.1, 0.5, 0.5, 0.5, 0.5)},
    "glass_blur": {"sigma": (0.7, 0.9, 1.0, 1.1, 1.5), "reach": (1, 2, 2, 3, 4), "iterations": (2, 1, 3, 2, 2)},
    "motion_blur": {"radius": (10, 15, 15, 15, 20), "sigma": (3, 5, 8, 12, 15)},
    "zoom_blur": {"stop": (1.11, 1.16, 1.21, 1.26, 1.31), "step": (0.01, 0.01, 0.02, 0.02, 0.03)},
    "snow": {
        "mean": (0.1, 0.2, 0.55, 0.55, 0.55),
        "deviation": (0.3, 0.3, 0.3, 0.3, 0.3),
        "zoom": (3, 2, 4, 4.5, 2.5),
        "threshold": (0.5, 0.5, 0.9, 0.85, 0.85),
        "radius": (10, 12, 12, 12, 12),
        "sigma": (4, 4, 8, 8, 12),
        "image_weight": (0.8, 0.7, 0.7, 0.65, 0.55),
    },
    "frost": {"image_weight": (1, 0.8, 0.7, 0.65, 0.6), "frost_weight": (0.4, 0.6, 0.7, 0.7, 0.75)},
    "fog": {"strength": (1.5, 2, 2.5, 2.5, 3), "decay": (2, 2, 1.7, 1.5, 1.4)},
    "brightness": {"shift": (0.1, 0.2, 0.3, 0.4, 0.5)},
    "contrast": {"factor": (0.4, 0.3, 0.2, 0.1, 0.05)},
    "elastic_transform": {
        "amplitude": (_ELASTIC * 2, _ELASTIC * 2, _ELASTIC * 0.05, _ELASTIC * 0.07, _ELASTIC * 0.12),
        "sigma": (_ELASTIC * 0.7, _ELASTIC * 0.08, _ELASTIC * 0.01, _ELASTIC * 0.01, _ELASTIC * 0.01),
        "jitter": (_ELASTIC * 0.1, _ELASTIC * 0.2, _ELASTIC * 0.02, _ELASTIC * 0.02, _ELASTIC * 0.02),
    },
    "pixelate": {"factor": (0.6, 0.5, 0.4, 0.3, 0.25)},
    "jpeg_compression": {"quality": (25, 18, 15, 10, 7)},
}

#: The constants that are lengths on the image itself and so scale by side / 224. The other lengths are those of a
#: layer that is drawn at 224 and then fitted to the side: see `LAYERS`.
LENGTHS = {
    "defocus_blur": ("radius",),
    "glass_blur": ("sigma", "reach"),
    "motion_blur": ("radius", "sigma"),
    "elastic_transform": ("jitter",),
}

#: Of these, whole numbers of pixels, with how they are rounded; never less than one.
WHOLE: dict[tuple[str, str], Callable[[float], int]] = {
    ("glass_blur", "reach"): round,
    ("motion_blur", "radius"): math.ceil,
}

NAMES = tuple(PUBLISHED)  # in the order of mCE


def published(name: str, severity: int) -> dict[str, float]:
    """{constant: value} at side 224."""
    return {constant: values[severity - 1] for constant, values in PUBLISHED[name].items()}


def scaled(name: str, severity: int, side: int) -> dict[str, float]:
    """{constant: value} at any side: lengths by side / 224, whole pixels at least 1, the rest as published."""
    values = published(name, severity)
    for constant in LENGTHS.get(name, ()):
        value = values[constant] * side / SIDE
        whole = WHOLE.get((name, constant))
        values[constant] = max(1, whole(value)) if whole else value
    return values


#: The corruptions that draw a layer at 224 and fit it to the side.
LAYERS = ("snow", "frost", "fog", "elastic_transform")
