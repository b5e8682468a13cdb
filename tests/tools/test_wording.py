"""What the commands on data sets say of wrong sources: in the words of their own options."""

import sys

import pytest

from nofrost_jax.errors import UserError
from nofrost_jax.tools import verify
from nofrost_jax.tools.corrupt import __main__ as corruptions
from nofrost_jax.tools.wording import speaking_of
from tests.data.helpers import encoded, picture, write


@pytest.fixture
def flat(tmp_path):
    for name in ("a/0.PNG", "b/1.PNG"):
        write(tmp_path / "flat" / name, encoded(picture(0), "PNG"))
    return tmp_path / "flat"


def verified(monkeypatch, capsys, *arguments):
    """(exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["verify", *map(str, arguments)])
    code = 0
    try:
        verify.main()
    except SystemExit as end:
        code = end.code
    text = capsys.readouterr()
    return code, text.out, text.err


def corrupted(*arguments):
    with pytest.raises(UserError) as caught:
        corruptions.main(list(map(str, arguments)))
    return str(caught.value)


def test_fields_become_options():
    options = {"config.data.source": "--source", "config.data.eval_split": "--split", "config.data": "--split"}
    text = "no x; config.data.source = tfds:x; set config.data.source_name, or config.data, or config.data.source."
    with pytest.raises(UserError) as caught, speaking_of(options, "digits", "", "val"):
        raise UserError(text)
    assert str(caught.value) == "no x; --source=tfds:x; set config.data.source_name, or --split, or --source."


def test_class_folders_without_splits(flat, tmp_path, monkeypatch, capsys):
    code, out, error = verified(monkeypatch, capsys, f"folder:{flat.name}", f"--data_dir={tmp_path}")
    assert (code, out) == (2, "") and error.endswith("for class folders in PATH itself give --eval_split=.\n")
    code, out, _ = verified(monkeypatch, capsys, f"folder:{flat}", "--eval_split=.")
    assert (code, out) == (0, f"folder:{flat}: 2 images, 0 unreadable\n")
    error = corrupted(f"--output={tmp_path}/out", f"--source=folder:{flat}")
    assert error.endswith("for class folders in PATH itself give --split=.") and not (tmp_path / "out").exists()
    names = ("--names=contrast", "--severities=1")
    corruptions.main([f"--output={tmp_path}/out", f"--source=folder:{flat}", "--split=.", *names])
    assert len(list((tmp_path / "out").glob("contrast/1/*/*"))) == 2


def test_other_trees_are_not_called_flat(flat, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path, tmp_path / "empty", tmp_path / "nowhere"):
        for _, _, text in (
            verified(monkeypatch, capsys, f"folder:{source}"),
            (0, "", corrupted("--output=x", f"--source=folder:{source}")),
        ):
            assert "expected PATH/train" in text and "split=." not in text


def test_unknown_and_unprepared_data_sets(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow_datasets")
    code, _, error = verified(monkeypatch, capsys, "tfds:nosuch", f"--data_dir={tmp_path}")
    assert code == 2 and "tfds:nosuch; " in error and "config." not in error
    error = corrupted(f"--output={tmp_path}/out", "--source=tfds:nosuch", f"--data_dir={tmp_path}")
    assert "tfds:nosuch; " in error and "config." not in error and not (tmp_path / "out").exists()
