"""What the profile task makes of traces: one as a GPU writes it, and the real one of a CPU."""

import gzip

import jax
import jax.numpy as jnp
import pytest

from benchmarks.tasks import profile

GPU = """
planes { name: "/host:CPU" lines { name: "python" events { metadata_id: 1 duration_ps: 9000000 } }
  event_metadata { key: 1 value { id: 1 name: "step" } } }
planes { name: "/device:GPU:0"
  lines { name: "CUPTI overhead"
    events { metadata_id: 6 offset_ps: 0 duration_ps: 9000000 }
    events { metadata_id: 1 offset_ps: 0 duration_ps: 4000000 stats { metadata_id: 1 ref_value: 2 } }
    events { metadata_id: 2 offset_ps: 4000000 duration_ps: 1000000 stats { metadata_id: 4 str_value: "regs:32" } }
    events { metadata_id: 3 offset_ps: 8000000 duration_ps: 1000000 stats { metadata_id: 4 str_value: "regs:32" } }
    events { metadata_id: 1 offset_ps: 9000000 duration_ps: 1000000 stats { metadata_id: 1 ref_value: 3 } } }
  lines { name: "Stream #14(MemcpyD2D)"
    events { metadata_id: 4 offset_ps: 4500000 duration_ps: 1500000 stats { metadata_id: 5 str_value: "size:9" } } }
  lines { name: "XLA Modules"
    events { metadata_id: 5 offset_ps: 0 duration_ps: 10000000 stats { metadata_id: 1 ref_value: 3 } } }
  event_metadata { key: 1 value { id: 1 name: "sm90_xmma_fprop_implicit_gemm_bf16" } }
  event_metadata { key: 2 value { id: 2 name: "loop_convert_fusion_7" } }
  event_metadata { key: 3 value { id: 3 name: "input_reduce_fusion" } }
  event_metadata { key: 4 value { id: 4 name: "MemcpyD2D" } }
  event_metadata { key: 5 value { id: 5 name: "jit_step" } }
  event_metadata { key: 6 value { id: 6 name: "Overhead" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
  stat_metadata { key: 2 value { id: 2 name: "cudnn-conv.2" } }
  stat_metadata { key: 3 value { id: 3 name: "cudnn-conv.3" } }
  stat_metadata { key: 4 value { id: 4 name: "kernel_details" } }
  stat_metadata { key: 5 value { id: 5 name: "memcpy_details" } } }
"""
HLO = """HloModule jit_step

%fused_computation (p: f32[4]) -> f32[4] {
  %p = f32[4] parameter(0)
  %negate.1 = f32[4] negate(%p), metadata={op_name="jit(step)/transpose(jvp(Net))/head/neg" stack_frame_id=3}
  ROOT %convert.2 = f32[4] convert(%negate.1)
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4] parameter(0), metadata={op_name="x"}
  %loop_convert_fusion.7 = f32[4] fusion(%x), kind=kLoop, calls=%fused_computation
  ROOT %cudnn-conv.2 = f32[4] custom-call(%x), metadata={op_type="c" op_name="jit(step)/jvp()/while/body/jvp(Net)/conv"}
}
"""


@pytest.fixture
def gpu_trace(tmp_path):
    path = tmp_path / "host.xplane.pb"
    path.write_bytes(jax.profiler.ProfileData.text_proto_to_serialized_xspace(GPU))
    return path


def test_a_gpu_s_trace_is_summarized(gpu_trace):
    events = list(profile.read_events(gpu_trace))
    assert len(events) == 5  # neither the host's, nor the profiler's own, nor the whole module
    summary = profile.summarize(events, profile.scopes(HLO))
    assert summary["milliseconds"] == pytest.approx(0.01)
    assert summary["idle_share"] == pytest.approx(0.2)  # from 6 to 8 of 10 us; two streams at once count once
    assert [row["operation"] for row in summary["operations"]][:2] == ["cudnn-conv.2", "MemcpyD2D"]
    assert summary["operations"][0]["share"] == pytest.approx(4 / 8.5)
    assert summary["operations"][0]["kernel"].startswith("sm90_xmma")
    assert summary["names"]["cudnn-conv"] == pytest.approx(5 / 8.5)
    assert summary["kinds"] == pytest.approx(
        {
            "convolution or matrix product": 5 / 8.5,
            "copy or layout": 1.5 / 8.5,
            "elementwise": 1 / 8.5,
            "reduction": 1 / 8.5,
        }
    )
    assert summary["phases"] == pytest.approx(
        {"attack, forward": 4 / 8.5, "training, backward": 1 / 8.5, "unknown": 3.5 / 8.5}
    )


def test_a_cpu_s_trace_has_its_operations_and_no_loop(tmp_path):
    program = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x @ x), x))
    x = jnp.ones((64, 64))
    compiled = program.lower(x).compile()
    profile.trace(lambda: jax.block_until_ready(compiled(x)), tmp_path)
    (path,) = tmp_path.rglob("*.xplane.pb")
    events = list(profile.read_events(path))
    assert len(events) >= 2 * 3 * profile.STEPS
    assert not any(event.operation.startswith("while") for event in events)
    summary = profile.summarize(events, profile.scopes(compiled.as_text()))
    assert sum(summary["kinds"].values()) == pytest.approx(1) and summary["idle_share"] < 1
    assert any("dot_general" in row["scope"] for row in summary["operations"])


def test_a_trace_that_cannot_be_read_is_kept(tmp_path):
    path = tmp_path / "host.xplane.pb"
    path.write_bytes(b"another format")
    profile.keep([path], str(tmp_path / "profile.json"))
    assert gzip.decompress((tmp_path / "profile.0.xplane.pb.gz").read_bytes()) == b"another format"
