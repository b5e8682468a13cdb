"""The accelerator queue in miniature, as a command on a CPU, where TensorFlow, tfds and clu are not installed."""

import json
import os
import re

import pytest

from benchmarks import accelerator
from benchmarks.tasks import study
from tests.conftest import finish, start

WITHOUT = """
import importlib.machinery, sys

HIDDEN = {"tensorflow", "tensorflow_datasets", "clu"}

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""

MEASURED_ELSEWHERE = ("ceiling", "train_step")  # in test_speed_tasks.py

SHORT_OF_TIME = """
import itertools, os, sys
sys.path[0] = os.getcwd()
from benchmarks.tasks import common, study

asked = itertools.count()
common.Task.left = lambda task: 999 if next(asked) < 8 else 0  # it is asked at each step, and at times before
study.main()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory, compilation_cache):
    """Variables under which Python finds none of what a rented machine lacks, and compiled programs are shared."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "sitecustomize.py").write_text(WITHOUT)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "JAX_COMPILATION_CACHE_DIR": str(compilation_cache)}


@pytest.mark.slow
def test_every_task_runs_without_tensorflow_and_clu(environment, tmp_path):
    pytest.importorskip("pyautoattack"), pytest.importorskip("timm")
    names = ("tensorflow", "clu")
    code = f"import importlib.util; print([name for name in {names} if importlib.util.find_spec(name)])"
    assert finish(start("-c", code, **environment)).stdout == "[]\n"
    tasks = [task.name for task in accelerator.TASKS if task.kind != "study" and task.name not in MEASURED_ELSEWHERE]
    command = ("benchmarks/accelerator.py", "--rehearse", "--minutes=25", f"--output={tmp_path}")
    outcome = finish(start(*command, f"--only={','.join(tasks)}", **environment), timeout=1600)
    assert outcome.returncode == 0, outcome.stdout
    table = [line.split()[:2] for line in outcome.stdout.splitlines()[-len(tasks) :]]
    assert table == [[name, "done"] for name in tasks]
    results = {name: json.loads((tmp_path / "cpu" / f"{name}.json").read_text()) for name in tasks}
    assert all(result["complete"] and result["rehearsal"] and result["device"] == "cpu" for result in results.values())
    correct = results["correct"]["figures"]
    resumed = results["resume"]["figures"]["deterministic"]
    assert resumed["bitwise"] and resumed["metrics are equal"] and "deterministic" in resumed["XLA_FLAGS"]
    pgd = correct["attacks/pgd"]["highest"]
    assert pgd["robust, images that differ"] == 0 and pgd["robust, of 20"] < pgd["right, of 20"]
    assert 0 < pgd["adversarial images"] < 1e-5  # from the same random starts
    assert 0 < correct["nets/nf_resnet26"]["highest"]["input gradient"] < 1e-5
    assert 0 < correct["steps/sat"]["highest"]["change of the parameters"] < 1e-3
    peer = results["attacks"]["figures"]["resnet50/0"]
    assert peer["largest_logit_difference"] < 1e-4 and peer["our_robust_accuracy"] == peer["peer_robust_accuracy"]
    assert sorted(os.listdir(tmp_path)) == ["cpu"]


@pytest.mark.slow
def test_a_row_without_time_leaves_what_the_next_one_goes_on_from(environment, tmp_path):
    output = tmp_path / "cpu" / "study_sat_seed1.json"
    seed_0 = {"figures": {"epochs": 3}}
    output.parent.mkdir()
    (output.parent / "study_sat_seed0.json").write_text(json.dumps(seed_0))
    options = ("--seed=1", f"--output={output}", "--rehearse")
    short = finish(start("-c", SHORT_OF_TIME, *options, **environment))
    assert short.returncode == 0, short
    first = json.loads(output.read_text())
    assert not first["complete"] and first["figures"]["epochs"] == 3
    (step,) = re.findall(r"step (\d+) is saved", first["figures"]["stopped"])
    assert 0 < int(step) < 15
    (packed,) = study.parts(output)
    content = packed.read_bytes()
    packed.write_bytes(content[:1000])  # as if it did not fit one part
    packed.with_suffix(".run1").write_bytes(content[1000:])
    rest = finish(start("-m", "benchmarks.tasks.study", *options, **environment))
    assert f"resuming from the checkpoint of step {step}\n" in rest.stdout
    result = json.loads(output.read_text())
    assert result["complete"] and result["headline"].startswith("3 epochs: clean")
    attacks = [(entry["name"], entry["n"]) for entry in result["figures"]["attacks"]]
    assert attacks == [("pgd_20", 40), ("aa_fast_20", 40)] and not study.parts(output)
    assert "TensorBoard" not in rest.stdout + rest.stderr


def test_every_row_of_the_study_is_a_config():
    from nofrost_jax.config import prepare

    for row in accelerator.STUDY_ROWS:
        config = prepare(study.make_config(row, seed=2, epochs=7, rehearse=False))
        assert (config.batch_size, config.seed, config.epochs) == (256, 2, 7)
        assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (0.1, 5e-5)
        assert config.model.name == ("nf_resnet26" if row in ("nofrost", "pgdat_nf") else "resnet26")
        assert sorted(config.evaluation.attacks) == ["aa_fast_20", "aa_standard", "pgd_20"]
        assert all(entry.limit == 1000 for entry in config.evaluation.attacks.values())
        assert config.method.adversarial_weight == {"st": 0.0, "pgdat": 1.0, "pgdat_nf": 1.0}.get(row, 0.5)


def test_a_folder_and_an_archive_are_both_data(tmp_path, monkeypatch):
    monkeypatch.setattr(study.tempfile, "tempdir", str(tmp_path))
    study.fake_images(tmp_path / "made" / "cifar10_jpeg")
    with study.tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made", arcname=".")
    given = (tmp_path / "made" / "cifar10_jpeg", tmp_path / "images.tar.gz", tmp_path / "images.tar.gz")
    for number, data in enumerate(given):
        folder = tmp_path / str(number)
        folder.mkdir()
        study.place_data(str(data), folder, rehearse=False)
        assert sorted(os.listdir(folder / "cifar10")) == ["test", "train"]
        assert len(list((folder / "cifar10" / "train").glob("*/*.jpg"))) == 80
