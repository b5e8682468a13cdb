"""Convolutions with scaled weight standardization, of the normalizer-free networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from nofrost_jax.models import convolutions, initializers, layers

# The constant of Brock et al. (2021); in theory sqrt(2 / (1 - 1 / pi)) = 1.7129, relu(gamma * z) having variance 1.
RELU_GAMMA = 1.7139588594436646


class WSConv(nn.Module):
    """Convolution with scaled weight standardization for ReLU networks (Brock et al., 2021, "Characterizing signal
    propagation to close the performance gap in unnormalized ResNets"); see `standardize`. gain, bias: [features].

    input_scale, output_scale: constant factors of its input and of its result, which the small kernel takes up instead
    of the large maps. Parameters without a gain are those of `frozen`.
    """

    features: int
    size: int
    stride: int = 1
    gain_init: Any = initializers.ones
    input_scale: float = 1.0
    output_scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", initializers.lecun_normal, shape, jnp.float32)
        layer = {"kernel": kernel}
        if self.is_initializing() or self.has_variable("params", "gain"):
            layer["gain"] = self.param("gain", self.gain_init, (self.features,), jnp.float32)
        layer["bias"] = self.param("bias", initializers.zeros, (self.features,), jnp.float32)
        if not self.is_initializing():  # initialization needs no output: do not compile this for every shape
            layer = frozen(layer, self.dtype, self.input_scale, self.output_scale)
        x, kernel, bias = (value.astype(self.dtype) for value in (x, layer["kernel"], layer["bias"]))
        return convolutions.conv2d(x, kernel, self.stride, self.size // 2) + bias


def frozen(
    layer: dict[str, jax.Array], dtype: Any, input_scale: float = 1.0, output_scale: float = 1.0
) -> dict[str, jax.Array]:
    """The kernel and bias of a WSConv as its convolution uses them, from its parameters; without a gain they are so.

    NumPy parameters give NumPy arrays, computed in float64: nothing is compiled.
    """
    if "gain" not in layer:
        return layer
    on_host = all(isinstance(leaf, np.ndarray) for leaf in layer.values())
    accumulate = np.float64 if on_host else layers.accumulation_dtype(dtype)
    kernel, gain, bias = (layer[name].astype(accumulate) for name in ("kernel", "gain", "bias"))
    make = _standardize_on_host if on_host else standardize
    kernel = make(kernel, gain * (input_scale * output_scale))
    return {"kernel": kernel.astype(dtype), "bias": (bias * output_scale).astype(dtype)}


@jax.custom_vjp
def standardize(kernel: jax.Array, gain: jax.Array) -> jax.Array:
    """gain * gamma * (W - mean) / sqrt(fan_in * (var + epsilon)) of a kernel W [k, k, I, O] and gains [O].

    The mean and the biased variance are over the fan-in of each output channel; gamma is RELU_GAMMA. No forward-mode
    derivative.
    """
    return _standardize(kernel, gain)[0]


def _standardize_on_host(kernel, gain):
    with np.errstate(invalid="ignore", over="ignore"):  # as jax, silently
        return _standardize(kernel, gain, lambda x: x**-0.5)[0]


def _standardize(kernel, gain, rsqrt=lax.rsqrt):
    mean = kernel.mean((0, 1, 2))
    inverse_std = rsqrt(((kernel - mean) ** 2).mean((0, 1, 2)) + layers.EPSILON)
    return (kernel - mean) * (inverse_std * gain * _factor(kernel)), (kernel, gain, mean, inverse_std)


def _standardize_backward(saved, gradient):
    # The derived one keeps and reads several arrays of the kernel's size, and XLA sums their products slowly on a CPU.
    kernel, gain, mean, inverse_std = saved
    normalized = (kernel - mean) * inverse_std
    rows, columns = (values.reshape(-1, len(gain)) for values in (gradient, gradient * normalized))
    total, correlation = rows.mean(0), columns.mean(0)
    to_kernel = (gradient - total - normalized * correlation) * (inverse_std * gain * _factor(kernel))
    return to_kernel, correlation * (len(rows) * _factor(kernel))


def _factor(kernel):
    return RELU_GAMMA * float(np.prod(kernel.shape[:-1])) ** -0.5


standardize.defvjp(_standardize, _standardize_backward)
