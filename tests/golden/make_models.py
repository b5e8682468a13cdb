"""Writes models.npz: timm's logits and input gradients on the weights and images of tests/models/reference.py.

Needs PyTorch and timm. From the repository root: python -m tests.golden.make_models
"""

from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("models.npz")
SIZE = 40  # pixels; the maps are 20, 10, 5, 3, 2, so that pooling meets odd sizes
CLASSES = 10
GRADIENTS = ("nf_resnet26", "resnet26")


def main() -> None:
    from nofrost_jax import models
    from tests.models import reference

    timm = reference.import_timm()
    images, direction = reference.inputs(SIZE, CLASSES)
    arrays = {}
    for name in models.NAMES:
        shapes = timm.create_model(name, num_classes=CLASSES).state_dict()
        shapes = {key: tuple(value.shape) for key, value in shapes.items() if not key.endswith("num_batches_tracked")}
        net = reference.timm_network(timm, name, reference.state_dict(shapes), CLASSES)
        logits, gradient = reference.torch_float64_logits_and_input_gradient(net, images, direction)
        arrays[f"{name}/logits"] = logits
        if name in GRADIENTS:
            arrays[f"{name}/gradient"] = gradient.astype(np.float32)
    np.savez_compressed(PATH, **arrays)


if __name__ == "__main__":
    main()
