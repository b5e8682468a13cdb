"""TRADES (Zhang et al., 2019): ResNet50 with batch norm, and a KL divergence as its second loss.

Table 2. Targets in % at eps 8/255: clean 49.25, PGD 14.80, APGD-CE 9.20, APGD-DLR 8.19, MIA 12.97, CW 11.80, RayS 32.6,
Square 39.5, fast AutoAttack (aa_fast_20) 6.66; standard AutoAttack: not reported.

    python main.py --config=configs/trades_r50.py --workdir=runs/trades_r50

Cost: 450,360 steps of 256 images (90 epochs), 5.49e+13 floating-point operations a step, 2.5e+19 in all
(`--mode=dry_run`). `configs/trades_r50.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("trades", 50, arg)
