"""DeepAugment's distortions of EDSR: E0 to E16 of its weights, and of the signal inside it (pre 1-4, body 1-5).

`draw_edits` and `draw_signal` draw; applying what they drew is deterministic. Rules and numbers, slips included, are
those of the authors' program (Hendrycks et al., 2021). c0 and c2 are the first and the second convolution of a residual
block. Kernels are HWIO, so a filter is an index on the last axis.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from nofrost_jax.augment.deepaugment import layers
from nofrost_jax.keys import named

BLOCKS, FEATURES = 16, 64
EDITS = 3  # options drawn for one set of weights
REPEATS, FILTERS = 5, 32  # layers that E12 to E16 change; filters that E15 draws in each
SPARSE = np.array([0, 3, 6, 9], np.int32)  # blocks that most options choose from
EARLY, SPREAD = np.array([1, 4, 7], np.int32), np.array([1, 5, 9], np.int32)  # those of E1; of E8 and E10
LAPLACE_4 = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
LAPLACE_8 = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
DIRICHLET = 10  # the option
AFTER = 4  # body 1 to 3 change the signal behind this block
EDIT_NAMES = (
    *("reversed filters", "c0 negated", "c0 zero", "-gelu", "c0 * Laplace 4", "c0 * Laplace 8", "c2 amplified"),
    *("c0 mirrored, c2 negated", "c0 * signed shifts", "c0 * random kernels", "c2 * Dirichlet kernels", "c2 + noise"),
    *("rotated", "random signs", "half zero", "negated filters", "largest tap"),
)


Layer = tuple[Array, Array]  # kernels and biases of all blocks


class Edit(NamedTuple):
    """What the weight distortions need; each option uses a part of it."""

    option: Array  # 0..16
    choices: Array  # int [3]: places in SPARSE, EARLY and SPREAD
    blocks: Array  # int [5] in 0..14
    second: Array  # int [5]: 0 for c0, 1 for c2
    turns: Array  # int [5] in 1..3, times 90 degrees
    channel_axes: Array  # bool [5]: rotate in (out, in), not in space
    filters: Array  # int [5, 32]
    amount: Array  # uniform []
    field: Array  # uniform [5, 3, 3, 64, 64]
    taps: Array  # int [64] in 0..8, row-major in a 3x3 kernel
    signs: Array  # [64], 1 or -1
    dirichlet: Array  # [3, 3, 64, 64], every 3x3 of sum 1; zeros for other options


class Signal(NamedTuple):
    """Feed-forward distortion of one image."""

    pre: Array  # 1..4: copied channels, 5% zero, 2.5% negated, none
    body: Array  # 1..5: negated, ReLU or GELU, flipped, skipped modules, none
    copies: Array  # int [5, 2]: (to, from)
    field: Array  # uniform [h, w, 64]
    variant: Array  # uniform []
    survivor: Array  # for body 4 the module, 0..16, whose output remains; else -1


def draw_edits(key: Array, options: Array | None = None) -> Edit:
    """The weight distortions of one set of weights, to be applied in turn; a leading axis.

    options: int [n], instead of three drawn with replacement.
    """
    key = named(key, "edsr/edits")
    if options is None:
        options = jax.random.randint(named(key, "options"), (EDITS,), 0, len(EDIT_NAMES), jnp.int32)
    keys = jax.random.split(key, len(options))
    return lax.map(lambda pair: _draw_edit(*pair), (keys, jnp.asarray(options)))


def _draw_edit(key: Array, option: Array) -> Edit:
    def integers(name, shape, low, high):
        return jax.random.randint(named(key, name), shape, low, high, jnp.int32)

    return Edit(
        option=option,
        choices=integers("choices", (3,), 0, np.array([len(SPARSE), len(EARLY), len(SPREAD)], np.int32)),
        blocks=integers("blocks", (REPEATS,), 0, BLOCKS - 1),
        second=integers("second", (REPEATS,), 0, 2),
        turns=integers("turns", (REPEATS,), 1, 4),
        channel_axes=jax.random.bernoulli(named(key, "axes"), shape=(REPEATS,)),
        filters=integers("filters", (REPEATS, FILTERS), 0, FEATURES),
        amount=jax.random.uniform(named(key, "amount"), (), jnp.float32),
        field=jax.random.uniform(named(key, "field"), (REPEATS, 3, 3, FEATURES, FEATURES), jnp.float32),
        taps=integers("taps", (FEATURES,), 0, 9),
        signs=jnp.where(jax.random.bernoulli(named(key, "signs"), shape=(FEATURES,)), jnp.float32(1), jnp.float32(-1)),
        dirichlet=lax.cond(option == DIRICHLET, _draw_dirichlet, _no_dirichlet, named(key, "dirichlet")),
    )


def _draw_dirichlet(key: Array) -> Array:
    kernels = jax.random.dirichlet(key, jnp.full(9, 0.1, jnp.float32), (FEATURES, FEATURES))
    return jnp.moveaxis(kernels, -1, 0).reshape(3, 3, FEATURES, FEATURES)


def _no_dirichlet(key: Array) -> Array:  # Dirichlet draws are slow
    return jnp.zeros((3, 3, FEATURES, FEATURES), jnp.float32)


def apply_edits(params: dict, edits: Edit) -> dict:
    """The parameters after all of the edits, in turn. Only "body", the residual blocks, changes."""
    dtype = params["body"]["kernel"].dtype

    def step(body, edit):
        edit = jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, edit)
        return lax.switch(edit.option, _OPTIONS, *body, edit), None

    body = (params["body"]["kernel"], params["body"]["bias"])
    kernel, bias = lax.scan(step, body, edits)[0]
    return {**params, "body": {"kernel": kernel, "bias": bias}}


def _sparse(edit: Edit) -> Array:
    return jnp.asarray(SPARSE)[edit.choices[0]]


def _spread(edit: Edit) -> Array:
    return jnp.asarray(SPREAD)[edit.choices[2]]


def _reversed(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = _sparse(edit)
    return kernel.at[i].set(kernel[i, ..., ::-1]), bias.at[i].set(bias[i, :, ::-1])


def _negated(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = jnp.asarray(EARLY)[edit.choices[1]]
    return kernel.at[i, 0].multiply(-1), bias.at[i, 0].multiply(-1)


def _zero(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = _sparse(edit)
    return kernel.at[i, 0].set(0), bias.at[i, 0].set(0)


def _gelu(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = _sparse(edit)
    return kernel.at[i].set(-layers.gelu(kernel[i])), bias


def _laplace(stencil: np.ndarray) -> Callable:
    def apply(kernel: Array, bias: Array, edit: Edit) -> Layer:
        taps = jnp.asarray(stencil, kernel.dtype)[..., None, None]
        return kernel.at[_sparse(edit), 0].multiply(taps), bias

    return apply


def _amplified(kernel: Array, bias: Array, edit: Edit) -> Layer:
    return kernel.at[_sparse(edit), 1].multiply(1 + 4 * edit.amount * edit.field[0]), bias


def _mirrored(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = _sparse(edit)
    return kernel.at[i, 0].set(kernel[i, 0, :, ::-1]).at[i, 1].multiply(-1), bias


def _convolved(kernel: Array, other: Array) -> Array:
    """A kernel [3, 3, I, O], its filters read as O images with I channels, convolved with another one, padding 1."""
    filters = layers.conv(kernel.transpose(3, 0, 1, 2), {"kernel": other, "bias": 0}, 1)
    return filters.transpose(1, 2, 3, 0)


def _signed_shifts(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = _spread(edit)
    taps = (jnp.arange(9)[:, None] == edit.taps) * edit.signs  # one for every input channel, whatever the output
    other = jnp.broadcast_to(taps.reshape(3, 3, FEATURES, 1), kernel.shape[2:]).astype(kernel.dtype)
    return kernel.at[i, 0].set(_convolved(kernel[i, 0], other)), bias


def _random_kernels(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = _sparse(edit)
    return kernel.at[i, 0].set(_convolved(kernel[i, 0], (2 * edit.amount * edit.field[0] - 1) / 6)), bias


def _dirichlet_kernels(kernel: Array, bias: Array, edit: Edit) -> Layer:
    i = _spread(edit)
    return kernel.at[i, 1].set(_convolved(kernel[i, 1], edit.dirichlet)), bias


def _noise(kernel: Array, bias: Array, edit: Edit) -> Layer:
    return kernel.at[edit.blocks[0], 1].add(edit.field[0] - 0.5), bias


def _repeated(change: Callable, drawn_conv: bool = True) -> Callable:
    """The option that changes `REPEATS` kernels [3, 3, 64, 64], each c0 or c2 by the draw, or all of them c0.
    change(kernel, edit, t) gets the number t of the repetition."""

    def apply(kernel: Array, bias: Array, edit: Edit) -> Layer:
        for t in range(REPEATS):
            place = edit.blocks[t], edit.second[t] if drawn_conv else 0
            kernel = kernel.at[place].set(change(kernel[place], edit, t))
        return kernel, bias

    return apply


def _rotated(kernel: Array, edit: Edit, t: int) -> Array:
    variants = [lambda x, q=q, axes=axes: jnp.rot90(x, q, axes) for axes in ((0, 1), (3, 2)) for q in (1, 2, 3)]
    return lax.switch(3 * edit.channel_axes[t] + edit.turns[t] - 1, variants, kernel)


def _random_signs(kernel: Array, edit: Edit, t: int) -> Array:
    return kernel * jnp.where(edit.field[t] < 0.5, 1, -1).astype(kernel.dtype)


def _half_zero(kernel: Array, edit: Edit, t: int) -> Array:
    return kernel * (edit.field[t] < 0.5).astype(kernel.dtype)


def _negated_filters(kernel: Array, edit: Edit, t: int) -> Array:
    return kernel * jnp.ones(FEATURES, kernel.dtype).at[edit.filters[t]].set(-1)


def _largest_tap(kernel: Array, edit: Edit, t: int) -> Array:
    return layers.largest_tap(kernel)


_OPTIONS = (
    *(_reversed, _negated, _zero, _gelu, _laplace(LAPLACE_4), _laplace(LAPLACE_8), _amplified, _mirrored),
    *(_signed_shifts, _random_kernels, _dirichlet_kernels, _noise, _repeated(_rotated)),
    *(_repeated(_random_signs, False), _repeated(_half_zero, False), _repeated(_negated_filters, False)),
    _repeated(_largest_tap),
)


def draw_signal(key: Array, height: int, width: int) -> Signal:
    """The feed-forward distortion of one image of height x width pixels: one of pre 1-4 and one of body 1-5."""
    key = named(key, "edsr/signal")
    skipped = jax.random.randint(named(key, "skipped"), (3,), 2, BLOCKS + 1, jnp.int32)
    left = jnp.ones(BLOCKS + 1, bool).at[skipped].set(False)
    body = jax.random.randint(named(key, "body"), (), 1, 6, jnp.int32)
    return Signal(
        pre=jax.random.randint(named(key, "pre"), (), 1, 5, jnp.int32),
        body=body,
        copies=jax.random.randint(named(key, "copies"), (REPEATS, 2), 0, FEATURES, jnp.int32),
        field=jax.random.uniform(named(key, "field"), (height, width, FEATURES), jnp.float32),
        variant=jax.random.uniform(named(key, "variant"), (), jnp.float32),
        survivor=jnp.where(body == 4, BLOCKS - left[::-1].argmax().astype(jnp.int32), -1),
    )


def distort_head(head: Array, signal: Signal) -> Array:
    """pre 1-4 on the map [N, h, w, 64] behind the head; signal with leading axis N."""
    source = jnp.broadcast_to(jnp.arange(FEATURES), (len(head), FEATURES))
    rows = jnp.arange(len(head))
    for to, origin in (signal.copies[:, i].T for i in range(REPEATS)):  # meant as swaps; the second half sees a copy
        source = source.at[rows, to].set(source[rows, origin])
    copied = jnp.take_along_axis(head, source[:, None, None], axis=-1)
    pre = signal.pre[:, None, None, None]
    factors = jnp.where(pre == 2, signal.field < 0.95, jnp.where((pre == 3) & (signal.field < 0.025), -1, 1))
    return jnp.where(pre == 1, copied, head * factors.astype(head.dtype))


def distort_body(x: Array, signal: Signal, index: Array) -> Array:
    """body 1-3 on the map [N, h, w, 64] behind block `index`, which is block 4 or nothing happens."""

    def change(x):
        body, first = signal.body[:, None, None, None], signal.variant[:, None, None, None] < 1 / 3
        activated = jnp.where(first, jax.nn.relu(x), layers.gelu(x))
        flipped = jnp.where(first, x[:, ::-1, :, ::-1], x[:, :, ::-1, ::-1])
        return jnp.where(body == 1, -x, jnp.where(body == 2, activated, jnp.where(body == 3, flipped, x)))

    return lax.cond(index == AFTER, change, lambda x: x, x)
