"""What a run says, and writes: screen, metrics.jsonl, TensorBoard, parameters.txt."""

import contextlib
import json
import math
import re

import pytest

from nofrost_jax import files, metrics, train
from tests.conftest import finish, sharing_compiled, start, tiny_args, tiny_config


@pytest.fixture(scope="module")
def logged(tmp_path_factory, compilation_cache):
    """The folder of a tiny run with TensorBoard."""
    folder = tmp_path_factory.mktemp("logged") / "run"
    screen = (folder.parent / "screen.txt").open("w")
    with sharing_compiled(compilation_cache), screen, contextlib.redirect_stdout(screen):
        train.train(tiny_config(log__tensorboard=True), str(folder))
    return folder


@pytest.fixture(scope="module")
def screen(logged):
    return (logged.parent / "screen.txt").read_text()


@pytest.fixture(scope="module")
def lines(logged):
    return [json.loads(line) for line in (logged / "metrics.jsonl").read_text().splitlines()]


def test_metrics_file(lines):
    trained = [line for line in lines if "train/loss" in line]
    evaluated = [line for line in lines if "eval/clean" in line]
    assert [line["step"] for line in lines] == [3, 5, 6, 9, 10, 12, 15]
    assert [line["step"] for line in evaluated] == [5, 10]
    assert len(trained) + len(evaluated) == len(lines)
    for line in evaluated:
        assert set(line) == {"step", "eval/clean", "eval/pgd_20"}
        assert 0 <= line["eval/pgd_20"] <= line["eval/clean"] <= 1
    for line in trained:
        assert {"train/loss", "train/clean_accuracy", "train/adversarial_accuracy", "train/gradient_norm"} <= set(line)
        assert not any("second" in name or "speed" in name for name in line)  # the same run writes the same bytes
        assert 1 < line["train/loss"] < 4 and abs(line["train/perturbation_linf_255"] - 38.25) < 1e-3
        epoch = (line["step"] - 1) // 5  # the rate that the last step of the window was taken with
        assert math.isclose(line["train/learning_rate"], 0.15 * (1 + math.cos(math.pi * epoch / 3)), rel_tol=1e-6)


def test_tensorboard_events(logged, lines):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(logged)).Reload()
    for name in ("train/loss", "train/learning_rate", "eval/clean", "eval/pgd_20"):
        found = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(name)]
        expected = [(line["step"], line[name]) for line in lines if name in line]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    speeds = [float(make_ndarray(event.tensor_proto)) for event in events.Tensors("speed/images_per_second")]
    assert len(speeds) == 5 and min(speeds) > 0


def test_screen(screen):
    shown = screen.splitlines()
    head, *rest = shown
    assert head == "resnet26: 1,394 parameters; 15 steps of 256 images (5 an epoch) on 1 process x 8 devices (cpu)"
    assert rest[0] == "compiling the training step ..." and re.fullmatch(r"compiled in \d+ s", rest[1])
    compiled = [line for line in screen.splitlines() if line.startswith("compiling")]
    # Each program once, whatever happens on the way: the evaluations during the run and after it share theirs.
    assert compiled == ["compiling the training step ...", "compiling the verdict ...", "compiling pgd 2 ..."]
    progress = [line for line in shown if line.startswith("step ")]
    assert [line.split()[1] for line in progress] == ["3/15", "6/15", "9/15", "12/15", "15/15"]
    pattern = (
        r"step \d+/15  epoch \d\.\d  loss \d\.\d{3}  clean 0\.\d{3}  adversarial 0\.\d{3}  \d+ images/s  \d+ s left"
    )
    assert all(re.fullmatch(pattern, line) for line in progress), progress
    assert progress[-1].endswith(" 0 s left")
    assert re.search(r"evaluated step 5: clean \d+\.\d+%  pgd_20 \d+\.\d+%  \(\d+ s\)", screen)
    assert "evaluating clean, pgd_20 on 360 validation images of digits ..." in shown
    assert "digits, 360 validation images, step 15" in shown
    assert sum("not run" in line for line in shown) == 2  # both AutoAttack protocols have their line
    assert shown[-1].startswith("written: ") and "evaluations/final.json" in shown[-1]


