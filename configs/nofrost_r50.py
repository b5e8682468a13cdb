"""NoFrost: adversarial training of NF-ResNet50, half clean and half adversarial images.

Table 2, Table 6, Table 7. Targets in % at eps 8/255: clean 74.06, PGD 22.45, APGD-CE 11.96, APGD-DLR 13.37, MIA 36.11,
CW 19.17, RayS 36.1, Square 43.1, fast AutoAttack (aa_fast_20) 9.36; standard AutoAttack: not reported, but the authors'
released checkpoint falls to 1.28 under it (5.29 under APGD-CE with 100 steps). Table 7 (`:epsilon_255=2` and
`:epsilon_255=4`, evaluated by configs/eval/small_epsilon.py): clean 69.87, PGD-10 48.60, PGD-50 48.23 at eps 2/255;
clean 66.05, PGD-10 36.14, PGD-50 36.05 at eps 4/255.

    python main.py --config=configs/nofrost_r50.py --workdir=runs/nofrost_r50

Cost: 450,360 steps of 256 images (90 epochs), 5.36e+13 floating-point operations a step, 2.4e+19 in all
(`--mode=dry_run`). `configs/nofrost_r50.py:runlocal` is the same code in miniature, on any CPU.
Those numbers come from the authors' code, which has extras: add --config.recipe=authors to aim at them.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("nofrost", 50, arg)
