"""FAT (Zhang et al., 2020): ResNet26 with batch norm on adversarial images; attacks stop soon after they succeed.

Table 1. Targets in % at eps 8/255: clean 58.72, PGD 6.97, APGD-CE 2.35, APGD-DLR 2.68, MIA 6.59, CW 6.37, RayS 33.6,
Square 50.8, fast AutoAttack (aa_fast_20) 1.70; standard AutoAttack: not reported.

    python main.py --config=configs/fat_r26.py --workdir=runs/fat_r26

Cost: 450,360 steps of 256 images (90 epochs), 2.7e+13 floating-point operations a step, 1.2e+19 in all
(`--mode=dry_run`). Attacks stop early, so this is an upper bound. `configs/fat_r26.py:runlocal` is the same code in
miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("fat", 26, arg)
