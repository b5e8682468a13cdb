"""DeepAugment (Hendrycks et al., 2021, "The many faces of robustness"): images through nets with distorted weights.

`cae` and `edsr` are the two image-to-image nets, `weights` reads their parameters, `on_device` distorts training crops
in groups that share weights; `augment/noise2net.py` needs no published weights.
`python -m nofrost_jax.tools.deepaugment` writes distorted copies of an image folder.
"""

SOURCES = ("edsr", "cae")  # the nets whose images `config.deepaugment.folders` hold, in its order
