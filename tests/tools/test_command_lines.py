"""All programs beside main.py answer a wrong command line in the same way."""

import importlib

import pytest

PROGRAMS = {  # and what is wrong in an empty command line
    "convert.__main__": "the following arguments are required: source",
    "report.study": "the following arguments are required: study",
    "tools.deepaugment.__main__": "the following arguments are required: --source, --output",
    "tools.prepare": "the following arguments are required: name",
    "tools.reproduce.__main__": "the following arguments are required: name",
    "tools.unpack": "the following arguments are required: --manual_dir, --output",
    "tools.verify": "the following arguments are required: source",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(name, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"nofrost_jax.{name}").main([])
    prog = f"python -m nofrost_jax.{name.removesuffix('.__main__')}"
    assert ended.value.code == 2 and capsys.readouterr().err == f"error: {PROGRAMS[name]}; see {prog} --help\n"
