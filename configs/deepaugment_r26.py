"""DeepAugment (Hendrycks et al., 2021): ResNet26 with batch norm, half clean and half distorted images.

Figure 3 (Section 4.4). Targets: the text gives none. The shares are inferred, the paper is
silent.

    python main.py --config=configs/deepaugment_r26.py --workdir=runs/deepaugment_r26

Cost: 450,360 steps of 256 images (90 epochs), 7.8e+12 floating-point operations a step, 3.5e+18 in all
(`--mode=dry_run`). `configs/deepaugment_r26.py:runlocal` is the same code in miniature, on any CPU.
The figure comes from code with the authors' extras: add --config.recipe=authors to aim at it.
The paper's DeepAugment images come from files; without them Noise2Net makes others (configs/common.py):

    --config.data.source=folder:PATH --config.deepaugment.mode=files
    --config.deepaugment.folders="('DIR/edsr', 'DIR/cae')"
"""

from configs import methods


def get_config(arg=""):
    return methods.imagenet("deepaugment", 26, arg)
