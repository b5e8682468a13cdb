"""SAT with instance norm: ResNet26, half clean and half adversarial images.

Table 3. Targets in % at eps 8/255: clean 56.78, PGD 11.06 (with batch norm, sat_r26: 52.65, 10.55).

    python main.py --config=configs/sat_in_r26.py --workdir=runs/sat_in_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.07e+13 floating-point operations a step, 1.4e+19 in all
(`--mode=dry_run`). `configs/sat_in_r26.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("sat_in", 26, arg)
