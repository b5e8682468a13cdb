"""NoFrost: adversarial training of NF-ResNet26, half clean and half adversarial images.

Table 1. Targets in % at eps 8/255: clean 70.13, PGD 12.24, APGD-CE 6.34, APGD-DLR 6.60, MIA 21.83, CW 10.18, RayS 34.5,
Square 48.3, fast AutoAttack (aa_fast_20) 5.04; standard AutoAttack: not reported. Table 4, mean and standard deviation
over three seeds (`--config.seed`): clean 70.15 +- 0.03, PGD 12.19 +- 0.10, APGD-CE 6.34 +- 0.04, APGD-DLR 6.57 +- 0.06,
aa_fast_20 5.01 +- 0.09.

    python main.py --config=configs/nofrost_r26.py --workdir=runs/nofrost_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.1e+13 floating-point operations a step, 1.4e+19 in all
(`--mode=dry_run`). `configs/nofrost_r26.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("nofrost", 26, arg)
