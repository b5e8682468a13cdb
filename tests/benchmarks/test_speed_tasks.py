"""The accelerator queue's measurements of speed, in miniature."""

import json
import os
import sys
import types

import jax
import pytest

from benchmarks.tasks import ceiling, rows, train_step


@pytest.fixture
def rehearse(tmp_path, monkeypatch):
    """A function that runs a task in this process and returns its result file's content."""
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.setenv(name, "0.5")  # and put back what was there

    def run(module, *arguments):
        path = tmp_path / f"{module.__name__.rpartition('.')[2]}.json"
        monkeypatch.setattr(sys, "argv", ["task", f"--output={path}", "--rehearse", *arguments])
        module.main()
        return json.loads(path.read_text())

    return run


def test_the_ceiling_is_measured_and_right(rehearse):
    result = rehearse(ceiling)
    figures = result["figures"]
    assert result["complete"] and not figures["notes"]
    rates = [figures[f"matmul_bfloat16_{size}"]["tera_operations_per_second"] for size in (64, 128, 256)]
    assert 0 < figures["best"]["bfloat16"] == max(rates)
    assert figures["matmul_float32_highest_128"]["relative_error"] < 1e-6
    assert 1e-4 < figures["matmul_bfloat16_128"]["relative_error"] < 1e-2
    figures["best"] |= {"bfloat16": 990.0, "copy": 4.0}
    figures["matmul_bfloat16_128"]["relative_error"] = float("nan")
    assert len(ceiling.doubts("NVIDIA H200", figures)) == 2
    assert len(ceiling.doubts("NVIDIA H100 80GB HBM3", figures)) == 3
    assert len(ceiling.doubts("cpu", figures)) == 1


def test_the_ceiling_is_told_with_one_of_each_kind(rehearse, monkeypatch):
    """Other sizes are left out where there is no time."""
    work, seconds = [], iter([9.0] * 4 + [1.0] * 9)
    monkeypatch.setattr(ceiling.common.Task, "left", lambda task: next(seconds))
    monkeypatch.setattr(ceiling, "matmul", lambda kind, size, _: work.append(kind) or {**rate, "relative_error": 1e-5})
    monkeypatch.setattr(ceiling, "copy", lambda *_: work.append("copy") or {"tera_bytes_per_second": 2.0})
    rate = {"tera_operations_per_second": 3.0}
    result = rehearse(ceiling)
    assert work == ["bfloat16", "copy", "float32", "float32_highest"]
    assert result["complete"] and result["headline"] == "TF/s: bf16 3, f32 3, f32 highest 3; copy 2 TB/s"


@pytest.mark.usefixtures("compile_once")
@pytest.mark.slow
def test_a_row_of_the_training_step(rehearse, monkeypatch):
    row = train_step.Row("resnet50", "float32", 4, rehearse=True)
    work = {row.name: (train_step.step_figures, row), "parts": (train_step.parts_figures, row)}
    monkeypatch.setattr(train_step, "work_of", lambda rehearse: work)
    figures = rehearse(train_step)["figures"]
    step, seconds = figures[row.name], figures[row.name]["seconds"]["median"]
    assert step["images_per_second"] == pytest.approx(4 / seconds)
    # 12 forward passes, 10 backward to the image and 2 to all, which count double. One by hand: 16 x 16 pixels of the
    # stem's 8 channels x 27, and of the block's (64 + 576 + 256 + 256), x 2; less at the borders.
    by_hand = 16 * 16 * (8 * 27 + 64 + 576 + 256 + 256) * 2
    assert step["tera_operations"] * 1e12 / (4 * 26) == pytest.approx(by_hand, rel=0.1)
    matrix_rate = figures["matrix rate float32"]["tera_operations_per_second"]
    assert step["share_of_matrix_rate"] * matrix_rate * seconds == pytest.approx(step["tera_operations"])
    assert step["memory"]["program_bytes"] > 4 * 16 * 16 * 3 * 4 and 2 < step["loss"] < 3
    assert step["matmul_precision"] == step["jax_default_matmul_precision"] == "default"
    assert 0 < figures["parts"]["cached_compile_seconds"] < step["compile_seconds"]
    assert os.environ["XLA_CLIENT_MEM_FRACTION"] == "0.92" and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ
    parts = 10 * figures["parts"]["input_gradient_seconds"] + figures["parts"]["parameter_gradient_seconds"]
    assert figures["parts"]["step_over_parts"] == pytest.approx(seconds / parts)


def test_what_does_not_fit_is_recorded_and_what_fails_is_tried_twice(rehearse, monkeypatch):
    calls, some = [], [train_step.Row(name, "bfloat16", 4, rehearse=True) for name in ("huge", "broken", "good")]

    def measure(task, row):
        calls.append(row.model)
        if row.model == "good":
            return {"images_per_second": 1.0, "share_of_matrix_rate": 0.5, "dtype": "bfloat16"}
        reason = {"huge": "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.", "broken": "INTERNAL: no"}[row.model]
        raise jax.errors.JaxRuntimeError(reason)

    monkeypatch.setattr(train_step, "work_of", lambda rehearse: {row.name: (measure, row) for row in some})
    with pytest.raises(RuntimeError, match="broken bfloat16 4: INTERNAL: no") as failure:
        rehearse(train_step)
    assert calls == ["huge", "broken", "good"]
    assert not failure.value.__context__  # whose frames would hold what the row had on the device
    result = rehearse(train_step)
    assert calls[3:] == ["broken"]  # what was measured, or did not fit, is not tried again
    assert "Out of memory" in result["figures"]["huge bfloat16 4"]["out_of_memory"]
    assert result["complete"]
    assert result["headline"].endswith("too large: huge bfloat16 4; failed: broken bfloat16 4")
    rehearse(train_step)
    assert len(calls) == 4


def test_a_row_is_begun_where_its_kind_fits(monkeypatch):
    """A program that compiled for long does not keep another one's next row from the time that is left."""
    clock, begun = [0.0], []
    task = types.SimpleNamespace(figures={}, left=lambda: 100 - clock[0])
    task.record = task.figures.__setitem__
    monkeypatch.setattr(rows.time, "perf_counter", lambda: clock[0])

    def measure(task, row):
        begun.append((row.program, row.batch))
        clock[0] += 60 if row.program == "tuned" else 10
        return {}

    some = [types.SimpleNamespace(program=program, batch=batch) for batch in (1, 2) for program in ("plain", "tuned")]
    assert not rows.work_through(task, {f"{row.program} {row.batch}": (measure, row) for row in some})
    assert begun == [("plain", 1), ("tuned", 1), ("plain", 2)]


def test_the_most_wanted_rows_come_first():
    names = list(train_step.work_of(rehearse=False))
    assert names[:3] == ["nf_resnet50 bfloat16 128", "resnet50 bfloat16 128", "nf_resnet50 float32 128"]
    assert names[4] == "nf_resnet50 bfloat16 128 parts" and len(names) == 16
