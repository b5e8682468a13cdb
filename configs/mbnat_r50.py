"""MBNAT (Xie & Yuille, 2020): ResNet50 with one batch norm for clean and one for adversarial images.

Figure 2; the paper gives no number for any single gamma.

    python main.py --config=configs/mbnat_r50.py --workdir=runs/mbnat_r50

Cost: 450,360 steps of 256 images (90 epochs), 5.29e+13 floating-point operations a step, 2.4e+19 in all
(`--mode=dry_run`). `configs/mbnat_r50.py:runlocal` is the same code in miniature, on any CPU.
The authors' code has extras that the paper does not mention: --config.recipe=authors switches them on.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("mbnat", 50, arg)
