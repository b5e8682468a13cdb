"""NoFrost*: NF-ResNet50 on clean, adversarial and augmented images, a third each (Equation 2).

Figure 4 (Section 4.4). Targets: the text gives differences to DeepAugment alone, in points: PGD +16.30, Square +8.20,
ImageNet-R +2.05, ImageNet-C accuracy -3.06.

    python main.py --config=configs/nofrost_star_r50.py:files=DIR --workdir=runs/nofrost_star_r50

DIR holds imagenet/train and imagenet/val, and DeepAugment's images in edsr and cae (see docs/deepaugment.md). Without
:files=DIR, Noise2Net makes the images, which is not what the paper used.

Cost: 450,360 steps of 256 images (90 epochs), 6.05e+13 floating-point operations a step, 2.7e+19 in all
(`--mode=dry_run`). `configs/nofrost_star_r50.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from the authors' code, which has extras: add --config.recipe=authors to aim at it. Here this also sets
four quarters, EDSR's images alone, 30 epochs and 80 images a step, as in their script (configs/common.py).
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("nofrost_star", 50, arg)
