"""Every command of the README, the documentation and the benchmarks runs in miniature, or says here why it does not."""

import contextlib
import importlib.util
import io
import os
import runpy
import shutil
import subprocess
import sys
import types
import warnings

import jax
import numpy as np
import pytest
from PIL import Image

from tests import documented
from tests.cli.helpers import tree
from tests.conftest import ROOT, TINY, overrides, sharing_compiled
from tests.evaluation.suite import make_run

COMMANDS = documented.commands()
SHORT = TINY | {"epochs": 1, "evaluation.limit": 64, "evaluation.batch_size": 64}  # of configs/digits.py
ONE_BLOCK = {"model.stage_sizes": (1,)}
MINIATURE = ONE_BLOCK | {  # of an ImageNet config with :runlocal
    "epochs": 1,
    "data.fake_train": 16,
    "attack.steps": 1,
    "evaluation.attacks.pgd_20.steps": 1,
    "evaluation.limit": 16,
    "evaluation.batch_size": 16,
    "log.tensorboard": False,
}
LIMITED = {"evaluation.limit": 16, "evaluation.batch_size": 16}  # of an evaluation
NET = ["--image_size=8", "--batch_size=2", "--rounds=1", "--stage_sizes=1"]  # of a benchmark
FISH = (440764, 443537, 484850, 491361, 494475, 496331, 498041, 514668, 514859, 518878)  # ImageNet's first ten
LOCAL = {"configs/nofrost_r50.py": "configs/nofrost_r50.py:runlocal"}
GENERATE = ["--limit=1", "--side=64"]
ONE = ["--names=contrast", "--severities=1"]  # corruption


class Run:
    """A command in miniature: `more` arguments after its own, words of it that `replaced` changes; its exit code."""

    def __init__(self, *more, code=0, needs=(), **replaced):
        self.more, self.code, self.needs = more, code, needs
        self.replaced = {name.replace("__", "/"): value for name, value in replaced.items()}


def main(fields, code=0, local=False):
    return Run(*overrides(fields), code=code, **(LOCAL if local else {}))


