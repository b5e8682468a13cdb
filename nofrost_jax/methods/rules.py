"""What a training method needs in its config: its own attack, its streams' views, DeepAugment's images."""

from ml_collections import ConfigDict

from nofrost_jax.augment.deepaugment import SOURCES
from nofrost_jax.errors import UserError
from nofrost_jax.fields import require_choice
from nofrost_jax.methods.augmented import TERMS


def check(config: ConfigDict) -> None:
    """Raises UserError for the first of these rules that a resolved config breaks."""
    method = config.method
    if config.model.norm == "mbn" and not (method.name == "at" and 0 < method.adversarial_weight < 1):
        raise UserError(
            "config.model.norm=mbn needs clean and adversarial images: set config.method.name=at and "
            f"config.method.adversarial_weight between 0 and 1, now {method.name}, {method.adversarial_weight}"
        )
    _check_attack(method, config.attack)
    _check_views(config)


def check_micro_batches(config: ConfigDict, shard: int, uses_groups: bool) -> None:
    """Raises UserError unless a device's `shard` images of a step can be cut into `config.accumulate` equal parts, each
    of whole groups if the net `uses_groups` of batch norm."""
    count, group = config.accumulate, config.model.bn_group_size
    if shard % count:
        raise UserError(
            f"config.accumulate={count} does not divide a device's {shard} images of a step; choose one of "
            f"{', '.join(str(number) for number in range(1, shard + 1) if shard % number == 0)}"
        )
    if uses_groups and count > 1 and (group == "global" or shard // count % int(group)):
        most = 1 if group == "global" else max(shard // int(group), 1)
        raise UserError(
            f"config.accumulate={count} makes micro-batches of {shard // count} images, which must be whole groups of "
            f"batch norm (config.model.bn_group_size={group}); lower accumulate, to {most} at most, or the group size"
        )


def views_of(method: ConfigDict) -> tuple[str, ...]:
    """The views of an image that a method's batches hold, in the order of `data.views`."""
    if method.name != "augmented" or method.terms not in TERMS:
        return ("clean",)
    return tuple(name for name in TERMS[method.terms] if name != "adversarial")


def is_adversarial(method: ConfigDict) -> bool:
    """Whether a method attacks images that it trains on."""
    if method.name == "augmented":
        return "adversarial" in TERMS.get(method.terms, ())
    return method.name != "standard" and (method.name != "at" or method.adversarial_weight > 0)


def _check_attack(method, attack):
    """Raises UserError unless a method can use its attack."""
    if method.sum_losses and not (method.name == "at" and 0 < method.adversarial_weight < 1):
        raise UserError(
            "config.method.sum_losses=True adds a clean and an adversarial loss: set config.method.name=at and "
            f"adversarial_weight between 0 and 1, now {method.name}, {method.adversarial_weight}"
        )
    single = {"fast": "epsilon_times:1.25", "free": "epsilon_times:1"}
    if method.name in single and (attack.name, attack.norm, attack.steps) != ("pgd", "linf", 1):
        raise UserError(
            f"config.method.name={method.name} takes one step of its own: set config.attack.name=pgd, norm=linf, "
            f"steps=1 and step_rule={single[method.name]}; now {attack.name}, {attack.norm}, steps={attack.steps}"
        )
    friendly = {"fat": "friendly", "trades_fat": "friendly_kl"}
    needed = {"trades": "pgd_kl", **friendly}.get(method.name, attack.name)
    if attack.name != needed:
        raise UserError(
            f"config.method.name={method.name} needs config.attack.name={needed}, now {attack.name}; the rows of "
            "configs/methods.py set both"
        )
    epochs = list(method.tau_epochs)
    if epochs and (method.name not in friendly or attack.get("tau") is None):
        raise UserError(
            "config.method.tau_epochs is for config.method.name=fat or trades_fat, with a number as config.attack.tau"
        )
    if epochs != sorted(set(epochs)) or not all(isinstance(epoch, int) and epoch > 0 for epoch in epochs):
        raise UserError(f"config.method.tau_epochs={tuple(epochs)} must be whole epochs of 1 or more, ascending")


def _check_views(config):
    """Raises UserError unless the batches hold exactly the views that the method trains on."""
    method, views, section = config.method, tuple(config.data.views), config.deepaugment
    needed = views_of(method)
    if len(set(views)) < len(views) or set(views) != set(needed):
        terms = f" with method.terms={method.terms}" if method.name == "augmented" else ""
        raise UserError(
            f"config.data.views={views} does not fit config.method.name={method.name}{terms}; set it to {needed}"
        )
    sources, folders = tuple(section.sources), tuple(section.folders)
    if not sources or len(set(sources)) < len(sources):
        raise UserError(f"config.deepaugment.sources={sources} must name edsr, cae or both, each once")
    for source in sources:
        require_choice("deepaugment.sources", source, SOURCES)
    distorts = "deepaugment" in views or "augmented" in views
    if distorts and section.mode == "on_device" and (not section.weights or config.data.image_size < 12):
        raise UserError(
            f"config.deepaugment.mode=on_device needs config.deepaugment.weights, now {section.weights!r}, and images "
            f"of 12 pixels or more, now {config.data.image_size}; give files, or random:SEED for untrained weights"
        )
    if not distorts or section.mode != "files":
        return
    for place, source in enumerate(SOURCES):
        if source in sources and not (place < len(folders) and folders[place]):
            raise UserError(
                f"config.deepaugment.folders={folders} has no folder for {source}; give the folders of "
                f"{', '.join(SOURCES)} in this order, e.g. with --config=configs/FILE.py:files=DIR, or leave {source} "
                "out of config.deepaugment.sources"
            )
