"""FreeAT (Shafahi et al., 2019): ResNet50 with batch norm, each batch four times, with noise that carries over.

Table 7. Targets in %: clean 64.45, PGD-10 43.52, PGD-50 43.39 at eps 2/255; clean 60.21, PGD-10 32.77, PGD-50 31.88
at eps 4/255 (`--config=configs/eval/small_epsilon.py`).

    python main.py --config=configs/freeat_r50.py:epsilon_255=4 --workdir=runs/freeat_r50_eps4

Cost: 115,092 steps of 256 images (23 epochs), 3.25e+13 floating-point operations a step, 3.7e+18 in all
(`--mode=dry_run`). One backward pass gives both gradients, so this is an upper bound.
`configs/freeat_r50.py:runlocal` is the same code in miniature, on any CPU.
Those numbers are probably of the published model. Its authors trained it for the same 23 epochs and divided the rate by
10 every 8 epochs: `configs/freeat_r50.py:official,epsilon_255=4`. The code of NoFrost's authors is
--config.recipe=authors.
"""

from configs import common, methods


def get_config(arg=""):
    word, _, rest = arg.partition(",")
    if word != "official":
        return methods.imagenet("freeat", 50, arg)
    config = methods.imagenet("freeat", 50)
    config.optimizer.schedule, config.optimizer.weight_decay = "decay", 1e-4
    return common.with_arg(config, rest)
