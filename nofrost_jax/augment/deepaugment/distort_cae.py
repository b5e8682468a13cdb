"""DeepAugment's distortions of the CAE: W0 to W8 of its weights, A0 to A8 of the code, and the code's binarisation.

`draw_edit` and `draw_latent` draw; applying what they drew is deterministic. Rules and numbers, slips included, are
those of the authors' program (Hendrycks et al., 2021). A layer's "rows" are the first axis of its kernel in PyTorch:
the output channels, or the input channels of the transposed convolution, layer 10.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from nofrost_jax.augment.deepaugment import layers
from nofrost_jax.keys import named

CHANNELS = 32  # of the code
LAYERS = {  # that are distorted, by number
    8: "e_conv_3.0",
    9: "d_up_conv_1.0",
    10: "d_up_conv_1.3",
    **{11 + i: f"d_block_{1 + i // 2}.{(1, 4)[i % 2]}" for i in range(5)},
}
TRANSPOSED = 10
LOW, HIGH = np.full(9, 8), np.full(9, 13)  # of the layers that an option chooses from
LOW[[0, 3]], HIGH[[0, 3]] = (11, 10), (15, 13)
EDIT_NAMES = (
    *("reversed rows", "negated rows", "zero rows", "-gelu rows", "amplified", "masked or signs", "rotated"),
    *("kernel rows negated", "largest tap"),
)
DRAWN = 8  # W8 exists, but is never drawn
ROWS = 25
LARGEST = 3 * 3 * 128 * 128  # kernel elements
LATENT_NAMES = (
    *("amplified bits", "20% of places zero", "10% of places negated", "permuted channels", "5 channels flipped"),
    *("all channels flipped", "random mixing", "copied channels", "shifted channels"),
)


Layer = tuple[Array, Array]  # kernel and bias


class Edit(NamedTuple):
    """What the weight distortions need; each option uses a part of it."""

    option: Array  # 0..8, 8 only by hand
    layers: Array  # int [2]: numbers i and j
    rows: Array  # uniform [25]; times the number of rows, rounded down, a row
    turns: Array  # 1..3, times 90 degrees
    signs: Array  # bool: W5 multiplies by signs, not by a mask
    amounts: Array  # uniform [2], for i and j
    fields: Array  # uniform [2, LARGEST], for i and j; a kernel takes the first elements that it needs, HWIO


class Latent(NamedTuple):
    """Distortion and binarisation of one code [h, w, 32]."""

    option: Array  # 0..8; -1, never drawn, for none
    threshold: Array  # uniform [h, w, 32], for the binarisation
    field: Array  # uniform [h, w, 32]
    places: Array  # uniform [h, w]
    amount: Array  # uniform []
    permutation: Array  # of 0..9
    channels: Array  # int [5]
    flip: Array  # 0 height, 1 width, 2 both
    mixing: Array  # uniform in (-0.1, 0.1) [3, 3, 32, 32]
    present: Array  # bool [32]: output channels of A7 that get another tap
    origins: Array  # int [32]: its input channel
    taps: Array  # int [32] in 0..8: its place
    shifts: Array  # int [32] in 0..8: the place of each channel's only tap in A8


def draw_edit(key: Array, option: Array | None = None) -> Edit:
    """The distortion of one set of weights; `option` instead of a drawn one."""
    key = named(key, "cae/edit")
    if option is None:
        option = jax.random.randint(named(key, "option"), (), 0, DRAWN, jnp.int32)
    low, high = jnp.asarray(LOW, jnp.int32)[option], jnp.asarray(HIGH, jnp.int32)[option]
    return Edit(
        option=option,
        layers=jax.random.randint(named(key, "layers"), (2,), low, high + 1, jnp.int32),
        rows=jax.random.uniform(named(key, "rows"), (ROWS,), jnp.float32),
        turns=jax.random.randint(named(key, "turns"), (), 1, 4, jnp.int32),
        signs=jax.random.bernoulli(named(key, "signs")),
        amounts=jax.random.uniform(named(key, "amounts"), (2,), jnp.float32),
        fields=jax.random.uniform(named(key, "fields"), (2, LARGEST), jnp.float32),
    )


def apply_edit(params: dict, edit: Edit) -> dict:
    """The parameters after the edit. Only layers 8 to 15 change."""
    distorted = {number: params[name] for number, name in LAYERS.items()}
    distorted = lax.switch(edit.option, _OPTIONS, distorted, edit)
    return {**params, **{LAYERS[number]: layer for number, layer in distorted.items()}}


def _on_layer(change: Callable, option: int, which: int = 0) -> Callable:
    """The distortion that changes the layer with the drawn number i (`which` 0) or j (1). change(kernel, bias, edit,
    rows, field) gets the kernel with its rows first, the drawn rows [25] and a uniform field of the kernel's shape, and
    returns (kernel, bias)."""

    def apply(distorted: dict, edit: Edit) -> dict:
        new = dict(distorted)
        for number in range(LOW[option], HIGH[option] + 1):
            layer, axis = distorted[number], 2 if number == TRANSPOSED else 3
            kernel, bias = layer["kernel"], layer["bias"]
            field = edit.fields[which, : kernel.size].reshape(kernel.shape).astype(kernel.dtype)
            rows = jnp.floor(edit.rows * kernel.shape[axis]).astype(jnp.int32)
            changed, bias = change(jnp.moveaxis(kernel, axis, 0), bias, edit, rows, jnp.moveaxis(field, axis, 0))
            changed = {"kernel": jnp.moveaxis(changed, 0, axis), "bias": bias}
            new[number] = {name: jnp.where(edit.layers[which] == number, changed[name], layer[name]) for name in layer}
        return new

    return apply


def _reversed(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    return kernel[::-1], bias[::-1]  # of layer i only: the second flip, meant for j, is done and undone


def _times_rows(kernel: Array, bias: Array, factors: Array) -> Layer:
    """The rows of the kernel times factors [n], and the bias' first n entries."""
    return kernel * factors[:, None, None, None], bias.at[: len(factors)].multiply(factors)


