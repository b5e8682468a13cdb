"""ST of NF-ResNet50: standard training without batch norm.

Table 6, row "ST w/ NF-ResNet50". Targets in %: clean 75.02, PGD 0.00, APGD-CE 0.00.

    python main.py --config=configs/st_nf_r50.py --workdir=runs/st_nf_r50

Cost: 450,360 steps of 256 images (90 epochs), 6.19e+12 floating-point operations a step, 2.8e+18 in all
(`--mode=dry_run`). `configs/st_nf_r50.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("st_nf", 50, arg)
