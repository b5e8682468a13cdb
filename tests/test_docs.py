"""The documentation's Python runs as it stands there."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "attacks.md"


def test_attacks_on_a_model_that_is_not_ours(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names = {}
    exec(compile(block, str(PAGE), "exec"), names)
    assert names["result"].images.shape == (8, 32, 32, 3)
    assert capsys.readouterr().out
