"""The scores of ImageNet-C (Hendrycks and Dietterich, 2019): errors, ratios to AlexNet's errors, their mean: mCE."""

import statistics
from collections.abc import Mapping
from typing import Any

from nofrost_jax.corruptions.constants import SEVERITIES

#: AlexNet's top-1 error on the published files, the mean over the five severities; in the order of mCE.
ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


def scores(accuracy: Mapping[tuple[str, int], float], reference: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The summary of a table of cells.

    accuracy: {(corruption, severity): share of the images that are right}, not empty; cells may be lacking. reference:
    {corruption: error of the reference net}, `ALEXNET`, or None where there is none.

    Returns {"mean_accuracy": over the cells; "errors": {corruption: mean error over its severities}, "ratios":
    {corruption: that over the reference's}, both of corruptions with all five severities; "mce": the mean of the
    ratios, a fraction, or None unless every corruption of the reference is complete}.
    """
    names, reference = dict.fromkeys(name for name, _ in accuracy), reference or {}
    errors = {
        name: 1 - statistics.fmean(accuracy[name, severity] for severity in SEVERITIES)
        for name in names
        if all((name, severity) in accuracy for severity in SEVERITIES)
    }
    ratios = {name: errors[name] / reference[name] for name in reference if name in errors}
    complete = bool(reference) and len(ratios) == len(reference)
    return {
        "mean_accuracy": statistics.fmean(accuracy.values()),
        "errors": errors,
        "ratios": ratios,
        "mce": statistics.fmean(ratios.values()) if complete else None,
    }