def test_parameter_overview(logged):
    text = (logged / "parameters.txt").read_text()
    assert "head/kernel" in text and "(16, 10)" in text and "Total: 1,394" in text


@pytest.mark.slow
def test_without_tensorboard_a_run_says_so_once_and_goes_on(tmp_path, compilation_cache):
    """Also: `--compilation_cache` fills its folder, and a second run finds the step there."""
    block = (
        "import runpy, sys; sys.modules.update(clu=None, tensorflow=None); sys.argv[0] = 'main.py';"
        "runpy.run_path('main.py', run_name='__main__')"
    )
    args = [*tiny_args(tmp_path / "run", log__tensorboard=True), f"--compilation_cache={compilation_cache}/own"]
    outcome = finish(start("-c", block, *args))
    assert outcome.returncode == 0 and outcome.stderr == "", outcome
    told = [line for line in outcome.stdout.splitlines() if "TensorBoard" in line]
    assert len(told) == 1 and "metrics.jsonl has every number" in told[0]
    assert not list((tmp_path / "run").glob("events*"))
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 7
    assert "Total: 1,394" in (tmp_path / "run/parameters.txt").read_text()
    assert (tmp_path / "run/evaluations/final.json").exists()
    assert any(path.stat().st_size > 10_000 for path in (compilation_cache / "own").iterdir())


def test_reading_a_run_loads_neither_tensorflow_nor_clu(logged):
    code = (
        "import sys, numpy, nofrost_jax\n"
        f"classifier = nofrost_jax.load({str(logged)!r})\n"
        "print(classifier(numpy.zeros((2, 8, 8, 3), numpy.uint8)).shape, classifier.parameter_count)\n"
        "print(sorted({'tensorflow', 'clu', 'tensorflow_datasets', 'tensorboard'} & set(sys.modules)))"
    )
    outcome = finish(start("-c", code))
    assert outcome.returncode == 0 and outcome.stderr == "", outcome
    assert outcome.stdout.splitlines() == ["(2, 10) 1394", "[]"]


def test_lines_after_a_save_are_dropped_and_changed_ones_are_told(tmp_path, capsys):
    first, path, damaged = (
        metrics.Writer(str(tmp_path), tensorboard=False),
        tmp_path / "metrics.jsonl",
        tmp_path / "metrics.jsonl.damaged",
    )
    for step in (1, 2, 3):
        first.write(step, {"loss": 2.5 * step})
    saved, lines = first.written, path.read_bytes().splitlines(keepends=True)
    first.write(3, {"eval/clean": 0.5})  # due when it was saved: it is measured again
    first.write(4, {"loss": 2.25})
    whole, (one, two, three) = path.read_bytes(), lines
    for found, kept in (
        (whole + b'{"st', one + two + three),
        (whole.replace(b"2.5", b"2.6"), one.replace(b"2.5", b"2.6") + two + three),
        (whole.replace(two, b""), one + three),
        (whole.replace(two, two[:9] + b"\n"), one + three),
        (whole[: len(one) + 5], one),
        (b"", b""),
    ):
        is_whole = kept == one + two + three
        path.write_bytes(found)
        for _ in range(2):  # the second time before anything else is saved
            again = metrics.Writer(str(tmp_path), tensorboard=False)
            again.rewind(3, saved, drop_evaluation=True)
            assert path.read_bytes() == kept
            assert again.written == {"bytes": len(kept), "sha256": files.sha256(kept)}
            assert (f"{path} is not what was written" in capsys.readouterr().out) == (not is_whole)
            assert is_whole or not found or damaged.read_bytes() == found
        again.rewind(0)
        assert path.read_bytes() == b""
        damaged.unlink(missing_ok=True)
