"""DeepAugment (Hendrycks et al., 2021): ResNet50 with batch norm, half clean and half distorted images.

Figure 4 (Section 4.4). Targets: the text gives none. The paper does not state the shares: half and half is inferred.
The figure may show the published model of DeepAugment's authors.

    python main.py --config=configs/deepaugment_r50.py:files=DIR --workdir=runs/deepaugment_r50

DIR holds imagenet/train and imagenet/val, and DeepAugment's images in edsr and cae (see docs/deepaugment.md). Without
:files=DIR, Noise2Net makes the images, which is not what the paper used.

Cost: 450,360 steps of 256 images (90 epochs), 1.3e+13 floating-point operations a step, 5.9e+18 in all
(`--mode=dry_run`). `configs/deepaugment_r50.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from the authors' code, which has extras: add --config.recipe=authors to aim at it.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("deepaugment", 50, arg)
