"""From images in [0, 1] to logits: a Linen model, its variables, and the normalization between them."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import models
from nofrost_jax.attacks import inputs
from nofrost_jax.errors import UserError
from nofrost_jax.models.layers import BRANCHES, Mixture

INTERPOLATIONS = ("logits", "all", "random")  # of the two branches of a mixture-BN net
WEIGHTS = "branch_weights"  # added to the variables of a mixture-BN net by `at_gamma`


def normalize(images: jax.Array, mean: Sequence[float] | jax.Array, std: Sequence[float] | jax.Array) -> jax.Array:
    """(images - mean) / std per channel; images [N, H, W, 3] in [0, 1], mean and std three floats on the same scale."""
    return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] images to float32 [0, 1]; float images stay as they are."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def create_model(model_config: ConfigDict, axis_name: str | None = None, **overrides: Any) -> nn.Module:
    """The Linen model of a config's `model` section, where `bn_group_size` is a number in a string, or "global"."""
    options = {**dict(model_config), "stage_sizes": tuple(model_config.stage_sizes), **overrides}
    group = options["bn_group_size"]
    options["bn_group_size"] = 0 if group == "global" else int(group)
    try:
        return models.create(options.pop("name"), axis_name=axis_name, **options)
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error


def check_net(config: ConfigDict) -> None:
    """Raises UserError if the net cannot take images of the config's size. Only shapes are computed."""
    model, size = create_model(config.model), config.data.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    variables = models.abstract_variables(model, size)
    jax.eval_shape(lambda variables, images: model.apply(variables, images, train=False), variables, images)


def mixture_layers(batch_stats: dict[str, Any]) -> list[str]:
    """Sorted names of the mixture-BN layers in a tree of statistics, e.g. "stage1_block1/norm1"."""
    paths = flax.traverse_util.flatten_dict(batch_stats)
    return sorted({"/".join(path[:-2]) for path in paths})  # without the branch and the statistic


def mixed_layers(names: Iterable[str], interpolation: str, p: float = 0.5, seed: int = 0) -> frozenset[str]:
    """Which of the layers `names` mix the outputs of both norms: none for "logits", every one for "all", and
    round(p * len(names)), drawn by `seed`, for "random". Raises UserError for other values."""
    if interpolation not in INTERPOLATIONS:
        raise UserError(f"interpolation={interpolation!r} is unknown; choose one of {', '.join(INTERPOLATIONS)}")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise UserError(f"seed={seed!r}, which draws the layers that mix, must be a whole number of 0 or more")
    if not isinstance(p, (int, float, np.number)) or not 0 <= p <= 1:
        raise UserError(f"p={p!r}, a share of the layers, must be a number between 0 and 1")
    names = sorted(names)
    if interpolation == "random":
        drawn = np.random.default_rng(seed).permutation(len(names))
        names = [names[i] for i in drawn[: round(p * len(names))]]
    return frozenset(() if interpolation == "logits" else names)


def at_gamma(variables: dict[str, Any], gamma: float) -> dict[str, Any]:
    """The variables of a mixture-BN net at a weight of the adversarial branch, for `logits_fns`.

    Between 0 and 1 they contain `branch_weights`, float32 [2]. At 1 they are as before, for the adversarial branch
    alone; at 0 the two branches are swapped. So one program serves every gamma in between, and one serves both ends.
    """
    if gamma == 1:
        return variables
    if gamma != 0:
        return {**variables, WEIGHTS: np.array([1 - gamma, gamma], np.float32)}
    other = dict(zip(BRANCHES, reversed(BRANCHES), strict=True))
    flat = flax.traverse_util.flatten_dict(variables)
    return flax.traverse_util.unflatten_dict(
        {tuple(other.get(part, part) for part in path): leaf for path, leaf in flat.items()}
    )


def logits_fns(config: ConfigDict) -> dict[str, Callable[[Any, jax.Array], jax.Array]]:
    """{dtype: `logits_fn(variables, images)`} of a config's net in evaluation mode: float32, and the attacks' dtype.

    variables: of `at_gamma`; images: float32 [N, H, W, 3], known to be in [0, 1]. Logits are float32.
    """
    section = config.evaluation
    options = {name: section[f"mbn_{name}"] for name in ("interpolation", "p", "seed")}

    def make(dtype):
        fields = create_model(config.model, dtype=dtype), tuple(config.data.mean), tuple(config.data.std)
        return lambda variables, images: Classifier(variables, *fields, **options, inputs_are_checked=True)(images)

    return {dtype: make(dtype) for dtype in ("float32", section.attack_dtype)}


