"""From images in [0, 1] to logits: a Linen model, its variables, and the normalization between them."""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from nofrost_jax import models


def normalize(images, mean, std):
    """(images - mean) / std per channel; images [N, H, W, 3] in [0, 1], mean and std three floats on the same scale."""
    return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)


def to_float(images):
    """uint8 [0, 255] images to float32 [0, 1]; float images pass."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def create_model(model_config, axis_name=None, **overrides):
    """The Linen model of a config's `model` section. `bn_group_size` there is a number in a string, or "global"."""
    options = {**dict(model_config), "stage_sizes": tuple(model_config.stage_sizes), **overrides}
    group = options["bn_group_size"]
    options["bn_group_size"] = 0 if group == "global" else int(group)
    return models.create(options.pop("name"), axis_name=axis_name, **options)


@flax.struct.dataclass
class Classifier:
    """A function of images in [0, 1], in evaluation mode: `logits = classifier(images)`.

    A pytree (variables are leaves), so that it travels through jit as an argument. mbn_gamma weighs the two branches of
    a mixture-BN net at the logits, (1 - gamma) clean + gamma adversarial (paper, Appendix A; Merchant et al., 2020).
    """

    variables: Any
    model: Any = flax.struct.field(pytree_node=False)
    mean: tuple = flax.struct.field(pytree_node=False)
    std: tuple = flax.struct.field(pytree_node=False)
    mbn_gamma: float = flax.struct.field(pytree_node=False, default=1.0)

    def __call__(self, images):
        """Logits, float32 [N, K], of images [N, H, W, 3]: float in [0, 1], or uint8."""
        inputs = normalize(to_float(images), self.mean, self.std)
        if not self.model.has_branches:
            return self.model.apply(self.variables, inputs, train=False)
        weights = {"clean": 1 - self.mbn_gamma, "adversarial": self.mbn_gamma}
        return sum(
            weight * self.model.apply(self.variables, inputs, train=False, branch=branch)
            for branch, weight in weights.items()
            if weight
        )

    def predict(self, images):
        """Class indices, int32 [N]."""
        return jnp.argmax(self(images), axis=-1)

    @property
    def parameter_count(self):
        return sum(leaf.size for leaf in jax.tree.leaves(self.variables["params"]))
