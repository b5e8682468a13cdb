"""What a result says of its images: the data set, how they were normalised, which of them."""

import os
import re
from collections.abc import Mapping
from typing import Any

IMAGENET = "ImageNet"
_IMAGENET_VALIDATION = 50_000
_SPLITS = ("", "test", "val", "validation")  # on which nets are compared; others are data sets of their own


def source(result: Mapping[str, Any]) -> str:
    """A data set's name; of a folder its last part and the start of its fingerprint, so that it may be moved."""
    dataset = result["dataset"]
    found, split = dataset["source"], dataset["split"]
    is_imagenet = dataset["label_set"] == "1000 classes" and dataset.get("of") == _IMAGENET_VALIDATION
    if re.match(r"tfds:imagenet2012($|[:/])", found) or (found.startswith("folder:") and is_imagenet):
        found = IMAGENET
    elif found.startswith("folder:"):
        contents = ((result.get("asked") or {}).get("data") or {}).get("contents")
        name = os.path.basename(found.rstrip("/")).removeprefix("folder:")
        found = f"{name} ({contents[:8]})" if contents else found
    return found if split in _SPLITS else f"{found}, {split}"


def normalisation(result: Mapping[str, Any]) -> tuple[str, str]:
    """The mean and standard deviation of the pixels: the same parameters behind others are another net."""
    return str(result["dataset"].get("mean")), str(result["dataset"].get("std"))


def are_first_classes(result: Mapping[str, Any]) -> bool:
    """Whether they are all images of the first classes, as in the paper's Table 5, without a limit or a list."""
    return bool(re.fullmatch(r"the first \d+ classes", result["dataset"].get("choice") or ""))