def frozen(model: nn.Module, variables: dict[str, Any]) -> dict[str, Any]:
    """`variables` for many passes that do not change them: kernels are standardized once, on the host."""
    return {**variables, "params": model.frozen(jax.device_get(variables["params"]))}


@dataclasses.dataclass(frozen=True)
class Origin:
    """What is known of a loaded net beside its numbers. All are equal: nets of one kind share their programs."""

    class_names: tuple[str, ...] | None = dataclasses.field(default=None, compare=False)
    config: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)


@flax.struct.dataclass(eq=False)  # compared by identity, so that it can be a static argument of jit
class Classifier:
    """A function of images in [0, 1], in evaluation mode: `logits = classifier(images)`.

    A pytree whose leaves are the variables, so that it can be an argument of a jitted function. The other fields are
    for mixture-BN nets (paper, Appendix A): (1 - gamma) clean + gamma adversarial branch, mixed at the "logits"
    (Merchant et al., 2020), with interpolation "all" also at every normalization, with "random" at a share p of them
    drawn by seed. With gamma 0 and 1 one branch is used alone.

    inputs_are_checked: the caller guarantees valid images (`attacks/inputs.py`), as training steps do.
    """

    variables: Any
    model: Any = flax.struct.field(pytree_node=False)
    mean: tuple = flax.struct.field(pytree_node=False)
    std: tuple = flax.struct.field(pytree_node=False)
    gamma: float = flax.struct.field(pytree_node=False, default=1.0)
    interpolation: str = flax.struct.field(pytree_node=False, default="logits")
    p: float = flax.struct.field(pytree_node=False, default=0.5)
    seed: int = flax.struct.field(pytree_node=False, default=0)
    inputs_are_checked: bool = flax.struct.field(pytree_node=False, default=False)
    origin: Origin = flax.struct.field(pytree_node=False, default=Origin())

    def __repr__(self) -> str:
        """One line, instead of every parameter."""
        kind, classes = type(self.model).__name__, self.model.num_classes
        return f"Classifier({kind}, {classes} classes, {self.parameter_count:,} parameters)"

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits, float32 [N, K], of images [N, H, W, 3]: float in [0, 1], or uint8.

        Raises ValueError for other dtypes, shapes and pixels; under jit the logits of an image with pixels outside [0,
        1] are NaN. Raises UserError for wrong fields of a mixture-BN net.
        """
        images, fine = inputs.read(images, len(self.mean), self.inputs_are_checked)
        return inputs.nan_unless(fine, self._logits(normalize(images, self.mean, self.std)))

    def logits(self, images: jax.Array) -> jax.Array:
        """The same as calling the classifier."""
        return self(images)

    def _logits(self, images):
        if not self.model.has_branches:
            return self.model.apply(self.variables, images, train=False)
        gamma = self.gamma
        if not isinstance(gamma, (int, float, np.number)) or not 0 <= gamma <= 1:
            raise UserError(f"gamma={gamma!r}, the adversarial branch's weight, must be a number between 0 and 1")
        mixed = mixed_layers(mixture_layers(self.variables["batch_stats"]), self.interpolation, self.p, self.seed)
        variables = dict(self.variables)
        if WEIGHTS in variables:
            weights = tuple(variables.pop(WEIGHTS))
        elif gamma in (0, 1):
            return self.model.apply(variables, images, train=False, branch=BRANCHES[int(gamma)])
        else:
            weights = (1 - gamma, gamma)
        mixture = Mixture(weights, mixed)
        both = self.model.apply(variables, jnp.concatenate([images, images]), train=False, branch=mixture)
        return mixture.sum(*jnp.split(both, 2))

    def predict(self, images: jax.Array) -> jax.Array:
        """Class indices, int32 [N]; -1 where a logit is NaN."""
        logits = self(images)
        return jnp.where(jnp.isnan(logits).any(axis=-1), -1, jnp.argmax(logits, axis=-1))

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the labels, or None if they are not known."""
        return self.origin.class_names

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config of a loaded net, as plain dicts."""
        return self.origin.config

    @property
    def provenance(self) -> dict[str, Any]:
        """Where a loaded net is from, a plain dict: source, step, params_sha256; of a file of weights its file_sha256,
        from the hub repository and revision."""
        return self.origin.provenance

    @property
    def parameter_count(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.variables["params"]))
