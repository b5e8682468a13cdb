"""The tables of an accelerator's speed, from results made by hand."""

import pytest

from nofrost_jax.report import accelerator, speed


def test_tables_of_speed():
    ours = {
        "images_per_second": 1234.5,
        "bound_on_h100": 1400.4,
        "memory": {"program_bytes": 3 << 30},
        "share_of_matrix_rate": 0.325,
        "compile_seconds": 41.2,
        "compilation": "cold",
    }
    train_step = {
        "matrix rate bfloat16": {"tera_operations_per_second": 790.0},
        "resnet50 float32 256": {"out_of_memory": "RESOURCE_EXHAUSTED"},
        "nf_resnet50 bfloat16 128": ours,
        "nf_resnet50 bfloat16 64": ours | {"compilation": "cached"},
        "nf_resnet50 bfloat16 128 parts": {"step_over_parts": 0.951, "cached_compile_seconds": 2.6},
        "nf_resnet50 float32 128": {"failed": "INTERNAL: no", "attempts": 1},
        "resnet50 float32 256 parts": {"out_of_memory": "RESOURCE_EXHAUSTED"},
    }
    tuned = {"images_per_second": 999.9, "peak_bytes": 1 << 29, "first_step_seconds": 61.2, "loss": 7.0}
    torch_step = {"nf_resnet50 tuned 128": tuned}
    operations = [{"operation": "conv.1", "share": 0.25, "kernel": "k", "scope": "jit(step)/stem"}]
    options = {
        "input gradient": {"seconds": {"median": 0.01}},
        "as it is": {"seconds": {"median": 0.1}, "over_parts": 1.0},
        "another": {"seconds": {"median": 0.08}, "over_own_way": 0.8, "predicted_over_own_way": 0.95},
        "with a flag": {"seconds": {"median": 0.12}, "over_own_way": 1.2, "predicted_over_own_way": None},
        "huge": {"out_of_memory": "RESOURCE_EXHAUSTED"},
    }
    results = {
        "train_step": {"figures": train_step},
        "options": {"figures": options},
        "torch_step": {"figures": torch_step},
        "profile": {"figures": {"operations": operations}},
    }
    (head, rows, _), (_, ways, _), (_, profile, _) = speed.tables(results)
    assert rows == [
        ["NF-ResNet50", "ours, bfloat16", "64", "1234", "1400", "3.0", "32", "–", "–", "–"],
        ["NF-ResNet50", "ours, bfloat16", "128", "1234", "1400", "3.0", "32", "0.95", "41", "3"],
        ["NF-ResNet50", "ours, float32", "128", "failed", "–", "–", "–", "–", "–", "–"],
        ["NF-ResNet50", "PyTorch, tuned", "128", "1000", "–", "0.5", "–", "–", "61", "–"],
        ["ResNet50, BN", "ours, float32", "256", "too large", "–", "–", "–", "–", "–", "–"],
    ]
    assert ways == [
        ["as it is (1.000 of ten input gradients)", "100.0", "–", "–"],
        ["another", "80.0", "0.800", "0.950"],
        ["with a flag", "120.0", "1.200", "–"],
    ]
    assert len(head) == 10 and profile == [["conv.1", "`jit(step)/stem`", "25.0"]]
    assert speed.tables({"ceiling": {"figures": {}}}) == []
    page = accelerator.render({"GPU 9": {name: result | {"complete": False} for name, result in results.items()}})
    assert (
        "| NF-ResNet50 | PyTorch, tuned | 128 | 1000 | – | 0.5 |" in page
        and "| conv.1 | `jit(step)/stem` | 25.0 |" in page
    )


def test_a_folder_without_results_is_one_clear_line(tmp_path, capsys):
    speed.main([str(tmp_path)])
    assert capsys.readouterr().out == speed.NONE + "\n"


def test_the_command_prints_each_device(tmp_path, capsys):
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "correct.json").write_text('{"complete": true, "figures": {}, "device": "some GPU"}')
    speed.main([str(tmp_path)])
    assert capsys.readouterr().out == "**some GPU**\n\nNothing on speed was measured here.\n"
    (tmp_path / "gpu" / "correct.json").write_text("{")
    with pytest.raises(SystemExit) as stop:
        speed.main([str(tmp_path)])
    assert stop.value.code == 2 and "is not a result of benchmarks/accelerator.py" in capsys.readouterr().err
