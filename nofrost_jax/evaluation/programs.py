"""The compiled programs of an evaluation: one stage of an attack, and the forward pass that decides. One shape each."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nofrost_jax import compiled, keys
from nofrost_jax.analysis.properties import Properties
from nofrost_jax.attacks import Attack, threat
from nofrost_jax.attacks.base import State
from nofrost_jax.evaluation.protocols import Member
from nofrost_jax.parallel import Devices

ATTACK_DTYPES = ("float32", "bfloat16")
_PIXELS = np.arange(256, dtype=np.float32) / np.float32(255)


def to_pixels(images: jax.Array) -> jax.Array:
    """uint8 images as float32 in [0, 1], the same bits in every program: compilers divide by 255 in several ways. Float
    images pass."""
    return jnp.asarray(_PIXELS)[images.astype(jnp.int32)] if images.dtype == jnp.uint8 else images


def rounded(adversarial: jax.Array, images: jax.Array, linf: float, l2: float) -> jax.Array:
    """Adversarial images rounded to pixel values 0 to 255, float32, within the ball. In l-infinity its radius is cut to
    whole pixel values. In l2 an image that would leave it when rounded to the nearest is rounded towards the clean one.

    adversarial: [N, H, W, C] in [0, 1]. images: uint8, or float in [0, 1]. linf, l2: radii in pixel values, infinite
    for the other norm.
    """
    images = images if images.dtype == jnp.uint8 else 255 * images
    nearest, changes = jnp.round(adversarial * 255), adversarial * 255 - images
    towards = jnp.where(changes > 0, jnp.floor(adversarial * 255), jnp.ceil(adversarial * 255))
    whole = jnp.where(threat.lengths(nearest - images) <= l2, nearest, towards)
    return jnp.clip(whole, jnp.maximum(jnp.ceil(images - linf), 0), jnp.minimum(jnp.floor(images + linf), 255))


class _Vouched(functools.partial):
    """A logits function whose images are known to be valid."""

    inputs_are_checked = True


class Programs:
    """Runs stages and verdicts on batches of `batch_size` images over this process's devices; compiles each once.

    logits_fns: {dtype: `logits_fn(variables, images)`}, of float32 images [N, H, W, C] in [0, 1] whose values need no
    check; variables: any pytree of arrays, so that a program serves all of one structure. The verdict is a float32
    forward pass at highest matmul precision, apart from any attack. In stages the net computes in the member's dtype;
    images, gradients and losses are always float32. freeze: what `ready` makes of variables.
    """

    def __init__(
        self,
        logits_fns: dict[str, Callable],
        num_classes: int,
        devices: Devices,
        batch_size: int,
        freeze: Callable[[Any], Any] = lambda variables: variables,
    ):
        self.devices, self.batch_size, self._freeze = devices, batch_size, freeze
        self.say: Callable[[str], None] = print
        self._logits_fns, self.num_classes = logits_fns, num_classes
        self._compiled = {}
        self._to_pixels = devices.map_images(lambda _, images: to_pixels(images), compiled.options())
        self.compile_seconds = {}

    @property
    def total_compile_seconds(self) -> float:
        return sum(self.compile_seconds.values())

    def ready(self, variables: Any) -> Any:
        """`variables` as the other methods take them: on the devices, with all that need not be computed again."""
        return self.devices.replicate(self._freeze(variables))

    def predict(self, variables: Any, batch: dict, allowed: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What the net says of the images themselves, where it may only answer classes of `allowed`, bool [K].

        {"logits": float32 as they are, "correct", "nan"}: NumPy, with padding.
        """
        images = self._to_pixels((), self.devices.place(batch["image"]))
        found, _ = self._answer(variables, batch, images, allowed)
        return jax.device_get({name: found[name] for name in ("logits", "correct", "nan")})

    def verdict(
        self, variables: Any, batch: dict, adversarial: jax.Array, ball: tuple[str, float]
    ) -> dict[str, np.ndarray]:
        """What the net says of adversarial images (device array).

        {"correct", "nan", "linf_255", "l2_255", "in_range", "correct_uint8"}: NumPy, with padding. ball: (norm, radius
        in pixel values). correct_uint8: still right when the pixels are `rounded`. What is not finite is not correct.
        """
        found, whole = self._answer(variables, batch, adversarial, ball=ball)
        again, _ = self._answer(variables, batch, self._to_pixels((), whole), ball=ball)
        found = {name: value for name, value in found.items() if name != "logits"}
        found, right = jax.device_get((found, again["correct"]))
        return found | {"correct_uint8": right & ~found["nan"]}

    def _answer(
        self, variables: Any, batch: dict, adversarial: jax.Array, allowed: Any = None, ball: tuple = ("linf", 0.0)
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """The outcome of `_verdict`, on the devices. One program, whatever is allowed and whatever the ball."""
        allowed = np.ones(self.num_classes, bool) if allowed is None else allowed
        radii = [np.float32(ball[1]) if norm == ball[0] else np.float32(np.inf) for norm in ("linf", "l2")]
        shared = (variables, *self.devices.replicate((allowed, radii)))
        rows = (self.devices.place({name: batch[name] for name in ("image", "label")}), adversarial)
        return self._compile("verdict", "verdict", "the verdict", self._verdict, shared, rows)(shared, rows)

    def measure(self, properties: Properties, variables: Any, batch: dict, key: jax.Array) -> dict[str, np.ndarray]:
        """What `properties` are of each image of the batch, by the net in float32: NumPy, with padding."""

        def program(shared, rows):
            variables, key = shared
            logits_fn = _Vouched(self._logits_fns["float32"], variables)
            image_keys = keys.per_image(keys.named(key, "properties"), rows["index"])
            with jax.default_matmul_precision("highest"):
                images = to_pixels(rows["image"])
                return properties(logits_fn, images, rows["label"], image_keys)

        shared = (variables, self.devices.replicate(key))
        rows = self.devices.place({name: batch[name] for name in ("image", "label", "index")})
        measured = self._compile(properties.key, properties.key, "the properties", program, shared, rows)
        return jax.device_get(measured(shared, rows))

    def stage(
        self, member: Member, variables: Any, batch: dict, key: jax.Array, index: int, memo: dict
    ) -> tuple[State, jax.Array]:
        """Runs stage `index` of a member on the batch; (State, adversarial images on the devices).

        memo: the State's other parts from the stage before, NumPy with a row for each image, as `blank` at stage 0.
        """
        shared, rows = self._stage_arguments(member, variables, batch, key, index, memo)
        state = self._stage(member, shared, rows)(shared, rows)
        images, state = state.images, jax.device_get(state._replace(images=()))
        return state, images

    def compile_stage(self, member: Member, variables: Any, batch: dict, key: jax.Array) -> None:
        """Compiles what `stage` would compile at its first call."""
        memo = self.blank(member.attack, batch["image"].shape)
        self._stage(member, *self._stage_arguments(member, variables, batch, key, 0, memo))

    def _stage_arguments(self, member, variables, batch, key, index, memo):
        batch = {name: batch[name] for name in ("image", "label", "index", "active")}
        _, numbers = member.attack.family
        small = self.devices.replicate((key, keys.number(member.name), np.int32(index), numbers))
        return (variables, *small), self.devices.place((batch, memo))

    def blank(self, attack: Attack, shape: tuple[int, ...]) -> dict[str, Any]:
        """The memo of images of `shape` before stage 0, all zeros; its values do not count there."""
        state = jax.eval_shape(
            attack.begin, jax.ShapeDtypeStruct(shape, np.float32), jax.ShapeDtypeStruct(shape[:1], bool)
        )
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), memo_of(state))

    def _verdict(self, shared, rows):
        (variables, allowed, (linf, l2)), (batch, adversarial) = shared, rows
        images = to_pixels(batch["image"])
        with jax.default_matmul_precision("highest"):
            logits = self._logits_fns["float32"](variables, adversarial)
        # A NaN pixel need not reach the logits: XLA's relu and maximum may drop it on a CPU.
        finite = jnp.all(jnp.isfinite(adversarial), axis=(1, 2, 3))
        distances = {
            "linf_255": jnp.max(jnp.abs(adversarial - images), axis=(1, 2, 3)),
            "l2_255": threat.lengths(adversarial - images)[:, 0, 0, 0],
        }
        answer, nan = jnp.argmax(jnp.where(allowed, logits, -jnp.inf), -1), ~jnp.all(jnp.isfinite(logits), -1) | ~finite
        found = {
            "logits": logits,
            "correct": (answer == batch["label"]) & ~nan,
            "nan": nan,
            **{name: jnp.where(finite, 255 * distance, 0) for name, distance in distances.items()},
            "in_range": jnp.all((adversarial >= 0) & (adversarial <= 1), axis=(1, 2, 3)),
        }
        return found, rounded(adversarial, batch["image"], linf, l2).astype(jnp.uint8)

    def _stage(self, member: Member, shared: Any, rows: Any) -> Callable:
        """The compiled program of a stage of the member's attack, and of all attacks of its family."""
        (kind, others), _ = member.attack.family

        def program(shared, rows):
            (variables, key, purpose, index, numbers), (batch, memo) = shared, rows
            attack = kind(**dict(others), **numbers)
            images = to_pixels(batch["image"])
            state = attack.begin(images, batch["active"])
            kept = jax.tree.map(lambda fresh, old: jnp.where(index == 0, fresh, old), memo_of(state), memo)
            state = state._replace(**kept)
            image_keys = keys.per_image(jax.random.fold_in(key, purpose), batch["index"])
            logits_fn = functools.partial(self._logits_fns[member.dtype], variables)
            with jax.default_matmul_precision("highest"):
                return attack.stage(logits_fn, images, batch["label"], image_keys, state, index)

        return self._compile((kind, others, member.dtype), member.key, member.title, program, shared, rows)

    def _compile(self, key: Any, name: str, title: str, program: Callable, shared: Any, rows: Any) -> Callable:
        """The compiled program of a key and a structure of variables; at the first call it is compiled on the account
        of `name`."""
        place = key, jax.tree.structure(shared)
        if place not in self._compiled:
            self.say(f"compiling {title} ...")
            start = time.perf_counter()
            mapped = self.devices.map_images(program, compiled.options())
            self._compiled[place] = mapped.lower(shared, rows).compile()
            self.compile_seconds[name] = self.compile_seconds.get(name, 0.0) + time.perf_counter() - start
        return self._compiled[place]


def memo_of(state: State) -> dict[str, Any]:
    """The parts of a State, other than `done`, that outlive a stage; images do not: the next stage gets clean ones."""
    return {name: getattr(state, name) for name in ("forwards", "backwards", "zero_gradient", "carry")}
