"""What a wrong command line, config file or workdir gets: one clear line, exit code 2, and nothing on the disk."""

import errno
import importlib
import os

import pytest
from ml_collections import ConfigDict

from configs import common
from nofrost_jax import command_line, train
from nofrost_jax.config import of_run, prepare
from nofrost_jax.errors import UserError
from tests.cli.helpers import DIGITS, assert_refused, make_run
from tests.conftest import ROOT, tiny_config

RUN = ["--workdir=RUN"]
FILES = sorted(path.stem for path in (ROOT / "configs/eval").glob("*.py"))
SUITES = [name for name in FILES if name not in ("__init__", "suite")]
COMMAND_LINES = [
    (["--workdir=RUN"], ["--config is missing", "configs/digits.py"]),
    ([DIGITS], ["--workdir is missing"]),
    (["--config=configs/digit.py", "--workdir=RUN"], ["configs/digit.py", "No such file"]),
    (["--config=configs/digit.py", "--workdir=RUN", "--config.epochs=1"], ["configs/digit.py", "No such file"]),
    (["--config=configs", "--workdir=RUN"], ["'configs'"]),
    ([f"{DIGITS}:satt", "--workdir=RUN"], ["configs/digits.py:satt", "unknown row 'satt'", "nofrost, st, st_nf, sat"]),
    (["--config=configs/nofrost_r50.py:runlocall", "--workdir=RUN"], ["'runlocall'", "runlocal"]),
    ([DIGITS, "--workdir=RUN", "--mode=tarin"], ["--mode=tarin", "train|evaluate|dry_run"]),
    ([DIGITS, "--wordkir=RUN"], ["wordkir"]),
    ([DIGITS, "--workdir=RUN", "--config.epochs", "3", "more"], ["'more'"]),
    ([DIGITS, "--workdir=RUN", "epochs=3"], ["'epochs=3'"]),
    (["--config.epochs=3", DIGITS, "--workdir=RUN"], ["config.epochs", "before"]),
    *(
        (
            [f"--mode={mode}", f"--config=configs/eval/{name}.py", *(RUN if mode == "train" else ())],
            ["says how to evaluate a run", "--mode=evaluate"],
        )
        for name in SUITES
        for mode in ("train", "dry_run")
        if (mode, name) != ("dry_run", "shift")  # which tells what is missing
    ),
    (["--mode=dry_run", "--config=configs/eval/paper.py", *RUN], ["RUN/config.json", "folder of a training run"]),
    ([DIGITS, "--workdir=RUN", "--device=8xh100"], ["--device", "--mode=dry_run"]),
    ([DIGITS, "--workdir=RUN/file/run"], ["RUN/file is a file"]),
    ([DIGITS, "--workdir=RUN/file"], ["RUN/file is a file"]),
    ([DIGITS, "--workdir=s3://bucket/run"], ["s3://bucket/run cannot be used", "give gs://BUCKET/PATH, or a folder"]),
    (
        ["--mode=evaluate", "--workdir=RUN", "--config.evaluation.limit=3"],
        ["--config=configs/eval/own.py --config.evaluation.limit=VALUE"],
    ),
    (["--mode=evaluate"], ["--workdir is missing"]),
    (["--mode=evaluate", "--workdir=RUN/none"], ["RUN/none/config.json", "folder of a training run"]),
]


