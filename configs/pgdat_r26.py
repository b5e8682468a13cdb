"""PGDAT (Madry et al., 2018): ResNet26 with batch norm on adversarial images only.

Figure 1 (its batch-norm statistics); the paper gives no accuracy.

    python main.py --config=configs/pgdat_r26.py --workdir=runs/pgdat_r26

Cost: 450,360 steps of 256 images (90 epochs), 2.7e+13 floating-point operations a step, 1.2e+19 in all
(`--mode=dry_run`). `configs/pgdat_r26.py:runlocal` is the same code in miniature, on any CPU.
The authors' code has extras that the paper does not mention: --config.recipe=authors switches them on. Clean images
then pass in train mode too, so the running statistics mix both kinds. Figure 1 probably shows such a net.
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("pgdat", 26, arg)
