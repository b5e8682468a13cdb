"""TRADES (Zhang et al., 2019): ResNet26 with batch norm, and a KL divergence as its second loss.

Table 1. Targets in % at eps 8/255: clean 39.64, PGD 9.94, APGD-CE 6.24, APGD-DLR 4.02, MIA 8.33, CW 6.37, RayS 20.7,
Square 32.8, fast AutoAttack (aa_fast_20) 3.54; standard AutoAttack: not reported.

    python main.py --config=configs/trades_r26.py --workdir=runs/trades_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.17e+13 floating-point operations a step, 1.4e+19 in all
(`--mode=dry_run`). `configs/trades_r26.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("trades", 26, arg)
