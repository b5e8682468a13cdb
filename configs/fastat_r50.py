r"""FastAT (Wong et al., 2020): ResNet50 with batch norm, one large step from a random start.

Table 7. Targets in %: clean 60.90, PGD-10 44.27, PGD-50 44.20 at eps 2/255; clean 55.45, PGD-10 32.10, PGD-50 31.67
at eps 4/255 (`--config=configs/eval/small_epsilon.py`).

    python main.py --config=configs/fastat_r50.py:epsilon_255=4 --workdir=runs/fastat_r50_eps4

Cost: 450,360 steps of 256 images (90 epochs), 1.02e+13 floating-point operations a step, 4.6e+18 in all
(`--mode=dry_run`). `configs/fastat_r50.py:runlocal` is the same code in miniature, on any CPU.
Those numbers are probably of the published model. Its authors trained it for 15 epochs in three phases. Here each phase
is a run that starts from the one before (with zero momentum; theirs continues). The code of NoFrost's authors is
--config.recipe=authors.

    python main.py --config=configs/fastat_r50.py:official_1,epsilon_255=4 --workdir=runs/fastat_1
    python main.py --config=configs/fastat_r50.py:official_2,epsilon_255=4 --workdir=runs/fastat_2 \
        --config.start_from=runs/fastat_1
    python main.py --config=configs/fastat_r50.py:official_3,epsilon_255=4 --workdir=runs/fastat_3 \
        --config.start_from=runs/fastat_2

As in FastAT's code, the first two phases crop from images whose short side is 160 and 352 (bicubic), and the net is
evaluated on the central 288 pixels of images as they are, with black borders if they are smaller. Differences: float32
here, mixed precision (O1) there; the evaluations of the first two phases resize with the bilinear filter.
"""

from configs import common, methods

PHASES = {  # crop, short side before it (0: no resize), batch, images normalized together (eight devices divide all of
    # these), number of epochs, then the epochs at which the rate is a share of its peak 0.4, and these shares
    "official_1": (128, 160, 512, "32", 6, (0.0, 1.0, 6.0), (0.0, 1.0, 0.1)),
    "official_2": (224, 352, 224, "28", 6, (0.0, 6.0), (0.1, 0.01)),
    "official_3": (288, 0, 128, "16", 3, (0.0, 3.0), (0.01, 0.001)),
}


def get_config(arg=""):
    phase, _, rest = arg.partition(",")
    if phase not in PHASES:
        return methods.imagenet("fastat", 50, arg)
    config = methods.imagenet("fastat", 50)
    data, optimizer = config.data, config.optimizer
    data.image_size, side, config.batch_size, group, config.epochs, epochs, shares = PHASES[phase]
    data.train_resize, data.eval_resize, data.eval_pad = side, side, side == 0
    config.model.bn_group_size = group
    optimizer.schedule, optimizer.point_epochs, optimizer.point_shares = "points", epochs, shares
    optimizer.learning_rate, optimizer.learning_rate_batch = 0.4, 0
    optimizer.weight_decay, optimizer.decay_gains_and_biases = 1e-4, False
    config.evaluation.every_epochs = 0
    return common.with_arg(config, rest)
