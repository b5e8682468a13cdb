"""ST: standard training of ResNet50 with batch norm.

Table 2, Table 6. Targets in % at eps 8/255: clean 76.06, PGD 0.04, APGD-CE 0.00, APGD-DLR 0.00, MIA 0.00, CW 0.00, RayS
22.5, Square 31.4, fast AutoAttack (aa_fast_20) 0.00; standard AutoAttack: not reported.

    python main.py --config=configs/st_r50.py --workdir=runs/st_r50

Cost: 450,360 steps of 256 images (90 epochs), 6.1e+12 floating-point operations a step, 2.7e+18 in all
(`--mode=dry_run`). `configs/st_r50.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("st", 50, arg)
