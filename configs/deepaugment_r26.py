"""DeepAugment (Hendrycks et al., 2021): ResNet26 with batch norm, half clean and half distorted images.

Figure 3 (Section 4.4). Targets: the text gives none. The paper does not state the shares: half and half is inferred.

    python main.py --config=configs/deepaugment_r26.py:files=DIR --workdir=runs/deepaugment_r26

DIR holds imagenet/train and imagenet/val, and DeepAugment's images in edsr and cae (see docs/deepaugment.md). Without
:files=DIR, Noise2Net makes the images, which is not what the paper used.

Cost: 450,360 steps of 256 images (90 epochs), 7.8e+12 floating-point operations a step, 3.5e+18 in all
(`--mode=dry_run`). `configs/deepaugment_r26.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from the authors' code, which has extras: add --config.recipe=authors to aim at it.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("deepaugment", 26, arg)
