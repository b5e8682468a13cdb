"""TRADES-FAT (Zhang et al., 2020): TRADES on ResNet26, with attacks that stop soon after they succeed.

Table 1. Targets in % at eps 8/255: clean 55.65, PGD 11.91, APGD-CE 5.79, APGD-DLR 6.14, MIA 10.83, CW 10.81, RayS 31.1,
Square 46.7, fast AutoAttack (aa_fast_20) 4.63; standard AutoAttack: not reported.

    python main.py --config=configs/trades_fat_r26.py --workdir=runs/trades_fat_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.17e+13 floating-point operations a step, 1.4e+19 in all
(`--mode=dry_run`). Attacks stop early, so this is an upper bound. `configs/trades_fat_r26.py:runlocal` is the same code
in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("trades_fat", 26, arg)
