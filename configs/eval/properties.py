"""The paper's Table 5 and Figure 6: decision margin, boundary thickness and model smoothness of each image.

    python main.py --mode=evaluate --config=configs/eval/properties.py --workdir=RUN
    python main.py --mode=evaluate --config=configs/eval/properties.py:mbn --workdir=RUN      both branches, one by one

Measured on the images of the first 10 classes, 500 on ImageNet, as in the paper (--config.evaluation.classes=0: all).
docs/evaluation.md gives the definitions. For ResNet-26 the paper has

| net             | margin | thickness | smoothness |
|-----------------|--------|-----------|------------|
| BN (SAT)        | 0.3241 | 17.51     | 4.927      |
| MBN (MBNAT)     | 0.3143 | 13.78     | 1.119      |
| NF (NoFrost)    | 0.4700 | 31.49     | 2.996      |

so expect the rankings NoFrost > SAT > MBNAT in margin and thickness, MBNAT < NoFrost < SAT in smoothness (less is
smoother). Do not expect its values of the thickness: they are greater than the radius in the method's source allows,
and the paper gives neither norm nor radius. `--config.evaluation.properties.ball=training` takes the ball of the
training attack. Nor does the paper say which branch of MBNAT it measured.

The result also has the running statistics of the 15th batch norm (Figure 1), counted in both ways that the paper may
mean.
"""

from configs.eval import suite


def get_config(arg=""):
    """arg: "" or "mbn", which measures a mixture-BN net at gamma 0 and 1."""
    if arg not in ("", "mbn"):
        raise ValueError(f"unknown argument {arg!r} after the config file; choose mbn, or none")
    config = suite.make("properties", {})
    config.evaluation.properties.measure = True
    config.evaluation.classes = 10
    if arg == "mbn":
        config.evaluation.mbn_gammas = (0.0, 1.0)
    return config
