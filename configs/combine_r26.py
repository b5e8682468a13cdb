"""Combine: ResNet26 with batch norm, a quarter each of clean, DeepAugment, TDA and adversarial images.

Figure 3 (Section 4.4). Targets: the text gives none. It is the worst of six methods in most columns.

    python main.py --config=configs/combine_r26.py:files=DIR --workdir=runs/combine_r26

DIR holds imagenet/train and imagenet/val, and DeepAugment's images in edsr and cae (see docs/deepaugment.md). Without
:files=DIR, Noise2Net makes the images, which is not what the paper used.

Cost: 450,360 steps of 256 images (90 epochs), 3.84e+13 floating-point operations a step, 1.7e+19 in all
(`--mode=dry_run`). `configs/combine_r26.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from the authors' code, which has extras: add --config.recipe=authors to aim at it. Here this also sets
EDSR's images alone, 30 epochs and 80 images a step, as in their script for NoFrost* (configs/common.py).
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("combine", 26, arg)
