"""Checks of images, labels, keys and logits functions, for the classifier, all attacks and `autoattack`.

Shapes and dtypes are always checked. Values (pixels in [0, 1], labels that are classes, a radius in range) are checked
in one reduction on the device: outside jit a wrong value raises ValueError; inside jit, where nothing can be raised,
the whole outcome of that image becomes NaN. (argmax of NaN is 0: count only where logits are finite.)

Training steps and evaluations know that their values are valid: their logits functions have `inputs_are_checked`, and
their programs contain no operation from here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

LogitsFn = Callable[[Array], Array]  # float images [N, H, W, C] in [0, 1] -> logits, float [N, K]
SLACK = 1e-6  # how far a pixel may leave [0, 1]: rounding when a normalization is undone
READING_SLACK = 0.01  # for a classifier: the start of TRADES leaves the range by some thousandths


def as_array(values: Any, what: str, convert: Callable = jnp.asarray) -> Array:
    """`values`, e.g. a list or an array of NumPy or PyTorch, as a JAX array (`convert`: np.asarray for a NumPy array).
    Raises ValueError."""
    if isinstance(values, jax.Array):
        return values
    try:
        with jax.ensure_compile_time_eval():
            return convert(values)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{what} must be an array, not {type(values).__name__}: {reason}") from error


def read(images: Any, channels: int, checked: bool = False) -> tuple[Array, Array | None]:
    """(float images [N, H, W, channels] in [0, 1], which are valid: bool [N], None for all) of uint8 or float images.
    checked: the values are known to be valid. Raises ValueError."""
    array = as_array(images, "images")
    check_layout(array.shape, channels)
    if array.dtype == jnp.uint8:
        return array.astype(jnp.float32) / 255, None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        got = f"{getattr(images, 'dtype', array.dtype)} {array.shape}"
        raise ValueError(f"images must be uint8 in 0 to 255, or float in [0, 1], got {got}")
    array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    return array, None if checked else good(array, slack=READING_SLACK)


def check_layout(shape: tuple[int, ...], channels: int | None = None) -> None:
    """Raises ValueError unless `shape` is that of images [N, H, W, C]; C is `channels` if given."""
    if len(shape) != 4 or channels not in (None, shape[3]):
        hint = "; channels come last: images.transpose(0, 2, 3, 1)" * (len(shape) == 4 and shape[1] == channels)
        hint = hint or "; a single image needs a first axis: images[None]" * (len(shape) == 3)
        raise ValueError(f"images must be [N, H, W, {channels or 'C'}], got shape {tuple(shape)}{hint}")


def check_arguments(images: Any, labels: Any, keys: Any, active: Any) -> None:
    """Raises ValueError unless an attack's arguments have the right shapes and dtypes."""
    check_pair(images, labels)
    count = len(images)
    dtype = getattr(keys, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or keys.shape != (count,):
        got = type(keys).__name__ if dtype is None else f"{dtype} {keys.shape}"
        raise ValueError(f"keys must be one typed PRNG key per image, jax.random.split(key, {count}); got {got}")
    if active is not None and (active.shape != (count,) or active.dtype != bool):
        raise ValueError(f"active must be bool [{count}], got {active.dtype} {active.shape}")


def check_pair(images: Any, labels: Any, may_be_pixels: bool = False) -> None:
    """Raises ValueError unless these are float32 or float64 images [N, H, W, C] and integer labels [N].

    may_be_pixels: uint8 images are allowed.
    """
    check_layout(images.shape)
    if not (images.dtype in (jnp.float32, jnp.float64) or (may_be_pixels and images.dtype == jnp.uint8)):
        hint = "; divide uint8 images by 255" * (images.dtype == jnp.uint8)
        raise ValueError(f"images must be float32 or float64 in [0, 1], got {images.dtype} {images.shape}{hint}")
    if labels.shape != (len(images),) or not jnp.issubdtype(labels.dtype, jnp.integer):
        hint = "; convert one-hot labels with labels.argmax(-1)" * (labels.ndim == 2)
        raise ValueError(f"labels must be integers [{len(images)}], got {labels.dtype} {labels.shape}{hint}")


def count_classes(logits_fn: LogitsFn, images: Array | jax.ShapeDtypeStruct) -> int:
    """K of a function's logits [N, K]. Raises ValueError if it is no JAX function, or returns something else."""
    if any(base.__module__.startswith("torch.") for base in type(logits_fn).__mro__):
        raise ValueError(f"the model must be a JAX function, and {type(logits_fn).__name__} is PyTorch's; convert it")
    try:
        logits = jax.eval_shape(logits_fn, images)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError("the model must be a JAX function, but passes its images to NumPy; use jax.numpy") from error
    except Exception as error:
        if type(error).__name__ != "TraceContextError":  # of Flax NNX
            raise
        raise ValueError(
            "the model changes its own state when it is called, as batch norm and dropout do in training; set it to "
            f"evaluation mode, e.g. model.eval() ({str(error).partition(' (')[0]})"
        ) from error
    count = len(images)
    if getattr(logits, "shape", ())[:-1] != (count,) or not jnp.issubdtype(logits.dtype, jnp.floating):
        got = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", logits)
        raise ValueError(f"the model must return logits, one float array [{count}, K]; it returned {got}")
    return logits.shape[1]


def good(
    images: Array,
    labels: Array | None = None,
    classes: int = 0,
    active: Array | None = None,
    radius: float | Array | None = None,
    greatest: float = jnp.inf,
    slack: float = SLACK,
) -> Array | None:
    """None if all values are valid; under jit bool [N], which images are. Raises ValueError outside jit.

    images: float [N, H, W, C]. labels: int [N], or None; classes: how many there are. active: bool [N], the rows that
    matter; None for all. radius: scalar in 0 to `greatest`, or None.
    """
    seen = images, labels, active, radius
    if any(_is_hidden(value) for value in seen):
        return _are_valid(*seen, classes, greatest, slack)
    with jax.ensure_compile_time_eval():
        fine = _are_valid(*seen, classes, greatest, slack)
        if fine.all():
            return None
        raise ValueError(_complaint(images[~fine], None if labels is None else labels[~fine], classes, slack, fine))


def nan_unless(fine: Array | None, values: Array) -> Array:
    """`values` [N, ...] with NaN in the rows where `fine` (of `good`) is False."""
    return values if fine is None else jnp.where(fine.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan)


def _is_hidden(value):
    """Whether an array's values cannot be read here: it is traced, or partly on other hosts."""
    return isinstance(value, jax.core.Tracer) or (isinstance(value, jax.Array) and not value.is_fully_addressable)


@jax.jit
def _are_valid(images, labels, active, radius, classes, greatest, slack):
    """bool [N]; NaN is not valid."""
    fine = jnp.all((images >= -slack) & (images <= 1 + slack), axis=(1, 2, 3))
    if labels is not None:
        fine &= (labels >= 0) & (labels < classes)
    if radius is not None:
        fine &= (radius >= 0) & (radius <= greatest)
    return fine if active is None else fine | ~active


def _complaint(images, labels, classes, slack, fine):
    """What is wrong with the images and labels of the rows that are not `fine`."""
    some = f"{len(images)} of {len(fine)}"
    if not jnp.isfinite(images).all():
        return f"images must be in [0, 1], but {some} have pixels that are NaN or infinite"
    low, high = float(images.min()), float(images.max())
    if low < -slack or high > 1 + slack:
        hint = "divide them by their greatest possible value" if high > 2 else "clip them"
        hint = "divide pixel values by 255" if high > 100 else hint
        hint = "normalization belongs in the model" if low < -READING_SLACK else hint
        return f"images must be in [0, 1], but {some} range from {low:.6g} to {high:.6g}; {hint}"
    low, high = int(labels.min()), int(labels.max())
    return f"labels must be 0 to {classes - 1}, the model's classes, but {some} range from {low} to {high}"
