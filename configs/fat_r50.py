"""FAT (Zhang et al., 2020): ResNet50 with batch norm on adversarial images; attacks stop soon after they succeed.

Table 2. Targets in % at eps 8/255: clean 58.94, PGD 12.45, APGD-CE 5.48, APGD-DLR 7.16, MIA 12.56, CW 12.24, RayS 35.9,
Square 51.4, fast AutoAttack (aa_fast_20) 4.73; standard AutoAttack: not reported.

    python main.py --config=configs/fat_r50.py --workdir=runs/fat_r50

Cost: 450,360 steps of 256 images (90 epochs), 4.68e+13 floating-point operations a step, 2.1e+19 in all
(`--mode=dry_run`). Attacks stop early, so this is an upper bound. `configs/fat_r50.py:runlocal` is the same code in
miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("fat", 50, arg)
