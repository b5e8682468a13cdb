"""TDA, texture-debiased augmentation (Hermann et al., 2020): ResNet50 with batch norm on TDA's images alone.

Figure 4 (Section 4.4). Targets: the text gives none. The paper does not say whether it uses other images too: none is
inferred.

    python main.py --config=configs/tda_r50.py --workdir=runs/tda_r50

Cost: 450,360 steps of 256 images (90 epochs), 6.1e+12 floating-point operations a step, 2.7e+18 in all
(`--mode=dry_run`). `configs/tda_r50.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from the authors' code, which has extras: add --config.recipe=authors to aim at it.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("tda", 50, arg)
