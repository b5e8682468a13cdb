"""SAT with instance norm: ResNet50, half clean and half adversarial images.

No row of the paper: its Table 3 has this on ResNet26 only.

    python main.py --config=configs/sat_in_r50.py --workdir=runs/sat_in_r50

Cost: 450,360 steps of 256 images (90 epochs), 5.31e+13 floating-point operations a step, 2.4e+19 in all
(`--mode=dry_run`). `configs/sat_in_r50.py:runlocal` is the same code in miniature, on any CPU.
The authors' code has extras that the paper does not mention: --config.recipe=authors switches them on.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("sat_in", 50, arg)
