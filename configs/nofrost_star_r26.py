"""NoFrost*: NF-ResNet26 on clean, adversarial and augmented images, a third each (Equation 2).

Figure 3 (Section 4.4). Targets: the text gives none. The best of six methods on
ImageNet-C, -R, -Sketch, PGD and Square.

    python main.py --config=configs/nofrost_star_r26.py --workdir=runs/nofrost_star_r26

Cost: 450,360 steps of 256 images (90 epochs), 3.53e+13 floating-point operations a step, 1.6e+19 in all
(`--mode=dry_run`). `configs/nofrost_star_r26.py:runlocal` is the same code in miniature, on any CPU.
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
    return methods.imagenet("nofrost_star", 26, arg)