TARS = "needs ImageNet's tars: tests/tools/test_unpack.py"
PREPARED = "downloads, or needs ImageNet's tars: tests/tools/test_prepare.py and tests/data/tfds"
OTHERS = {  # parts of commands that other tests run
    "python benchmarks/accelerator.py": "the queue: tests/benchmarks/test_queue.py",
    "python benchmarks/gpu_program.py": "needs XLA's compiler for GPUs: tests/benchmarks/test_gpu_program.py",
    "python -m benchmarks.tasks.": "of the queue, which tests/benchmarks rehearses",
    "launch/": "several processes: tests/test_launch.py",
    "python -m nofrost_jax.tools.reproduce ": "hours; tests/tools/reproduce/test_runs.py has it in miniature",
}
HOW = {  # command: a Run, or why it does not run here and what does it instead
    "python -m pytest": "this is it",
    'python -c "import jax; print(jax.devices())"': "says what jax sees here",
    "python -m pytest -m slow": "this is not it, but CI runs it",
    "python -m tests.faults --n=100": "minutes; tests/faults/test_faults.py has some of it",
    "python -m tests.faults --n=20 --signal=TERM": "minutes, as above",
    "python -m tests.faults --n=0 --flips=1": "half an hour; tests/faults/test_faults.py has some of it",
    "python -m tests.parity": "minutes; tests/parity/test_attacks.py and test_methods.py run its parts",
    "python -m tests.golden.make_models": "rewrites what tests/models compares with",
    "python -m tests.golden.make_methods": "rewrites what tests/golden/test_golden_methods.py compares with",
    "python main.py --config=FILE --workdir=DIR --config.FIELD=VALUE": "says how commands look; the others are such",
    # runs
    "python main.py --config=configs/digits.py --workdir=runs/digits": main(SHORT),
    "python main.py --config=configs/nofrost_r50.py --workdir=DIR": main(MINIATURE, local=True),
    "python main.py --config=configs/nofrost_r50.py --config.data.data_dir=DIR --workdir=runs/nofrost_r50": (
        "the same but for where ImageNet is, which is not here"
    ),
    "python main.py --config=configs/nofrost_r50.py --config.data.source=folder:DIR/imagenet "
    "--config.data.eval_split=val --workdir=runs/nofrost_r50": main(MINIATURE, local=True),
    "python main.py --mode=dry_run --config=configs/nofrost_r50.py": main(ONE_BLOCK, local=True),
    "python main.py --mode=dry_run --config=configs/nofrost_r50.py --config.data.data_dir=DIR": main(
        ONE_BLOCK | {"data.source": "tfds:imagenet2012"}, code=3, local=True
    ),
    "python main.py --mode=dry_run --config=configs/nofrost_r50.py --device=8xh100": main(ONE_BLOCK, local=True),
    # evaluations
    "python main.py --mode=evaluate --workdir=runs/digits": Run(runs__digits="RUN"),
    "python main.py --mode=evaluate --workdir=DIR": Run(DIR="RUN"),
    "python main.py --mode=evaluate --config=configs/eval/paper.py --workdir=RUN": main(
        LIMITED | {"evaluation.only": "pgd_20,aa_standard", "evaluation.attacks.aa_standard.limit": 1}
    ),
    "python main.py --mode=evaluate --config=configs/eval/mbn_gamma.py --workdir=RUN": Run(
        *overrides(LIMITED | {"evaluation.only": "pgd_20", "evaluation.mbn_gammas": (0, 0.5)}), RUN="MIXTURE"
    ),
    "python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN": main(
        LIMITED | {"corruption_names": "contrast", "severities": (1,)}
    ),
    "python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.data.data_dir=DIR": (
        main(LIMITED | {"sets": "folder:SOME", "evaluation.name": "some"})
    ),
    "python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.corruptions=on_the_fly "
    "--config.evaluation.name=otf": main(LIMITED | {"corruption_names": "fog", "severities": (1,)}),
    "python main.py --mode=evaluate --config=configs/eval/shift.py --workdir=RUN --config.sets=imagenet_r,imagenet_c "
    "--config.evaluation.name=r_c": "ImageNet-R and -C, on a net of ImageNet's classes: tests/shift/test_shift.py",
    "python main.py --mode=dry_run --config=configs/eval/shift.py --workdir=RUN": main({}),
    "python main.py --mode=dry_run --config=configs/eval/shift.py --config.data.data_dir=DIR": Run(
        code=3,
        needs=["tensorflow_datasets"],  # for the list of ImageNet's classes
    ),
    # checkpoints
    "python -m nofrost_jax.convert RUN OUT": Run(),
    "python -m nofrost_jax.convert best_RA.pth exports/nofrost_r50": "a large net: tests/convert/test_families.py",
    "python -m nofrost_jax.convert fast_imagenet.pth exports/fastat_r50 --epsilon_255=4": "as the one above",
    "python main.py --mode=evaluate --config=configs/eval/paper.py --workdir=exports/nofrost_r50": "as with RUN, above",
    "python -m nofrost_jax.convert RUN --push=OWNER/NAME": "uploads: tests/convert/test_hub.py, on a stand-in",
    "python -m nofrost_jax.convert hf://OWNER/NAME OUT": "downloads: tests/convert/test_hub.py, from the cache",
    # reports
    "python -m nofrost_jax.report DIR --output=OUT": Run(OUT="REPORT"),
    "python -m nofrost_jax.report.study DIR/study.json": Run(),
    "python -m nofrost_jax.report benchmarks/results --output=OUT --into=RESULTS.md": Run(OUT="REPORT"),
    "python -m nofrost_jax.report.accelerator --into=RESULTS.md": Run(),
    # data
    "python -m nofrost_jax.tools.prepare imagenet2012 --manual_dir=TARS": PREPARED,
    "python -m nofrost_jax.tools.prepare imagenet2012 --manual_dir=TARS --data_dir=DIR": PREPARED,
    "python -m nofrost_jax.tools.prepare cifar10 --data_dir=DIR": PREPARED,
    "python -m nofrost_jax.tools.prepare imagenet_v2/matched-frequency --list": PREPARED,
    "python -m nofrost_jax.tools.prepare imagenet_v2/matched-frequency --data_dir=DIR --manual_dir=DOWNLOADS": PREPARED,
    "python -m nofrost_jax.tools.prepare ... --data_dir=DIR": "says what `prepare` stands for",
    "python -m nofrost_jax.tools.unpack --manual_dir=TARS --output=DIR/imagenet": TARS,
    "python -m nofrost_jax.tools.verify folder:DIR/imagenet": Run("--eval_split=val"),
    "python -m nofrost_jax.tools.verify folder:DIR/imagenet-r --eval_split=.": Run(),
    "python -m nofrost_jax.tools.verify tfds:imagenet2012 --data_dir=DIR": PREPARED,
    "python -m nofrost_jax.tools.corrupt": Run("--output=MADE", *ONE),
    "python -m nofrost_jax.tools.corrupt --output=DIR/digits-c-own --source=digits": Run(*ONE),
    "python -m nofrost_jax.tools.corrupt --output=DIR/imagenet-c-own --source=folder:DIR/imagenet": Run(
        *ONE, "--side=16", "--resize=20"
    ),
    "python -m nofrost_jax.tools.corrupt --output=DIR/imagenet-c-own --source=tfds:imagenet2012 "
    "--data_dir=DIR": PREPARED,
    "python -m nofrost_jax.tools.corrupt --output=DIR/cifar10-c-own --source=tfds:cifar10 --data_dir=DIR": PREPARED,
    "python -m nofrost_jax.tools.corrupt --preview=grid.png --source=folder:DIR/imagenet --severity=3": (
        "every corruption compiles: tests/tools/test_corrupt.py draws the preview"
    ),
    "python -m nofrost_jax.tools.deepaugment": "names the program; the next two are its commands",
    "python -m nofrost_jax.tools.deepaugment --source=folder:IMAGENET --network=both --output=DIR "
    "--weights=edsr_baseline_x4.pt,model_final.state": (
        "needs the published weights: tests/tools/test_deepaugment.py and test_weights.py"
    ),
    "python -m nofrost_jax.tools.deepaugment --source=folder:IMAGENET --output=LOOK --weights=random:0 "
    "--limit=8": "both nets compile: tests/tools/test_deepaugment.py",
    # benchmarks
    "python benchmarks/picture.py": "eighteen evaluations: tests/evaluation/test_autoattack.py has one of each kind",
    "python benchmarks/attacks.py": Run("--parts=memory,counts", "--images=16", "--stage_sizes=1", "--attacks=pgd"),
    "python benchmarks/attacks.py --parts=compile": Run("--attacks=pgd", "--stage_sizes=1"),
    "python benchmarks/attacks.py --parts=peer": Run(
        "--images=8", "--batch_size=8", "--rounds=1", "--attacks=apgd_ce_100", needs=("torch", "pyautoattack")
    ),
    "python benchmarks/attacks.py --parts=peer --device=cuda": "needs a GPU; on a CPU it is the one above",
    "python benchmarks/collectives.py --devices=1,2,4,8,64": "64 devices: tests/test_scale.py counts on 2 and 8",
    "python benchmarks/corruptions.py": Run("--names=contrast"),
    "python benchmarks/corruptions.py --parts=compile": Run("--names=contrast"),
    "python benchmarks/digits.py": Run(*overrides(SHORT)),
    "python benchmarks/growth.py": Run(*NET, "--fields=steps"),
    "python benchmarks/growth.py --model=nf_resnet50 --image_size=224 --batch_size=64": "needs a GPU; else as above",
    "python benchmarks/input.py": Run("--count=1", "--rounds=1"),
    "python benchmarks/input.py --images=FOLDER": Run("--count=1", "--rounds=1"),
    "python benchmarks/input.py --images=FOLDER --rounds=9": "the one above but for its length",
    "python benchmarks/methods.py": Run(*NET, "--methods=at,standard"),
    "python benchmarks/methods.py --rounds=9": "the one above but for its length",
    "python benchmarks/methods.py --model=resnet50 --image_size=224 --batch_size=64": "needs a GPU; else as above",
    "python benchmarks/train_step.py": Run(*NET),
    "python benchmarks/train_step.py --peer": "needs PyTorch; tests/benchmarks/test_torch_step.py has its step",
    "python benchmarks/train_step.py --model=nf_resnet50 --image_size=224 --batch_size=32 --dtype=bfloat16": (
        "needs a GPU; else as the one above"
    ),
}


