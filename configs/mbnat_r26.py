"""MBNAT (Xie & Yuille, 2020): ResNet26 with one batch norm for clean and one for adversarial images.

Figures 2 and 5, Table 5. The text gives clean 69.71 and APGD-CE 0 at gamma 0, clean 57.08 and APGD-CE 6.27 at gamma
0.9.

    python main.py --config=configs/mbnat_r26.py --workdir=runs/mbnat_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.06e+13 floating-point operations a step, 1.4e+19 in all
(`--mode=dry_run`). `configs/mbnat_r26.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("mbnat", 26, arg)
