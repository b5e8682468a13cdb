"""SAT: standard adversarial training of ResNet50 with batch norm, half clean and half adversarial images.

Table 2. Targets in % at eps 8/255: clean 59.28, PGD 13.57, APGD-CE 7.80, APGD-DLR 8.46, MIA 10.28, CW 11.02, RayS 27.4,
Square 40.2, fast AutoAttack (aa_fast_20) 6.23; standard AutoAttack: not reported.

    python main.py --config=configs/sat_r50.py --workdir=runs/sat_r50

Cost: 450,360 steps of 256 images (90 epochs), 5.29e+13 floating-point operations a step, 2.4e+19 in all
(`--mode=dry_run`). `configs/sat_r50.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("sat", 50, arg)