@pytest.mark.parametrize(("args", "words"), COMMAND_LINES, ids=[" ".join(args) for args, _ in COMMAND_LINES])
def test_wrong_command_line_is_one_line_and_writes_nothing(cli, tmp_path, args, words):
    (tmp_path / "file").write_text("here")
    args, words = ([text.replace("RUN", str(tmp_path)) for text in texts] for texts in (args, words))
    assert_refused(cli(*args), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_config_file_with_an_error_inside(cli, tmp_path):
    """It is told as that, with its line, and not as a field that the config lacks."""
    own = "from configs import digits\ndef get_config(word=''):\n    config = digits.get_config(word)\n    "
    for text, words in {
        "def get_config(:": ["invalid syntax", "line 1"],
        "import nothing_there": ["No module named 'nothing_there'", "mine.py, line 1)"],
        "def get_config():\n    raise ValueError('boom')": ["boom", "mine.py, line 2)"],
        "def get_config():\n    return {}['epochs']": ["KeyError: 'epochs'", "mine.py, line 2)"],
        "def get_config():\n    return 1 / 0": ["ZeroDivisionError", "mine.py, line 2)"],
        "def get_config():\n    return open('/nowhere/x')": ["/nowhere/x", "mine.py, line 2)"],
        f"{own}return config.nothing": ["AttributeError", "nothing", "mine.py, line 4)"],
        f"{own}config.epochs = 'a'": ["TypeError", "'epochs'", "mine.py, line 4)"],
        f"{own}config.update(digits.get_config('satt'))": ["unknown row 'satt'", "mine.py, line 4)"],
        own: ["returns NoneType, not a ConfigDict"],
        "def get_config():\n    return 5": ["returns int, not a ConfigDict"],
        "def get_config(word):\n    return 5": ["get_config() missing 1 required positional argument"],
        "x = 5": ["has no function get_config()"],
    }.items():
        (tmp_path / "mine.py").write_text(text)
        outcome = cli(f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run")
        assert_refused(outcome, f"--config={tmp_path}/mine.py", *words)
        assert "no such field" not in outcome.stderr


def test_a_config_file_at_home(cli, tmp_path, monkeypatch):
    """Also where a shell does not expand it; an error within is told as that."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("from configs import digits\n\nget_config = digits.get_config")
    outcome = cli("--config=~/mine.py:st", "--mode=dry_run", "--config.batch_size=0")
    assert_refused(outcome, "config.batch_size=0")
    (tmp_path / "mine.py").write_text("1 / 0")
    assert_refused(cli("--config=~/mine.py", f"--workdir={tmp_path}/run"), "ZeroDivisionError", "line 1")


@pytest.mark.parametrize("field", ["optimizer.learning_ratee", "epoch", "evaluation.limitt"])
def test_a_config_file_with_a_field_too_many(cli, tmp_path, field):
    base = "eval.paper" if field == "evaluation.limitt" else "digits"
    text = f"from configs.{base} import get_config as own\n\ndef get_config():\n    config = own()\n"
    (tmp_path / "mine.py").write_text(f"{text}    config.{field} = 1\n    return config\n")
    right = {"epoch": "epochs"}.get(field, field.partition(".")[2][:-1])
    outcome = cli(f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run")
    assert_refused(outcome, f"unknown field: {field};", f'Did you mean "{right}"?')
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["digits", "cifar10", *sorted(path.stem for path in ROOT.glob("configs/*_r*.py"))])
def test_our_own_configs_have_no_field_too_many(name):
    command_line._check_fields(importlib.import_module(f"configs.{name}").get_config(), common.get_config())


@pytest.mark.parametrize("name", SUITES)
def test_our_own_suites_have_no_field_too_many(name):
    command_line._check_fields(importlib.import_module(f"configs.eval.{name}").get_config(), common.get_config())


def test_config_without_a_field(cli, tmp_path):
    lines = ["config = digits.get_config()", "del config.optimizer.agc", "return config"]
    (tmp_path / "mine.py").write_text("\n    ".join(["from configs import digits\ndef get_config():", *lines]))
    assert_refused(cli(f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run"), "optimizer.agc", "missing")
    assert not (tmp_path / "run").exists()


def test_workdir_without_permission(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    outcome = cli(DIGITS, f"--workdir={tmp_path}/run")
    assert_refused(outcome, "cannot be written", f"no permission in {tmp_path}", code=1)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["train", "evaluate", "dry_run"])
@pytest.mark.parametrize("ending", ["", "/run"])
def test_a_workdir_that_is_a_file(cli, tmp_path, mode, ending):
    (tmp_path / "file").write_text("")
    outcome = cli(DIGITS, f"--mode={mode}", f"--workdir={tmp_path}/file{ending}")
    assert outcome.returncode == (3 if mode == "dry_run" else 2), outcome
    (line,) = [line for line in (outcome.stdout + outcome.stderr).splitlines() if f"{tmp_path}/file" in line]
    assert line.startswith("missing: " if mode == "dry_run" else "error: ")


def test_a_config_json_that_may_not_be_read(cli, tmp_path, monkeypatch):
    folder, opened = make_run(cli, tmp_path), open

    def refuse(path, *args, **options):
        if str(path).endswith("config.json"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *args, **options)

    monkeypatch.setattr("builtins.open", refuse)
    outcome = cli("--mode=evaluate", f"--workdir={folder}")
    assert_refused(outcome, f"{folder}/config.json", "Permission denied", code=1)


def test_evaluate_without_a_checkpoint(cli, tmp_path):
    folder = make_run(cli, tmp_path)
    assert_refused(cli("--mode=evaluate", f"--workdir={folder}"), "no checkpoint", str(folder))
    (folder / "checkpoints").mkdir()
    assert_refused(
        cli("--mode=evaluate", f"--workdir={folder}"), "no checkpoint", f"{folder}/checkpoints", "train first"
    )
    assert sorted(path.name for path in folder.rglob("*")) == ["checkpoints", "config.json"]


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_evaluate_with_a_broken_config_json(cli, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert_refused(
        cli("--mode=evaluate", f"--workdir={tmp_path}"), "config.json" if content in "{[]" else "has no evaluation"
    )


@pytest.mark.parametrize(
    ("value", "wrong", "words"),
    [
        ('"on_error": "raise"', '"on_error": "raiwe"', "config.data.on_error='raiwe' is unknown"),
        ('"epsilon_255": 38.25', '"epsilon_255": "a"', "a value has the wrong type"),
        ('"attacks": {', '"attacks": [], "other": {', "a value has the wrong type"),
    ],
)
def test_a_wrong_value_in_config_json_is_told_with_its_file(cli, tmp_path, value, wrong, words):
    folder = make_run(cli, tmp_path)
    text = (folder / "config.json").read_text()
    assert value in text
    (folder / "config.json").write_text(text.replace(value, wrong, 1))
    assert_refused(cli("--mode=evaluate", f"--workdir={folder}"), f"{folder}/config.json: {words}")


def test_a_wrong_value_given_is_not_the_files(tmp_path):
    """The file's own is wrong as well, but replaced by what is given."""
    own = prepare(tiny_config())
    with own.unlocked():
        own.evaluation.attacks = {"old": {"name": "gone"}}
    train.write_config(own, str(tmp_path))
    given = ConfigDict({"evaluation": {"attacks": {"pgd": common.pgd_20()}, "batch_size": -1}})
    with pytest.raises(UserError, match=r"^config.evaluation.batch_size=-1"):
        of_run(str(tmp_path), given)


def test_flags_change_how_the_runs_own_attacks_run(tmp_path):
    own = prepare(tiny_config(evaluation__only="aa_fast_20,pgd_20"))
    train.write_config(own, str(tmp_path))
    given = importlib.import_module("configs.eval.own").get_config()
    given.evaluation.update({"only": "pgd_20", "limit": 3})
    found, left_out = of_run(str(tmp_path), given)
    assert list(found.evaluation.attacks) == ["pgd_20"] and found.evaluation.limit == 3 and not left_out
    assert found.evaluation.attacks.pgd_20 == own.evaluation.attacks.pgd_20
    given.evaluation.only = "pgd_30"
    with pytest.raises(UserError, match=r"pgd_30.*aa_fast_20"):
        of_run(str(tmp_path), given)
