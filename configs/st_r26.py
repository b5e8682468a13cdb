"""ST: standard training of ResNet26 with batch norm.

Table 1. Targets in % at eps 8/255: clean 72.68, PGD 0.01, APGD-CE 0.00, APGD-DLR 0.00, MIA 0.00, CW 0.00, RayS 18.2,
Square 27.5, fast AutoAttack (aa_fast_20) 0.00; standard AutoAttack: not reported.

    python main.py --config=configs/st_r26.py --workdir=runs/st_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.53e+12 floating-point operations a step, 1.6e+18 in all
(`--mode=dry_run`). `configs/st_r26.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("st", 26, arg)
