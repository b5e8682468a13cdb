"""ST of NF-ResNet26: standard training without batch norm.

No row of the paper. It is the ResNet26 counterpart of Table 6.

    python main.py --config=configs/st_nf_r26.py --workdir=runs/st_nf_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.57e+12 floating-point operations a step, 1.6e+18 in all
(`--mode=dry_run`). `configs/st_nf_r26.py:runlocal` is the same code in miniature, on any CPU.
The authors' code has extras that the paper does not mention: --config.recipe=authors switches them on.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("st_nf", 26, arg)