def how(command):
    told = [reason for part, reason in OTHERS.items() if part in command]
    return told[0] if told else HOW.get(command)


def test_every_command_has_its_run_or_its_reason():
    """A new command in a text needs a line in HOW, and one that is gone from the texts leaves it."""
    missing = {command: sorted(texts) for command, texts in COMMANDS.items() if how(command) is None}
    assert not missing, missing
    assert HOW.keys() <= COMMANDS.keys(), sorted(HOW.keys() - COMMANDS.keys())
    for reason in filter(lambda value: isinstance(value, str), [*HOW.values(), *OTHERS.values()]):
        for word in reason.split():
            assert not word.startswith("tests/") or (ROOT / word.rstrip(":,")).exists(), reason
    assert len(COMMANDS) > 50 and sum(isinstance(value, Run) for value in HOW.values()) > 30


@pytest.fixture(scope="module")
def place(tmp_path_factory, compilation_cache):
    """A folder with what the words of the commands stand for."""
    root = tmp_path_factory.mktemp("commands")
    tree(root / "DIR/imagenet", classes=[f"n01{number}" for number in FISH], count=2)
    tree(root / "DIR/imagenet-r", splits=(".",), classes=("n01440764", "n01443537"), count=1)
    tree(root / "SOME", splits=(".",), classes=[f"{label}" for label in range(10)], count=1)
    (root / "FOLDER").mkdir()
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(root / "FOLDER/a.jpg")
    make_run(root / "RUN", "sat", attacks="pgd_20", evaluation__limit=16, evaluation__batch_size=16)
    make_run(root / "MIXTURE", "mbnat")
    for name in ("study_digits", "study_cifar10"):
        shutil.copy(ROOT / f"benchmarks/results/{name}.json", root / f"{name}.json")
    shutil.copy(root / "study_digits.json", root / "DIR/study.json")
    shutil.copy(ROOT / "RESULTS.md", root / "RESULTS.md")
    with sharing_compiled(compilation_cache):
        yield root


