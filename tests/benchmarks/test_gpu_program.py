"""What is read of a program for a GPU, by a text whose every number is counted by hand; and the options' arithmetic."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gpu_program, hlo, options
from nofrost_jax.models import convolutions

HLO = """HloModule jit_step

%fused_slice (p.0: bf16[8,4], p.1: f32[4]) -> (f32[2,4], bf16[2,4]) {
  %p.0 = bf16[8,4]{1,0} parameter(0)
  %p.1 = f32[4]{0} parameter(1)
  %slice.1 = bf16[2,4]{1,0} slice(%p.0), slice={[0:2], [0:4]}
  %convert.1 = f32[2,4]{1,0} convert(%slice.1)
  %broadcast.1 = f32[2,4]{1,0} broadcast(%p.1), dimensions={1}
  %multiply.1 = f32[2,4]{1,0} multiply(%convert.1, %broadcast.1), metadata={op_name="jit(step)/while/body/mul"}
  %convert.2 = bf16[2,4]{1,0} convert(%multiply.1)
  ROOT %tuple.1 = (f32[2,4]{1,0}, bf16[2,4]{1,0}) tuple(%multiply.1, %convert.2)
}

%gemm (p.2: f32[5,7], p.3: f32[7,3]) -> f32[5,3] {
  %p.2 = f32[5,7]{1,0} parameter(0)
  %p.3 = f32[7,3]{1,0} parameter(1)
  ROOT %dot.1 = f32[5,3]{1,0} dot(%p.2, %p.3), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (arg: (s32[], bf16[8,4], f32[4])) -> (s32[], bf16[8,4], f32[4]) {
  %arg = (s32[], bf16[8,4]{1,0}, /*index=2*/f32[4]{0}) parameter(0)
  %gte.1 = bf16[8,4]{1,0} get-tuple-element(%arg), index=1
  %gte.2 = f32[4]{0} get-tuple-element(%arg), index=2
  %part = (f32[2,4]{1,0}, bf16[2,4]{1,0}) fusion(%gte.1, %gte.2), kind=kLoop, calls=%fused_slice
  ROOT %t = (s32[], bf16[8,4]{1,0}, f32[4]{0}) tuple(%gte.1, %gte.1, %gte.2)
}

ENTRY %main (x: bf16[2,8,8,4], k: bf16[6,3,3,4], left: f32[5,7], right: f32[7,3]) -> bf16[6,3,3,4] {
  %x = bf16[2,8,8,4]{3,2,1,0} parameter(0)
  %k = bf16[6,3,3,4]{3,2,1,0} parameter(1)
  %y = (bf16[2,8,8,6]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/jvp(Net)/conv"}
  %y.1 = bf16[2,8,8,6]{3,2,1,0} get-tuple-element(%y), index=0
  %dx = (bf16[2,8,8,4]{3,2,1,0}, u8[0]{0}) custom-call(%y.1, %k), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %dk = (bf16[6,3,3,4]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y.1), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %loop = (s32[], bf16[8,4]{1,0}, f32[4]{0}) while(%y), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"10"}}
  %product = f32[5,3]{1,0} fusion(%left, %right), kind=kCustom, calls=%gemm
  %left = f32[5,7]{1,0} parameter(2)
  %right = f32[7,3]{1,0} parameter(3)
  ROOT %result = bf16[6,3,3,4]{3,2,1,0} get-tuple-element(%dk), index=0
}
"""


def test_kernels_are_counted_as_by_hand():
    found = {kernel.name: kernel for kernel in hlo.kernels(HLO)}
    assert list(found) == ["y", "dx", "dk", "part", "product"]
    x, y, k = 2 * 2 * 8 * 8 * 4, 2 * 2 * 8 * 8 * 6, 2 * 6 * 3 * 3 * 4  # bytes
    assert [found[name].kind for name in ("y", "dx", "dk")] == ["forward", "input gradient", "filter gradient"]
    assert {found[name].operations for name in ("y", "dx", "dk")} == {2 * (2 * 8 * 8 * 6) * (3 * 3 * 4)}
    assert [found[name].bytes for name in ("y", "dx", "dk")] == [x + y + k] * 3
    part = found["part"]
    assert part.loop and part.times == 10 and part.scope == "jit(step)/while/body/mul"
    assert (part.bytes_read, part.bytes_written) == (2 * 8 + 4 * 4, 4 * 8 + 2 * 8)  # of the map two rows alone
    assert part.operations == 3 * 8  # two casts and a product
    assert (found["product"].kind, found["product"].operations) == ("product", 2 * 5 * 3 * 7)


def test_a_program_is_bound_by_its_memory_or_by_its_arithmetic():
    kernels = hlo.kernels(HLO)
    found = gpu_program.describe(kernels, batch_size=2)
    assert found["kernels"] == found["small_kernels"] == 4 + 10
    least = sum(kernel.times * kernel.bytes for kernel in kernels) / gpu_program.BANDWIDTH
    assert found["seconds"] == pytest.approx(least) and found["images_per_second"] == pytest.approx(2 / least)
    assert found["convolutions"]["rest, forward, bf16, b01f_o01i->b01f"] == 1
    (busy,) = [kernel for kernel in kernels if kernel.name == "product"]
    busy = dataclasses.replace(busy, operations=494.7e12)
    assert gpu_program.bound(busy) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["1x1 convolutions as products", "stem on 12 channels", "max pool by slices"])
def test_an_option_computes_the_same(name, monkeypatch):
    monkeypatch.setenv("NOFROST_CONV", "xla")
    rng = np.random.default_rng(0)
    some = [((2, 8, 8, 3), (7, 7, 3, 5), 2), ((2, 7, 7, 3), (1, 1, 3, 5), 2), ((2, 8, 8, 3), (3, 3, 3, 5), 1)]

    def results():
        for shape, kernel, stride in some:
            x, kernel = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in (shape, kernel))
            yield convolutions.conv2d(x, kernel, stride, kernel.shape[0] // 2)
            yield jax.grad(lambda x: (convolutions.max_pool(x) ** 2).sum())(x)

    usual = list(results())
    rng = np.random.default_rng(0)
    with options.OPTIONS[name].applied():
        changed = list(results())
    for one, other in zip(usual, changed, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
