"""What a study is told, and what it refuses."""

import pytest

from nofrost_jax import errors
from nofrost_jax.tools.reproduce import __main__ as reproduce
from nofrost_jax.tools.reproduce.options import parse
from nofrost_jax.tools.reproduce.study import SELECTION, Training, arguments
from tests.tools.reproduce.conftest import SELECT


def test_tfds_holds_out_slices_and_a_folder_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = parse(["cifar10", "--workdir=study", "--rates=0.1,0.3"])[0]
    assert study.rows == ("sat", "mbnat", "sat_in", "nofrost") and study.seeds == (0,)
    told = arguments(study, Training(SELECTION, "sat", 0, 0.3))
    assert {"--config.data.train_split=train[:-5000]", "--config.data.eval_split=train[-5000:]"} <= set(told)
    assert "--config.data.holdout=0" in told
    study = parse(["cifar10", "--workdir=study", "--source=folder:images"])[0]
    told = arguments(study, Training(SELECTION, "sat", 0, 0.3))
    assert f"--config.data.source=folder:{tmp_path}/images" in told and "--config.data.holdout=5000" in told
    # below data_dir
    other = parse(["cifar10", "--workdir=study", "--source=folder:others", "--set=data.data_dir=/data"])[0]
    assert "--config.data.source=folder:others" in arguments(other, Training(SELECTION, "sat", 0, 0.3))


WRONG = [
    (["digit"], "unknown name 'digit'; choose table1 to table7, figure1 to figure7, all, or a study: digits, cifar10"),
    ([], "required: name"),
    (["digits", "--rows=st,satt"], "unknown row 'satt'"),
    (["digits", "--rows="], "unknown row ''"),
    (["digits", "--seeds=0,one"], "--seeds=0,one must be whole numbers"),
    (["digits", "--seeds=0,-1"], "0 to 2147483647"),
    (["digits", "--rates=fast"], "--rates=fast must be numbers"),
    (["digits", "--rates=0.1,nan"], "must be positive numbers"),
    (["digits", "--rates=0"], "must be positive numbers"),
    (["digits", "--set", "epochs"], "must be FIELD=VALUE"),
    (["digits", "--set", "seed=3"], "the study sets this field"),
    (["digits", "--set", "start_from=runs/a"], "the study sets this field"),
    (["digits", "--sets=1"], "unrecognized arguments: --sets=1"),
    (["digits", "--workdir=FILE"], "is a file"),
    (["digits", "--workdir="], "--workdir is missing"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[" ".join(given) for given, _ in WRONG])
def test_misuse_is_one_line_and_writes_nothing(tmp_path, capsys, given, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        reproduce.main([f"--workdir={tmp_path}/study", *(text.replace("FILE", f"{tmp_path}/file") for text in given)])
    complaint = capsys.readouterr().err
    assert stop.value.code == 2 and complaint.count("\n") == 1 and words in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_other_settings_is_refused(fake):
    assert fake.run("--set", "epochs=1", rates="0.1", rows="st", seeds="0") == 0
    with pytest.raises(errors.UserError, match=r"holds other runs \(settings.epochs: '1' -> '2'\)"):
        fake.parse("--set", "epochs=2")


def test_a_refusal_of_the_first_run_ends_the_study_and_the_corrected_command_may_follow(fake):
    fake.orders(**dict.fromkeys(SELECT, "the config has no such field: epoch"))
    with pytest.raises(errors.UserError, match="refused, as all others would be: the config has no such field"):
        fake.run("--set", "epoch=1")
    assert fake.runs == SELECT[:1]
    fake.orders()
    assert fake.run("--set", "epochs=1") == 0