def words_of(command, recipe, root):
    """The command in miniature: its words, with the paths in them below `root`."""
    words = [*command.split(), *recipe.more]
    if words[1].startswith("benchmarks/"):
        words.append(f"--output={root}/results")
    paths = {
        name: f"{root}/{name}"
        for name in ("DIR", "RUN", "OUT", "FOLDER", "MADE", "SOME", "MIXTURE", "REPORT", "RESULTS.md")
    }
    paths |= {"runs/digits": f"{root}/run", "runs/nofrost_r50": f"{root}/run_r50", "benchmarks/results": str(root)}
    changed = {name: paths.get(value, value) for name, value in recipe.replaced.items()}
    for old, new in (paths | changed).items():
        words = [word.replace(old, new) if str(root) not in word else word for word in words]
    return words


@pytest.fixture
def start(cli, monkeypatch):
    """Runs the words of a command in this process: `start(words)` returns its exit code."""

    def run(words):
        program, *rest = words[1:]
        if program == "main.py":
            outcome = cli(*rest)
            assert "Traceback" not in outcome.stderr
            return outcome.returncode
        module = rest[0] if program == "-m" else None
        monkeypatch.setattr(sys, "argv", [module or program, *(rest[1:] if module else rest)])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            try:
                if module:
                    runpy.run_module(module, run_name="__main__")
                else:
                    runpy.run_path(str(ROOT / program), run_name="__main__")
            except SystemExit as stop:
                return stop.code or 0
        return 0

    def within(command, **_):
        """In place of `subprocess.run`: what a benchmark starts as processes of their own."""
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            assert (
                run(
                    [
                        "python",
                        os.path.relpath(command[1], ROOT) if command[1] != "main.py" else command[1],
                        *command[2:],
                    ]
                )
                == 0
            )
        return types.SimpleNamespace(stdout=text.getvalue())

    monkeypatch.setattr(subprocess, "run", within)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    options = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    yield run
    for name, value in options.items():
        jax.config.update(name, value)
    if cores:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("command", [command for command, recipe in HOW.items() if isinstance(recipe, Run)])
def test_command_runs(command, place, start, monkeypatch):
    recipe = HOW[command]
    for package in recipe.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    monkeypatch.chdir(ROOT)
    committed = {path: path.stat().st_mtime_ns for path in (ROOT / "benchmarks/results").rglob("*.json")}
    assert start(words_of(command, recipe, place)) == recipe.code
    assert committed == {path: path.stat().st_mtime_ns for path in (ROOT / "benchmarks/results").rglob("*.json")}
