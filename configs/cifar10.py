"""Rows of the paper on CIFAR-10, with a ResNet-26 of half the width and a stem for small images.

    python main.py --config=configs/cifar10.py:sat --workdir=runs/cifar10_sat                   tfds:cifar10
    python main.py --config=configs/cifar10.py:sat --workdir=runs/cifar10_sat --config.data.source=folder:PATH

PATH holds train/CLASS/*.png and test/CLASS/*.png (or JPEG); then TensorFlow is not needed. After the colon comes a row
of configs/methods.py; without it the row is NoFrost. `:sat,epsilon_255=4` changes the radius. The paper's tables have
no CIFAR-10.
"""

from configs import common, methods


def get_config(arg="nofrost"):
    config = common.get_config()
    config.model.name = "resnet26"
    config.model.num_classes = 10
    config.model.stem = "small"
    config.model.width = 0.5

    config.data.source = "tfds:cifar10"
    config.data.eval_split = "test"
    config.data.image_size, config.data.eval_resize = 32, 0
    config.data.augmentation = "pad_crop_flip"
    config.data.mean, config.data.std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

    config.batch_size, config.epochs = 128, 30
    config.model.bn_group_size = "global"
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.agc = 0.08  # NF nets need it at high rates; every row has it

    rows = {
        "pgd_20": common.pgd_20(step_rule="madry", protocol="demonstration"),
        "apgd_ce_20": common.attack("apgd_ce", "demonstration", steps=20),
        "aa_fast_20": common.attack("aa_fast_20", "aa_fast_20"),
        "aa_standard": common.attack("aa_standard", "aa_standard"),
    }
    for entry in rows.values():
        entry.limit = 0  # attack only so many images, spread evenly over the classes; 0 = all
    config.evaluation.attacks = rows
    config.evaluation.every_epochs = 5
    config.evaluation.batch_size = 500
    config.checkpoint.every_steps = 391
    config.log.every_steps = 50
    row, _, rest = arg.partition(",")
    return common.with_arg(methods.apply(config, row or "nofrost"), rest)
