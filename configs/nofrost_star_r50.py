"""NoFrost*: NF-ResNet50 on clean, adversarial and augmented images, a third each (Equation 2).

Figure 4 (Section 4.4). Targets: the text gives differences to DeepAugment alone, in points: PGD +16.30,
Square +8.20, ImageNet-R +2.05, ImageNet-C accuracy -3.06.

    python main.py --config=configs/nofrost_star_r50.py --workdir=runs/nofrost_star_r50

Cost: 450,360 steps of 256 images (90 epochs), 6.05e+13 floating-point operations a step, 2.7e+19 in all
(`--mode=dry_run`). `configs/nofrost_star_r50.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from code with the authors' extras: add --config.recipe=authors to aim at it.
The paper's DeepAugment images come from files; without them Noise2Net makes others (configs/common.py):

    --config.data.source=folder:PATH --config.deepaugment.mode=files
    --config.deepaugment.folders="('DIR/edsr', 'DIR/cae')"

The authors' code of NoFrost* has four quarters, EDSR's images alone, 30 epochs, and 255 images a step in three streams,
of which eight GPUs take 80 each; its attack has 20 steps, 10 in its README:

    --config.method.terms=authors --config.epochs=30 --config.batch_size=80 --config.optimizer.learning_rate=0.0996
    --config.optimizer.learning_rate_batch=0
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("nofrost_star", 50, arg)
