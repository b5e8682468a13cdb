"""PGDAT (Madry et al., 2018): ResNet50 with batch norm on adversarial images only.

No row of the paper. It is Equation 1 with lambda = 1.

    python main.py --config=configs/pgdat_r50.py --workdir=runs/pgdat_r50

Cost: 450,360 steps of 256 images (90 epochs), 4.68e+13 floating-point operations a step, 2.1e+19 in all
(`--mode=dry_run`). `configs/pgdat_r50.py:runlocal` is the same code in miniature, on any CPU.
The authors' code has extras that the paper does not mention: --config.recipe=authors switches them on. Clean images
then pass in train mode too, so the running statistics mix both kinds. Figure 1 probably shows such a net.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("pgdat", 50, arg)
