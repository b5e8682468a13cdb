"""The one door for images, labels, keys and models: of a classifier, every attack, and all that take a logits function.

Shapes and dtypes are known while a program is traced: they are looked at always. Values are looked at in one reduction
on the device: pixels in [0, 1], labels that are classes, a radius within its range. Outside jit a broken rule raises
ValueError. Inside jit nothing can be raised, and asking the host would be slow: the outcome of an image that breaks a
rule is NaN there, all of it, so that no number comes of it unseen. (argmax of NaN is 0: count where logits are finite.)

Training steps and evaluations know their values. They say so by `inputs_are_checked`, an attribute of the logits
function, and their programs get no operation from here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

LogitsFn = Callable[[Array], Array]  # float images [N, H, W, C] in [0, 1] -> logits, float [N, K]
SLACK = 1e-6  # by which a pixel may leave [0, 1]: rounding, where a normalization was undone
READING_SLACK = 0.01  # for who only reads: TRADES's start leaves the range by some thousandths


def as_array(values: Any, what: str, convert: Callable = jnp.asarray) -> Array:
    """`values` as a JAX array; NumPy's, PyTorch's and lists of equal shapes are converted. Raises ValueError.

    convert: what does it, `np.asarray` for an array on the host.
    """
    if isinstance(values, jax.Array):
        return values
    try:
        with jax.ensure_compile_time_eval():
            return convert(values)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{what} must be an array, not {type(values).__name__}: {reason}") from error


def read(images: Any, channels: int, checked: bool = False) -> tuple[Array, Array | None]:
    """What a classifier reads: (float images [N, H, W, channels] in [0, 1], which are good: bool [N], None for all).

    images: uint8, or float in [0, 1]. checked: the values are known to be good. Raises ValueError.
    """
    array = as_array(images, "images")
    check_layout(array.shape, channels)
    if array.dtype == jnp.uint8:
        return array.astype(jnp.float32) / 255, None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"images must be uint8 of 0 to 255, or float in [0, 1], got {getattr(images, 'dtype', array.dtype)} "
            f"{array.shape}; make images.astype('uint8') of pixel values"
        )
    array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    return array, None if checked else good(array, slack=READING_SLACK)


def check_layout(shape: tuple[int, ...], channels: int | None = None) -> None:
    """Raises ValueError unless `shape` is that of images [N, H, W, C], C being `channels` if given; says what to do."""
    wanted = f"images must be [N, H, W, {channels or 'C'}], got shape {tuple(shape)}"
    if len(shape) == 3:
        raise ValueError(f"{wanted}; one image needs a first axis: images[None], grey ones a last: images[..., None]")
    if len(shape) != 4:
        raise ValueError(wanted)
    if channels is None or shape[3] == channels:
        return
    if shape[1] == channels:
        raise ValueError(f"{wanted}; channels come last: images.transpose(0, 2, 3, 1)")
    if shape[3] == 1:
        raise ValueError(f"{wanted}; give grey images all channels: images.repeat({channels}, axis=-1)")
    raise ValueError(f"{wanted}; of RGBA give the colours: images[..., :3]" if shape[3] == channels + 1 else wanted)


def check_arguments(images: Any, labels: Any, keys: Any, active: Any) -> None:
    """Raises ValueError unless these are arguments of an attack, by shape and dtype."""
    check_pair(images, labels)
    count = len(images)
    dtype = getattr(keys, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or keys.shape != (count,):
        got = type(keys).__name__ if dtype is None else f"{dtype} {keys.shape}"
        raise ValueError(
            f"keys must be {count} typed PRNG keys, one for each image, as "
            f"jax.random.split(jax.random.key(0), {count}) makes them; got {got}"
        )
    if active is not None and (active.shape != (count,) or active.dtype != bool):
        raise ValueError(f"active must be bool [{count}], got {active.dtype} {active.shape}")


def check_pair(images: Any, labels: Any, may_be_pixels: bool = False) -> None:
    """Raises ValueError unless these are images [N, H, W, C] and their labels [N], by shape and dtype.

    may_be_pixels: uint8 images will do.
    """
    check_layout(images.shape)
    if may_be_pixels and images.dtype == jnp.uint8:
        images = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be float in [0, 1], got {images.dtype} {images.shape}; divide uint8 images by 255, in float32"
        )
    if jnp.finfo(images.dtype).bits < 32:
        raise ValueError(f"images must be float32 or float64, got {images.dtype}, which cannot hold the ball's border")
    count = len(images)
    if labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        hint = "; of one-hot labels give labels.argmax(-1)" if labels.ndim == 2 else ""
        raise ValueError(f"labels must be integers [{count}], got {labels.dtype} {labels.shape}{hint}")


def count_classes(logits_fn: LogitsFn, images: Array) -> int:
    """K of a model's logits [N, K]. Raises ValueError for a model that returns, or is, anything else."""
    if any(base.__module__.startswith("torch.") for base in type(logits_fn).__mro__):
        raise ValueError(f"the model must be a JAX function, and {type(logits_fn).__name__} is PyTorch's; convert it")
    try:
        logits = jax.eval_shape(logits_fn, images)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            "the model must be a JAX function of its images; it hands them to NumPy or another library, which cannot "
            "be differentiated or compiled: write it in jax.numpy"
        ) from error
    except Exception as error:
        if type(error).__name__ != "TraceContextError":  # Flax NNX's
            raise
        raise ValueError(
            "the model changes its own state when it is called, as batch norm and dropout do in training; set it to "
            f"evaluation mode, e.g. model.eval() ({str(error).partition(' (')[0]})"
        ) from error
    wanted, count = "the model must return logits, one float array [N, K]", len(images)
    if not isinstance(logits, jax.ShapeDtypeStruct):
        parts = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", logits)
        raise ValueError(f"{wanted}; it returned {parts}: give a function that picks the logits")
    if logits.ndim != 2 or len(logits) != count or not jnp.issubdtype(logits.dtype, jnp.floating):
        hint = ""
        if logits.ndim > 2 and logits.size == logits.shape[0] * max(logits.shape[1:]):
            hint = f": reshape to [{count}, {max(logits.shape[1:])}]"
        elif jnp.issubdtype(logits.dtype, jnp.integer):
            hint = ": class indices have no gradient, give what they are the argmax of"
        elif logits.ndim == 1:
            hint = ": one number z an image is the logits [-z, z] of two classes, jnp.stack([-z, z], -1)"
        raise ValueError(f"{wanted}; for {count} images it returned {logits.dtype}{list(logits.shape)}{hint}")
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
    """None where the values keep the rules; under jit bool [N], which images do. Raises ValueError outside jit.

    images: float [N, H, W, C]. labels: int [N], or None; classes: how many there are. active: bool [N], the rows that
    matter; None for all. radius: scalar of 0 to `greatest`, or None.
    """
    seen = images, labels, active, radius
    if any(_is_out_of_sight(value) for value in seen):
        return _keep_the_rules(*seen, classes, greatest, slack)
    with jax.ensure_compile_time_eval():
        fine = _keep_the_rules(*seen, classes, greatest, slack)
        if fine.all():
            return None
        raise ValueError(_complaint(images[~fine], None if labels is None else labels[~fine], classes, slack, fine))


