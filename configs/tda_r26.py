"""TDA, texture-debiased augmentation (Hermann et al., 2020): ResNet26 with batch norm on TDA's images alone.

Figure 3 (Section 4.4). Targets: the text gives none. The paper does not say whether it uses other images too: none is
inferred.

    python main.py --config=configs/tda_r26.py --workdir=runs/tda_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.53e+12 floating-point operations a step, 1.6e+18 in all
(`--mode=dry_run`). `configs/tda_r26.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from the authors' code, which has extras: add --config.recipe=authors to aim at it.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("tda", 26, arg)
