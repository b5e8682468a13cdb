"""What all attacks share: the call, the result, and how the work is split into stages."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from nofrost_jax.attacks import inputs, threat
from nofrost_jax.attacks.inputs import LogitsFn

STEPPED = {"epsilon": float, "steps": int}  # the `NUMBERS` of attacks that take steps


class AttackResult(NamedTuple):
    """Adversarial images [N, H, W, C], and how many forward and backward passes each image took (int32 [N]).

    The passes are the attack's own, without the clean prediction that selects images and the forward that verifies the
    result. zero_gradient (bool [N]): the first gradient was all zeros; False if the attack uses no gradients.
    """

    images: jax.Array
    forwards: jax.Array
    backwards: jax.Array
    zero_gradient: jax.Array


class State(NamedTuple):
    """A batch between two stages of an attack; every leaf has one row for each image.

    images: the adversarial image, or the clean image until there is one. done: such rows are still computed, but change
    nothing and count no passes. carry: what this attack keeps from stage to stage.
    """

    images: jax.Array
    done: jax.Array
    forwards: jax.Array
    backwards: jax.Array
    zero_gradient: jax.Array
    carry: Any = ()


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack is a frozen dataclass of numbers that is called; subclasses define `stage`, and maybe `carry`.

    The work is split into stages of fixed shapes (a restart, a target class, some hundred queries). Calling the attack
    loops over them on the device; an evaluation calls `begin` and `stage` itself, to drop images that are fooled. An
    image's outcome depends on its own pixels, label and key alone. The fields in `NUMBERS` may be traced scalars.
    """

    NUMBERS: ClassVar[dict[str, type]] = {"epsilon": float}

    epsilon: float | Array = 8 / 255

    @property
    def min_classes(self) -> int:
        """How many classes it needs."""
        return 2

    @property
    def attacks_misclassified(self) -> bool:
        """Whether images that are misclassified anyway are attacked, too."""
        return False

    @property
    def family(self) -> tuple[tuple[type["Attack"], tuple], dict[str, float]]:
        """((type, other fields), numbers), where `type(**dict(other fields), **numbers)` is this attack.

        One program, with the numbers as its arguments, serves all attacks of equal type and other fields. As arguments
        numbers are float32: steps may be rounded otherwise in their last bit.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        numbers = {name: kind(fields.pop(name)) for name, kind in self.NUMBERS.items()}
        return (type(self), tuple(fields.items())), numbers

    def __call__(
        self, logits_fn: LogitsFn, images: Array, labels: Array, keys: Array, active: Array | None = None
    ) -> AttackResult:
        """Attacks `images` of `labels`. Jit-able.

        logits_fn: any JAX function from images in [0, 1] to logits, float [N, K], in evaluation mode (no image's logits
        depend on another image). images: float32 or float64 [N, H, W, C] in [0, 1]. labels: int [N], 0 to K - 1. keys:
        N typed PRNG keys. active: bool [N], which images to attack; the others are returned as they are, with zero
        passes. Default: all if `attacks_misclassified`, otherwise those that are classified correctly.

        The result's images are the clean ones where no adversarial image was found, except for attacks that return
        their last iterate, like PGD. Raises ValueError for wrong shapes, dtypes or values; under jit the result's image
        is NaN where values are out of range (`inputs`).
        """
        images, labels = inputs.as_array(images, "images"), inputs.as_array(labels, "labels")
        active = None if active is None else inputs.as_array(active, "active")
        inputs.check_arguments(images, labels, keys, active)
        if not len(images):
            nothing = jnp.zeros(0, jnp.int32)
            return AttackResult(images, nothing, nothing, jnp.zeros(0, bool))
        classes = inputs.count_classes(logits_fn, images)
        self.check_classes(classes)
        fine, radius = None, self.epsilon
        if isinstance(radius, jax.Array):  # of a sweep, maybe traced
            self = dataclasses.replace(self, epsilon=radius.astype(images.dtype))
        if not getattr(logits_fn, "inputs_are_checked", False):
            greatest = threat.greatest(getattr(self, "norm", "linf"))
            fine = inputs.good(images, labels, classes, active, radius, greatest)
        if active is None:
            active = jnp.full(len(images), True) if self.attacks_misclassified else right(logits_fn, images, labels)
        state, count = self.begin(images, active), self.stages(classes)

        def stage(index, state):
            return self.stage(logits_fn, images, labels, keys, state, index)

        if count == 1:
            state = stage(jnp.int32(0), state)
        else:
            _, state = jax.lax.while_loop(
                lambda loop: (loop[0] < count) & ~jnp.all(loop[1].done),
                lambda loop: (loop[0] + 1, stage(*loop)),
                (jnp.int32(0), state),
            )
        found = inputs.nan_unless(fine, state.images)
        result = AttackResult(found, state.forwards, state.backwards, state.zero_gradient)
        return jax.lax.stop_gradient(result)

    def begin(self, images: Array, active: Array) -> State:
        """The State before the first stage. The model is not called."""
        none = jnp.zeros(len(images), jnp.int32)
        return State(images, ~active, none, none, jnp.zeros(len(images), bool), self.carry(images))

    def carry(self, images: Array) -> Any:
        """What this attack keeps between stages, before the first one: a pytree of arrays with a row for each image."""
        return ()

    def stages(self, num_classes: int) -> int:
        """How many stages there are at most."""
        return 1

    def stage(
        self, logits_fn: LogitsFn, images: Array, labels: Array, keys: Array, state: State, index: Array
    ) -> State:
        """Stage number `index` (int32 scalar, the same for all rows) of the rows that are not done."""
        raise NotImplementedError

    def passes(self, num_classes: int) -> tuple[int, int]:
        """(forwards, backwards) of an image that survives every stage: the most that an image can cost."""
        raise NotImplementedError

    def check_classes(self, num_classes: int) -> None:
        """Raises ValueError if the attack needs more classes than there are."""
        if num_classes < self.min_classes:
            raise ValueError(f"{self} needs {self.min_classes} classes or more, not {num_classes}")


def update(
    state: State,
    images: Array,
    *,
    found: bool | Array,
    done: bool | Array,
    forwards: int | Array,
    backwards: int | Array,
    zero_gradient: bool | Array = False,
    carry: Any = None,
) -> State:
    """`state` after a stage: rows that were done before stay as they are.

    images: candidates [N, H, W, C], kept where `found`. forwards, backwards: passes of this stage, int or int32 [N].
    """
    live = ~state.done
    keep = live & found
    carry = state.carry if carry is None else jax.tree.map(lambda new, old: select(live, new, old), carry, state.carry)
    return State(
        images=select(keep, images, state.images),
        done=state.done | done,
        forwards=state.forwards + jnp.where(live, forwards, 0).astype(jnp.int32),
        backwards=state.backwards + jnp.where(live, backwards, 0).astype(jnp.int32),
        zero_gradient=state.zero_gradient | (live & zero_gradient),
        carry=carry,
    )


def select(condition: Array, new: Array, old: Array) -> Array:
    """`new` in the rows where `condition` [N] holds, else `old`; arrays with N rows of any shape."""
    return jnp.where(condition.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def right(logits_fn: LogitsFn, images: Array, labels: Array) -> Array:
    """bool [N]: the label has the greatest logit, the first of equals."""
    return jnp.argmax(logits_fn(images), axis=-1) == labels


def all_zero(gradients: Array) -> Array:
    """bool [N]: every component of the image's gradient is exactly zero."""
    return jnp.all(gradients == 0, axis=tuple(range(1, gradients.ndim)))


def fold(keys: Array, number: int | Array) -> Array:
    """One key for each image and restart, target or query `number`."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def evaluate(logits_fn: LogitsFn, loss: Callable[[Array], Array], points: Array) -> tuple[Array, Array, Array]:
    """(logits, losses [N], gradients) at `points`; `loss` maps logits to one number for each image.

    Components of the gradient that are not finite become 0, so that overflow does not put NaN into images.
    """

    def total(points):
        logits = logits_fn(points)
        values = loss(logits)
        return jnp.sum(values), (logits, values)

    gradients, (logits, values) = jax.grad(total, has_aux=True)(points)
    return logits, values, jnp.where(jnp.isfinite(gradients), gradients, 0)