def nan_unless(fine: Array | None, values: Array) -> Array:
    """`values` [N, ...] with NaN in the rows where `fine` (of `good`) is False."""
    return values if fine is None else jnp.where(fine.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan)


def _is_out_of_sight(value):
    """Whether nobody can look at an array's values here and now: it is traced, or lies on other hosts, too."""
    if isinstance(value, jax.core.Tracer):
        return True
    return isinstance(value, jax.Array) and not value.is_fully_addressable


@jax.jit
def _keep_the_rules(images, labels, active, radius, classes, greatest, slack):
    """bool [N]; NaN breaks them."""
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
        return f"images must lie in [0, 1], and {some} have pixels that are NaN or infinite"
    low, high = float(images.min()), float(images.max())
    if low < -slack or high > 1 + slack:
        hint = "clip them"
        if low < -READING_SLACK:
            hint = "give them as they are before normalization, which belongs into the model"
        elif high > 2:
            hint = "divide pixel values by 255"
        return f"images must lie in [0, 1], and {some} do not, they go from {low:.6g} to {high:.6g}; {hint}"
    low, high = int(labels.min()), int(labels.max())
    hint = ""
    if high == classes and low >= 0:
        hint = "; do they count from 1?"
    return (
        f"labels must be 0 to {classes - 1}, as the model has {classes} classes, and {some} are not, they go from "
        f"{low} to {high}{hint}"
    )
