"""The documentation's Python runs as it stands there."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "attacks.md"


def test_attacks_on_a_model_that_is_not_ours(capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    assert 0 <= names["found"]["attacks"][0]["robust_accuracy"] <= 1
    assert names["result"].images.shape == (8, 32, 32, 3)
    assert capsys.readouterr().out
