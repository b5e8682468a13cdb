"""The commands that the report prints do what it says they do."""

import shlex

import pytest

from nofrost_jax.report import commands
from nofrost_jax.report.collect import collect
from nofrost_jax.tools.reproduce import files, options, paper
from tests.report import made


def test_a_result_is_made_again_where_its_run_is_now_on_the_same_images(tmp_path):
    one = made.result(made.net(), name="paper", asked={"evaluation": {"limit": 120, "ids": "", "classes": 0}})
    made.write(tmp_path / "moved here", one, config={})
    made.write(tmp_path / "alone", one | {"asked": {"evaluation": {"limit": 0, "ids": "1f", "classes": 10}}})
    alone, moved = (shlex.split(one.command) for one in collect(tmp_path).evaluations)
    start = ["python", "main.py", "--mode=evaluate", "--config=configs/eval/paper.py"]
    assert moved == [*start, "--config.evaluation.limit=120", f"--workdir={tmp_path}/moved here"]
    fields = ["--config.evaluation.classes=10", "--config.evaluation.ids=LIST"]
    assert alone == [*start, *fields, "--workdir=runs/some"]


def reproduced(folder, source="", exhibit="table1"):
    """What `tools.reproduce` understands of the command of what is missing."""
    python, flag, module, *arguments = shlex.split(commands.reproduce(exhibit, str(folder), source))
    assert (python, flag, module) == ("python", "-m", "nofrost_jax.tools.reproduce")
    return options.parse(arguments)[0]  # refuses others than those that are in the folder


def test_what_is_missing_is_made_with_the_settings_of_the_folder(tmp_path):
    settings = {"epochs": "10", "model.name": "$(touch bad) 'x"}
    for number, fields in enumerate(({"scale": "digits", "source": "digits"}, {"files": "/data/x y"})):
        asked = paper.Paper(("table1",), str(tmp_path / f"a; {number}"), settings=settings, **fields)
        run = tmp_path / f"a; {number}" / "runs" / "sat" / "seed_0"
        made.write(run, made.result(made.net("sat"), name="final"))
        (run / "run.json").write_text("{}")
        files.write_paper(asked)
        assert reproduced(asked.workdir, "digits") == asked
    assert reproduced(tmp_path, "tfds:cifar10:3.0.2").scale == "cifar10"
    assert reproduced(tmp_path, "tfds:cifar100").scale == "imagenet"
    assert reproduced(tmp_path, "digits").scale == "digits" and reproduced(tmp_path).source == ""


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"scale": 1, "source": "", "files": "", "settings": {}}'])
def test_a_damaged_record_of_the_settings_is_not_used(tmp_path, content):
    (tmp_path / "reproduce.json").write_text(content)
    assert commands.reproduce("table1", "x", "digits").split()[4:] == ["--source=digits", "--workdir=x"]
    assert "--source=digits" in commands.reproduce("table1", str(tmp_path), "digits")