def _negated(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    drawn = jnp.zeros(len(kernel), jnp.int32).at[rows[:12]].add(1)
    return _times_rows(kernel, bias, jnp.where(drawn % 2 == 1, -1, 1).astype(kernel.dtype))


def _zero(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    return _times_rows(kernel, bias, jnp.ones(len(kernel), kernel.dtype).at[rows].set(0))


def _gelu(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    def once(t, pair):
        kernel, bias = pair
        row = rows[t]
        return kernel.at[row].set(-layers.gelu(kernel[row])), bias.at[row].set(-layers.gelu(bias[row]))

    return lax.fori_loop(0, ROWS, once, (kernel, bias))


def _amplify_both(distorted: dict, edit: Edit) -> dict:
    for which in (0, 1):

        def amplified(kernel, bias, edit, rows, field, which=which):
            return kernel * (1 + 8 * edit.amounts[which].astype(kernel.dtype) * field), bias

        distorted = _on_layer(amplified, 4, which)(distorted, edit)
    return distorted


def _masked(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    return kernel * jnp.where(field < 0.5, 1, jnp.where(edit.signs, -1, 0)).astype(kernel.dtype), bias


def _rotated(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    return lax.switch(edit.turns - 1, [lambda x, q=q: jnp.rot90(x, q, (1, 2)) for q in (1, 2, 3)], kernel), bias


def _negated_once(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    factors = jnp.ones(len(kernel), kernel.dtype).at[rows[: len(kernel) // 5]].set(-1)
    return kernel * factors[:, None, None, None], bias


def _largest_tap(kernel: Array, bias: Array, edit: Edit, rows: Array, field: Array) -> Layer:
    return jnp.moveaxis(layers.largest_tap(jnp.moveaxis(kernel, 0, 2)), 2, 0), bias


_CHANGES = (_reversed, _negated, _zero, _gelu, None, _masked, _rotated, _negated_once, _largest_tap)
_OPTIONS = [_on_layer(change, k) if change else _amplify_both for k, change in enumerate(_CHANGES)]


def draw_latent(key: Array, height: int, width: int) -> Latent:
    """The distortion and the binarisation of one code of height x width places."""
    key = named(key, "cae/latent")

    def integers(name, shape, high):
        return jax.random.randint(named(key, name), shape, 0, high, jnp.int32)

    def uniform(name, shape, low=0.0, high=1.0):
        return jax.random.uniform(named(key, name), shape, jnp.float32, low, high)

    fresh = jnp.concatenate([integers("start", (1,), 9), integers("fresh", (CHANNELS,), 9)])
    redrawn = uniform("redrawn", (CHANNELS,)) < 0.2
    return Latent(
        option=integers("option", (), len(LATENT_NAMES)),
        threshold=uniform("threshold", (height, width, CHANNELS)),
        field=uniform("field", (height, width, CHANNELS)),
        places=uniform("places", (height, width)),
        amount=uniform("amount", ()),
        permutation=jax.random.permutation(named(key, "permutation"), 10).astype(jnp.int32),
        channels=integers("channels", (5,), CHANNELS),
        flip=integers("flip", (), 3),
        mixing=uniform("mixing", (3, 3, CHANNELS, CHANNELS), -0.1, 0.1),
        present=uniform("present", (CHANNELS,)) < 0.5,
        origins=integers("origins", (CHANNELS,), CHANNELS),
        taps=integers("taps", (CHANNELS,), 9),
        shifts=fresh[lax.cummax(jnp.where(redrawn, jnp.arange(1, CHANNELS + 1), 0))],
    )


def distort_latent(code: Array, latent: Latent) -> Array:
    """Distorts and binarises one code [h, w, 32] in (-1, 1): 0 or 1 everywhere, or the ones amplified (A0)."""
    latent = jax.tree.map(lambda x: x.astype(code.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, latent)
    code = lax.switch(latent.option, _LATENTS, code, latent)
    bits = (latent.threshold <= (1 + code) / 2).astype(code.dtype)
    return jnp.where(latent.option == 0, bits * (3 + 4 * latent.amount * latent.field), bits)


def _flip_some(code: Array, latent: Latent) -> Array:
    drawn = jnp.zeros(CHANNELS, jnp.int32).at[latent.channels].add(1)
    return jnp.where(drawn % 2 == 1, _flip_all(code, latent), code)


def _flip_all(code: Array, latent: Latent) -> Array:
    return lax.switch(latent.flip, [lambda x, axes=axes: jnp.flip(x, axes) for axes in (0, 1, (0, 1))], code)


def _convolve(code: Array, kernel: Array) -> Array:
    """kernel: [9, 32, 32], the nine taps row-major."""
    return layers.conv(code[None], {"kernel": kernel.reshape(3, 3, CHANNELS, CHANNELS), "bias": 0}, 1)[0]


def _identity(code: Array) -> Array:
    return jnp.zeros((9, CHANNELS, CHANNELS), code.dtype).at[4].set(jnp.eye(CHANNELS, dtype=code.dtype))


def _mixed(code: Array, latent: Latent) -> Array:
    return _convolve(code, _identity(code) + latent.mixing.reshape(9, CHANNELS, CHANNELS))


def _copied(code: Array, latent: Latent) -> Array:
    kernel, places = _identity(code), (latent.taps, latent.origins, jnp.arange(CHANNELS))
    return _convolve(code, kernel.at[places].set(jnp.where(latent.present, 1, kernel[places])))


def _shifted(code: Array, latent: Latent) -> Array:
    channels = jnp.arange(CHANNELS)
    kernel = jnp.zeros((9, CHANNELS, CHANNELS), code.dtype).at[latent.shifts, channels, channels].set(1)
    return _convolve(code, kernel)


_LATENTS = (
    lambda code, latent: code,
    lambda code, latent: code * (latent.places < 0.8)[..., None],
    lambda code, latent: code * jnp.where(latent.places < 0.1, -1, 1).astype(code.dtype)[..., None],
    lambda code, latent: code.at[..., :10].set(code[..., latent.permutation]),
    _flip_some,
    _flip_all,
    _mixed,
    _copied,
    _shifted,
)
