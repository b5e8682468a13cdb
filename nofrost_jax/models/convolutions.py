"""Convolutions and max pooling, each in two ways: XLA's own, and "slices", which is faster on CPUs.

"slices" puts strided slices, matrix products and sums in place of what XLA computes slowly there: gradients above all,
and convolutions of tiny maps. Feature maps are [N, H, W, C], kernels HWIO, padding symmetric. Both ways agree up to
summation order.
"""

import functools
import os

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from nofrost_jax.errors import UserError

OUTPUT = "convolution"  # names what a convolution computes, for `blocks.recomputed`
CONV_IMPLEMENTATIONS = ("slices", "xla")
LARGE_MAP = 2**15  # values of an image's map from which patches leave the caches, and XLA's own gradients are faster


def conv_implementation() -> str:
    """How convolutions and max pooling are computed: "slices" on CPUs, "xla" elsewhere, or NOFROST_CONV if it is set.

    Read when a function is traced.
    """
    forced = os.environ.get("NOFROST_CONV", "")
    if forced and forced not in CONV_IMPLEMENTATIONS:
        raise UserError(f"NOFROST_CONV={forced!r} in the environment is unknown; choose one of {CONV_IMPLEMENTATIONS}")
    return forced or ("slices" if jax.default_backend() == "cpu" else "xla")


def conv2d(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0, implementation: str | None = None
) -> jax.Array:
    """Convolution of x [N, H, W, I] with a square kernel [k, k, I, O] of the same dtype.

    implementation: "slices" (for k = 1, 3, and 7 as in a stem; k = 3 takes up to 9 times the memory of a small map for
    a moment), "xla", or None for `conv_implementation`.
    """
    size, slices = kernel.shape[0], (implementation or conv_implementation()) == "slices"
    if slices and size == 7 and stride == 2 and padding == 3:
        out = _stem(x, kernel)
    elif slices and size == 3:
        out = _three(x, kernel, stride, padding)
    elif slices and size == 1:
        out = _patches(x, kernel, stride, padding)
    else:
        out = _xla(x, kernel, stride, padding)
    return checkpoint_name(out, OUTPUT)


def max_pool(
    x: jax.Array, size: int = 3, stride: int = 2, padding: int = 1, implementation: str | None = None
) -> jax.Array:
    """Max pooling of x [N, H, W, C], padded with -inf, over windows of at most 16 x 16. The gradient goes to the first
    maximum of each window."""
    if (implementation or conv_implementation()) == "slices":
        return _sliced_max(x, size, stride, padding)
    return nn.max_pool(x, (size, size), (stride, stride), [(padding, padding)] * 2)


