"""Variance in a normalizer-free network at initialization follows its prediction (Brock et al., 2021, section 4)."""

import jax
import numpy as np

from nofrost_jax import models
from nofrost_jax.models import nf_resnet
from nofrost_jax.models.blocks import block_specs


def test_activation_scales_are_the_published_ones():
    def scales(sizes):
        return nf_resnet.activation_scales(block_specs(sizes, 1.0, 0.0))

    later = [0.9622504486493764, 0.9805806756909202]
    np.testing.assert_allclose(scales((2, 2, 2, 2)), [1, 0.9805806756909202] + 3 * later, rtol=1e-7)
    expected = [1, 0.980581, 0.96225, 0.944911, 0.980581, 0.96225, 0.944911]
    expected += [0.928477, 0.980581, 0.96225, 0.944911, 0.928477, 0.912871, 0.898027, 0.980581, 0.96225]
    np.testing.assert_allclose(scales((3, 4, 6, 3)), expected, atol=5e-7)


def test_variance_of_every_block_follows_its_prediction():
    """Per pixel, the variance over channels is that of the stem times 1 + k alpha^2 after block k of a stage.

    Images are of one random color each, seen in the middle of the maps, because average pooling of a signal that
    changes from pixel to pixel lowers its variance, which the prediction leaves out. The residual branches start at
    zero; their gains are set to 1 here. The mean over seeds and colors is within 5 %: measured within 3 %, where a
    missing beta is off by 7 % in the second stage and 16 % in the third, a missing gamma by 65 % from the first on.
    """
    model = models.create("nf_resnet26", stem="small", stage_sizes=(2, 2, 2), num_classes=2)

    @jax.jit
    def variances(params, colors):
        images = np.ones((1, 48, 48, 1), np.float32) * colors[:, None, None, :]
        _, captured = model.apply({"params": params}, images, capture_intermediates=is_seen, mutable=["intermediates"])
        maps = {name: value["__call__"][0] for name, value in captured["intermediates"].items()}
        return {name: x[:, x.shape[1] // 2, x.shape[2] // 2].var(-1) for name, x in maps.items()}

    def is_seen(module, method):
        return method == "__call__" and (isinstance(module, nf_resnet.NFBlock) or module.name == "stem")

    found = []
    for seed in range(8):
        params = models.init(model, jax.random.key(seed), 48)["params"]
        for name, block in params.items():
            if name.startswith("stage"):
                block["conv3"]["gain"] = np.ones_like(block["conv3"]["gain"])
        colors = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        colors /= colors.std(1, keepdims=True)
        found.append(variances(params, colors))
    mean = {name: np.mean([variance[name] for variance in found]) for name in found[0]}
    for spec in block_specs((2, 2, 2), 1.0, 0.0):
        predicted = 1 + int(spec.name[-1]) * nf_resnet.ALPHA**2
        measured = mean[spec.name] / mean["stem"]
        assert abs(measured / predicted - 1) < 0.05, (spec.name, measured, predicted)
