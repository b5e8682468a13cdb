"""DeepAugment (Hendrycks et al., 2021, "The many faces of robustness"): images through nets with distorted weights.

`cae` and `edsr` are the two image-to-image nets, `weights` reads their parameters, `generate` writes distorted copies
of an image folder, `on_device` distorts training crops in groups that share weights, and `noise2net` needs no
published weights at all. `python -m nofrost_jax.data.deepaugment` is the offline generator.
"""