def _xla(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _windows(x: jax.Array, size: int, stride: int, padding: int, fill: float = 0.0) -> list[jax.Array]:
    """The size * size strided slices of the padded map, in row-major order of their offset in the window."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
    n, height, width, channels = x.shape
    last_row, last_column = ((length - size) // stride * stride for length in (height, width))
    return [
        lax.slice(x, (0, i, j, 0), (n, i + last_row + 1, j + last_column + 1, channels), (1, stride, stride, 1))
        for i in range(size)
        for j in range(size)
    ]


@jax.custom_vjp
def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """x [N, H, W, I] times a matrix [I, O]."""
    return lax.dot_general(x, matrix, (((3,), (0,)), ((), ())))


def _product_backward(saved, gradient):
    # The derived gradient of the matrix is a transposed product, for which XLA copies a transposed map.
    x, matrix = saved
    rows, columns = (values.reshape(-1, values.shape[-1]) for values in (x, gradient))
    to_map = lax.dot_general(gradient, matrix, (((3,), (1,)), ((), ())))
    return to_map, lax.dot_general(rows, columns, (((0,), (0,)), ((), ())))


_product.defvjp(lambda x, matrix: (_product(x, matrix), (x, matrix)), _product_backward)


def _patches(x, kernel, stride, padding):
    """One product of the windows of every place with the kernel."""
    windows = jnp.concatenate(_windows(x, kernel.shape[0], stride, padding), axis=-1)
    return _product(windows, kernel.reshape(-1, kernel.shape[-1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _three(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """A 3x3 convolution: XLA's own, except to tiny maps, which it computes up to a hundred times slower."""
    least = min((length + 2 * padding - 3) // stride + 1 for length in x.shape[1:3])
    return (_xla if x.dtype == jnp.float32 and least > 3 else _patches)(x, kernel, stride, padding)


def _three_backward(stride, padding, saved, gradient):
    x, kernel = saved
    _, rows, columns, _ = gradient.shape  # not by the images: what one gives must not depend on its company
    large = x.dtype == jnp.float32 and rows * columns * x.shape[-1] >= LARGE_MAP
    to_map, to_kernel = (_xla if own else _patches for own in (large and stride == 1, large))
    return (
        *jax.vjp(lambda x: to_map(x, kernel, stride, padding), x)[1](gradient),
        *jax.vjp(lambda kernel: to_kernel(x, kernel, stride, padding), kernel)[1](gradient),
    )


_three.defvjp(lambda x, kernel, *window: (_three(x, kernel, *window), (x, kernel)), _three_backward)


def _blocks(x, kernel):
    """The 7x7 convolution of stride 2, padding 3, as one of 4x4, stride 1, on blocks of 2x2 pixels: four products."""
    n, height, width, channels = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    x = jnp.pad(x, ((0, 0), (3, 2 * rows + 3 - height), (3, 2 * columns + 3 - width), (0, 0)))
    x = x.reshape(n, rows + 3, 2, columns + 3, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, rows + 3, columns + 3, 4 * channels)
    kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).reshape(4, 2, 4, 2, channels, -1)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(4, 16 * channels, -1)
    lines = jnp.concatenate([x[:, :, j : j + columns] for j in range(4)], axis=-1)
    return sum(_product(lines[:, i : i + rows], kernel[i]) for i in range(4))


@jax.custom_vjp
def _stem(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The 7x7 convolution of stride 2. XLA's is fast forwards; backwards it is several times slower than products."""
    return _xla(x, kernel, 2, 3)


_stem.defvjp(
    lambda x, kernel: (_stem(x, kernel), (x, kernel)), lambda saved, gradient: jax.vjp(_blocks, *saved)[1](gradient)
)


def _first_maximum(x, size, stride, padding):
    """(the maxima of windows, which slice each is from: uint8)."""
    best, *others = _windows(x, size, stride, padding, -jnp.inf)
    chosen = jnp.zeros(best.shape, jnp.uint8)
    for number, other in enumerate(others, 1):
        # Not jnp.maximum, which shares the gradient between ties; a NaN must survive the comparison.
        better = (other > best) | jnp.isnan(other)
        best, chosen = jnp.where(better, other, best), jnp.where(better, jnp.uint8(number), chosen)
    return best, chosen


def _sliced_max(x, size, stride, padding):
    @jax.custom_vjp
    def pool(x):
        return _first_maximum(x, size, stride, padding)[0]

    def forward(x):
        return _first_maximum(x, size, stride, padding)

    def backward(chosen, gradient):
        # Or XLA computes both anew for every slice.
        chosen, gradient = lax.optimization_barrier((chosen, gradient))
        return (_to_maxima(chosen, gradient, size, stride, padding, x.shape),)

    pool.defvjp(forward, backward)
    return pool(x)


def _to_maxima(chosen, gradient, size, stride, padding, shape):
    """The gradient of max pooling to its map: each window's `gradient` at the slice that was `chosen`.

    Pixels `stride` apart lie alike in their windows, so that each of the stride * stride grids of them is a sum of
    contiguous slices. The derived gradient, a sum of dilated maps, is several times slower.
    """
    n, height, width, channels = shape
    before = (size - 1) // stride  # windows that begin before a pixel's own and still have it
    rows, columns = (-(-(length + 2 * padding) // stride) for length in (height, width))
    borders = [(0, 0), *((before, most - own) for most, own in zip((rows, columns), gradient.shape[1:3], strict=True))]
    gradient, chosen = (jnp.pad(values, (*borders, (0, 0))) for values in (gradient, chosen))

    def grid(row, column):
        total = jnp.zeros((), gradient.dtype)
        for i in range(row, size, stride):
            for j in range(column, size, stride):
                top, left = before - i // stride, before - j // stride
                window = (slice(None), slice(top, top + rows), slice(left, left + columns))
                total += jnp.where(chosen[window] == i * size + j, gradient[window], 0)
        return jnp.broadcast_to(total, (n, rows, columns, channels))

    grids = [jnp.stack([grid(row, column) for column in range(stride)], axis=3) for row in range(stride)]
    padded = jnp.stack(grids, axis=2).reshape(n, rows * stride, columns * stride, channels)
    return padded[:, padding : padding + height, padding : padding + width]
