"""TRADES-FAT (Zhang et al., 2020): TRADES on ResNet50, with attacks that stop soon after they succeed.

Table 2. Targets in % at eps 8/255: clean 60.52, PGD 11.67, APGD-CE 4.71, APGD-DLR 5.90, MIA 11.28, CW 10.29, RayS 34.5,
Square 48.6, fast AutoAttack (aa_fast_20) 3.87; standard AutoAttack: not reported.

    python main.py --config=configs/trades_fat_r50.py --workdir=runs/trades_fat_r50

Cost: 450,360 steps of 256 images (90 epochs), 5.49e+13 floating-point operations a step, 2.5e+19 in all
(`--mode=dry_run`). Attacks stop early, so this is an upper bound. `configs/trades_fat_r50.py:runlocal` is the same code
in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("trades_fat", 50, arg)
