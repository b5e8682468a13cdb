"""Training on several views of each image: DeepAugment, TDA, Combine and NoFrost* (the paper's Equation 2).

The loss is the mean of the cross-entropies of some streams, which `method.terms` names:

    deepaugment   clean, deepaugment               DeepAugment (Hendrycks et al., 2021) alone
    tda           tda                              TDA (Hermann et al., 2020) alone
    combine       clean, deepaugment, tda, adversarial
    paper         clean, augmented, adversarial    Equation 2: augmented is either of the two, by the batch's coin
    authors       as combine, DeepAugment's images by EDSR alone: what the code of the paper's authors does

Combine is `combine` on a net with batch norm, NoFrost* is `paper` or `authors` on a normalizer-free net. Only clean
images are attacked. The batch holds the views (`data.views`); what they still lack is added here, on the device.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from ml_collections import ConfigDict

from nofrost_jax import attacks, keys
from nofrost_jax.augment import noise2net, tda
from nofrost_jax.augment.deepaugment import on_device, weights
from nofrost_jax.classifier import normalize, to_float
from nofrost_jax.data.views import has_deepaugment, origins_of_trees
from nofrost_jax.methods.base import Loss, Optimizer, Step, gradient_step
from nofrost_jax.methods.streams import weighted_loss

TERMS = {  # method.terms of `augmented`: the streams whose losses are averaged, in the order of their forwards
    "deepaugment": ("clean", "deepaugment"),
    "tda": ("tda",),
    "combine": ("clean", "deepaugment", "tda", "adversarial"),
    "paper": ("clean", "augmented", "adversarial"),  # augmented: deepaugment or tda, by a coin for each image
    "authors": ("clean", "deepaugment", "tda", "adversarial"),
}


def make_step(model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None) -> Step:
    """A train-mode forward and backward per image for each stream, and the attack's passes if one is adversarial."""
    return gradient_step(make_loss(model, config, attacks.create(**config.attack)), optimizer, config)


def make_loss(model: nn.Module, config: ConfigDict, attack: attacks.Attack) -> Loss:
    """The mean of the streams' losses; `attack` makes the adversarial one, and sees the statistics of all others."""
    names, nets = TERMS[config.method.terms], load_nets(config)

    def make_stream(name, batch, image_keys):
        return stream(name, config, nets, batch, image_keys)

    return weighted_loss(model, config, attack, dict.fromkeys(names, 1 / len(names)), make_stream)


def load_nets(config: ConfigDict) -> dict[str, Any]:
    """{net: parameters} of those that distort images on the device; {} in the other modes. Raises UserError."""
    if not has_deepaugment(config) or config.deepaugment.mode != "on_device":
        return {}
    return weights.load(config.deepaugment.weights, tuple(config.deepaugment.sources))


def stream(name: str, config: ConfigDict, nets: dict[str, Any], batch: dict[str, Array], image_keys: Array) -> Array:
    """The images [N, H, W, 3] of one stream: clean ones in [0, 1], or distorted on the device."""
    if name == "clean":
        return to_float(batch["image"])
    if name == "deepaugment":
        return deepaugment(config, nets, to_float(batch["deepaugment"]), image_keys)
    if name == "tda":
        return textures_removed(config, to_float(batch["tda"]), image_keys)
    images, chosen = to_float(batch["augmented"]), batch["is_deepaugment"]
    textures = textures_removed(config, images, image_keys)
    return jnp.where(chosen[:, None, None, None], deepaugment(config, nets, images, image_keys, chosen), textures)


def deepaugment(
    config: ConfigDict, nets: dict[str, Any], images: Array, image_keys: Array, chosen: bool | Array = True
) -> Array:
    """DeepAugment's view of images in [0, 1]: distorted beforehand, or here by the `nets` or by Noise2Net.

    Each image takes one of several nets by its own key. Noise2Net works on normalized pixels and does not clip, so its
    images can leave [0, 1]. chosen: bool [N], or True for all; the others stay as they are.
    """
    section, chosen = config.deepaugment, jnp.broadcast_to(chosen, len(images))
    if section.mode == "files":
        return images
    if section.mode == "on_device":
        net_keys = keys.named(image_keys, "on_device")
        pick = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(nets)))(keys.named(image_keys, "network"))
        for number, (network, params) in enumerate(nets.items()):
            options = {"network": network, "group": section.group, "chosen": chosen & (pick == number)}
            images = on_device.distort(images, net_keys, params, **options)
        return images
    mean, std = (jnp.asarray(values, images.dtype) for values in (config.data.mean, config.data.std))
    net_keys = keys.named(image_keys, "noise2net")
    return noise2net.apply(normalize(images, mean, std), net_keys, maximum=section.maximum, chosen=chosen) * std + mean


def textures_removed(config: ConfigDict, images: Array, image_keys: Array) -> Array:
    """TDA's view of images in [0, 1]: colours, then blur and noise if they are on."""
    images = tda.colours(images, keys.named(image_keys, "tda colours"))
    if config.method.tda_blur:
        images = tda.blur(images, keys.named(image_keys, "tda blur"), config.method.tda_blur)
    if config.method.tda_noise:
        images = tda.noise(images, keys.named(image_keys, "tda noise"), config.method.tda_noise)
    return images


def passes(config: ConfigDict) -> tuple[int, int, int]:
    """(forwards, backwards to the image, backwards to the parameters) per training image."""
    names = TERMS[config.method.terms]
    forward, backward = (0, 0)
    if "adversarial" in names:
        forward, backward = attacks.create(**config.attack).passes(config.model.num_classes)
    return forward + len(names), backward, len(names)


def view_flops(config: ConfigDict) -> float:
    """Mean floating-point operations (a multiply-add counts two) to distort one training image's views on the device;
    0 without DeepAugment."""
    if not has_deepaugment(config) or config.deepaugment.mode == "files":
        return 0
    each = noise2net.MULTIPLY_ADDS
    if config.deepaugment.mode == "on_device":
        nets = tuple(config.deepaugment.sources)
        each = sum(on_device.MULTIPLY_ADDS[net] for net in nets) / len(nets)
        each *= 0.5 if "augmented" in config.data.views else 1  # the coin leaves half of the images out
    return 2 * each * config.data.image_size**2


def notes(config: ConfigDict) -> list[str]:
    """Where DeepAugment's images come from, if not from where the paper's do."""
    if not has_deepaugment(config):
        return []
    nets = " and ".join(config.deepaugment.sources)
    if config.deepaugment.mode == "files":
        origins = [f"{source}'s by {how}" for source, how in origins_of_trees(config).items()]
        return [f"DeepAugment: files of {nets}; {'; '.join(origins)}"]
    if config.deepaugment.mode == "on_device":
        return [
            f"DeepAugment: {nets} on the device, on training crops, with the weights {config.deepaugment.weights}; the "
            "paper distorts whole images, beforehand"
            + "; which images share a set of weights depends on the number of devices and on config.accumulate"
            * (config.deepaugment.group > 1)
        ]
    return [
        "DeepAugment: Noise2Net, random nets on the device; the paper's images by EDSR and CAE need "
        "config.deepaugment.mode=files and folders"
    ]
