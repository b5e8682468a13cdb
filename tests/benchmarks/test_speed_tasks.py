"""The accelerator queue's measurements of speed, in miniature."""

import json
import sys

import pytest

from benchmarks.tasks import ceiling


@pytest.fixture
def rehearse(tmp_path, monkeypatch):
    """A function that runs a task in this process and returns its result file's content."""

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
    rates = [figures[f"matmul_bfloat16_{size}"]["tera_operations_per_second"] for size in (128, 256)]
    assert 0 < figures["best"]["bfloat16"] == max(rates)
    assert figures["matmul_float32_highest_256"]["relative_error"] < 1e-6
    assert 1e-4 < figures["matmul_bfloat16_256"]["relative_error"] < 1e-2
    figures["best"] |= {"bfloat16": 990.0, "copy": 4.0}
    figures["matmul_bfloat16_128"]["relative_error"] = float("nan")
    assert len(ceiling.doubts("NVIDIA H200", figures)) == 2
    assert len(ceiling.doubts("NVIDIA H100 80GB HBM3", figures)) == 3
    assert len(ceiling.doubts("cpu", figures)) == 1
