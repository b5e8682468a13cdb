"""An evaluation of sets that is killed or stopped goes on where it was; what it says meanwhile."""

import json
import os
import signal

import pytest

from nofrost_jax import progress
from nofrost_jax.evaluation.programs import Programs
from nofrost_jax.evaluation.store import Store
from tests.shift import trees

pytestmark = pytest.mark.usefixtures("compile_once")


class Killed(BaseException):
    pass


def test_goes_on_after_a_kill_at_every_save(cli, copy, imagenet, monkeypatch):
    """Killed after each save, between chunks, sets and cells; nothing is predicted twice, the end is the same."""
    _, run = copy
    asked = [*trees.SUITE, f"--workdir={run}", "--config.evaluation.chunk_size=8", "--config.severities=(2,)"]
    asked += ["--config.corruption_names=fog,snow", "--config.sets=imagenet_r,imagenet_c"]
    write, saves = Store.save, []

    def save(self, chunk, name, arrays, **options):
        write(self, chunk, name, arrays, **options)
        saves.append((self.folder, chunk, name))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", save)
        for _ in range(20):
            try:
                done = cli(*asked)
                break
            except Killed:
                pass
    assert done.returncode == 0 and len(saves) == len(set(saves)) == 2 + 4 + 2  # 13, 30, 4 and 4 images
    found = trees.by_name(trees.read(run))
    assert found["imagenet_r"]["accuracy"] == imagenet[2]["imagenet_r"].correct.mean()
    cells = trees.read(run)["corruptions"]["cells"]
    assert [cell["accuracy"] for cell in cells] == [1 - trees.wrong_in("snow", 2) / 4, 1 - trees.wrong_in("fog", 2) / 4]


def test_sigterm_between_batches(cli, copy, monkeypatch):
    _, run = copy
    asked = [*trees.SUITE, f"--workdir={run}", "--config.sets=imagenet_r"]
    predict, calls = Programs.predict, []

    def stopped(self, *arguments):
        calls.append(1)
        if len(calls) == 5 + 1 + 2:  # five times the first batch of 13 images, the second, two of four
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Programs, "predict", stopped)
        stop = cli(*asked)
        assert stop.returncode == 75 and "run the same command again" in stop.stderr and len(calls) == 8
        assert not (run / "evaluations/shift.json").exists()
        calls.clear()
        assert cli(*asked).returncode == 0 and len(calls) == 4  # of ImageNet-R only


def test_a_result_of_another_suite_is_kept(cli, copy, monkeypatch):
    """The same command renews its own result, whatever the batch; another one is refused at once."""
    _, run = copy
    asked = [*trees.SUITE, f"--workdir={run}", "--config.sets=imagenet_r"]
    assert cli(*asked).returncode == 0
    path, calls, predict = run / "evaluations/shift.json", [], Programs.predict
    before = path.read_bytes()
    monkeypatch.setattr(Programs, "predict", lambda *arguments: calls.append(1) or predict(*arguments))
    for more, words in [
        (["sets=clean"], "sets: 'imagenet_r' -> 'clean'"),
        (["sets="], "sets: 'imagenet_r' -> ''"),
        (["severities=(1,)"], "severities: [1, 2, 3, 4, 5] -> [1]"),
        (["evaluation.limit=5"], "evaluation.limit: 0 -> 5"),
        (["shift.imagenet_r.label_set=all"], "shift.imagenet_r.label_set: 'imagenet_r' -> 'all'"),
    ]:
        refused = cli(*asked, *(f"--config.{one}" for one in more))
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused
        assert words in refused.stderr and "--config.evaluation.name=shift_2" in refused.stderr, refused.stderr
        assert str(path) in refused.stderr and path.read_bytes() == before and not calls
    told = cli("--mode=dry_run", *asked[1:], "--config.sets=clean")
    assert told.returncode == 0 and "note: " in told.stdout and "--config.evaluation.name=shift_2" in told.stdout
    assert cli(*asked, "--config.sets=clean", "--config.evaluation.name=shift_2").returncode == 0
    assert path.read_bytes() == before and list(trees.by_name(trees.read(run, "shift_2"))) == ["clean"]
    assert "name=shift_3" in cli(*asked, "--config.sets=clean").stderr
    for more in ([], ["--config.shift.imagenet_r.what=Renditions", "--config.evaluation.batch_size=16"]):
        path.write_text(json.dumps(trees.read(run)).replace('"accuracy"', '"old"'))
        assert cli(*asked, *more).returncode == 0 and "accuracy" in trees.read(run)["shift"][0]
    path.write_text('{"schema": 1, "attacks": []}')
    refused = cli(*asked)
    assert refused.returncode == 2 and "another evaluation" in refused.stderr


def test_progress_tells_the_time_left(cli, copy, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", -1)
    done = cli(*trees.SUITE, f"--workdir={copy[1]}", "--config.sets=imagenet_r")
    lines = [line for line in done.stdout.splitlines() if "predictions, " in line]
    assert len(lines) == 2 + 4 and all("/s" in line for line in lines)
    assert "imagenet_r: 43 of 43 predictions" in lines[-1] and lines[-1].endswith(" 0 s left")
