"""SAT: standard adversarial training of ResNet26 with batch norm, half clean and half adversarial images.

Table 1. Targets in % at eps 8/255: clean 52.65, PGD 10.55, APGD-CE 5.02, APGD-DLR 5.30, MIA 8.84, CW 9.18, RayS 30.5,
Square 44.7, fast AutoAttack (aa_fast_20) 3.78; standard AutoAttack: not reported.

    python main.py --config=configs/sat_r26.py --workdir=runs/sat_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.06e+13 floating-point operations a step, 1.4e+19 in all
(`--mode=dry_run`). `configs/sat_r26.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("sat", 26, arg)
