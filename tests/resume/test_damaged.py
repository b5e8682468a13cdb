"""Checkpoints that are damaged are passed over, and none is saved whose numbers are not finite."""

import errno
import re
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from nofrost_jax import checkpoint, digests, files, saving, train
from nofrost_jax.errors import UserError
from tests.conftest import tiny_args
from tests.resume.helpers import arrays, contents, saved_steps, train_here


def data_file(folder):
    return max((folder / "variables").rglob("d/*"), key=lambda path: path.stat().st_size)


def truncate(folder):
    path = data_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(folder):
    path = data_file(folder)
    path.write_bytes(flipped(path.read_bytes()))


def flipped(content):
    content = bytearray(content)
    content[len(content) // 2 : len(content) // 2 + 1] = [byte ^ 0xFF for byte in content[len(content) // 2 :][:1]]
    return bytes(content)


def lose_a_file(folder):
    data_file(folder).unlink()


def lose_the_optimizer(folder):
    shutil.rmtree(folder / "optimizer")


def empty_the_meta(folder):
    (folder / "meta/metadata").write_text("")


def lose_the_hashes(folder):
    """As where a save was killed before they were there."""
    (folder / digests.NAME).unlink()


DAMAGES = [truncate, alter, lose_a_file, lose_the_optimizer, empty_the_meta]


@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_checkpoint_falls_back(whole, copy, capsys, damage):
    damage(copy / "checkpoints/15")
    train_here(copy)
    text = capsys.readouterr().out
    assert text.count("checkpoint 15 is damaged") == 1 and "resuming from the checkpoint of step 12" in text
    assert contents(copy) == contents(whole[0])
    assert [path.name for path in (copy / "checkpoints_damaged").iterdir()] == ["15"]


@pytest.mark.usefixtures("compile_once")
def test_a_kill_between_a_save_and_its_hashes_loses_the_save_alone(whole, copy, capsys):
    variables = abstract_variables(copy)
    lose_the_hashes(copy / "checkpoints/15")
    train_here(copy)
    text = capsys.readouterr().out
    assert "checkpoint 15 was not saved completely" in text and "resuming from the checkpoint of step 12" in text
    assert contents(copy) == contents(whole[0])
    shutil.rmtree(copy / "checkpoints/12")
    lose_the_hashes(copy / "checkpoints/15")  # as if it were the first
    assert restored(copy, variables) is None  # a reader waits for it
    train_here(copy)
    assert "resuming" not in capsys.readouterr().out
    assert contents(copy) == contents(whole[0])


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_a_checkpoint_is_amended_does_no_harm(copy, monkeypatch, after):
    checkpoints, write = checkpoint.Checkpoints(copy), files.write

    def killed(path, *rest, **options):
        if not (is_meta := str(path).endswith(saving.META)) or after:
            write(path, *rest, **options)
        if is_meta:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "write", killed)
        checkpoints.amend(15, {"forced": ["a change"]})
    variables = abstract_variables(copy)
    assert checkpoints.restore(variables)[2].get("forced") == (["a change"] if after else None)
    checkpoints.amend(15, {"forced": ["another"]})
    step, _, meta = checkpoints.restore(variables)
    assert (step, meta["forced"]) == (15, ["another"])
    checkpoints.close()


def abstract_variables(folder):
    saved = {"variables": next(iter(arrays(folder, 15)))}
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), saved)


def test_no_byte_of_a_checkpoint_can_be_altered_in_silence(copy):
    """In any of its files, that of the hashes as well."""
    folder, saved = copy / "checkpoints/15", dict(zip(("variables", "optimizer"), arrays(copy, 15), strict=True))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), saved)
    wanted, hashes = checkpoint.tree_sha256(saved), (folder / digests.NAME).read_bytes()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], flipped(content)):
            path.write_bytes(damaged)
            assert damaged == content or restored(copy, abstract)[0] == 12, path  # orbax has empty files
        path.write_bytes(content)
    for text in ("", "[1]", "{}"):
        (folder / digests.NAME).write_text(text)
        assert restored(copy, abstract)[0] == 12
    (folder / digests.NAME).write_bytes(hashes)
    step, items, _ = restored(copy, abstract)
    assert step == 15 and checkpoint.tree_sha256(items) == wanted


def restored(folder, abstract):
    checkpoints = checkpoint.Checkpoints(folder, writable=False)
    try:
        return checkpoints.restore(abstract)
    finally:
        checkpoints.close()


@pytest.mark.usefixtures("compile_once")
def test_a_checkpoint_stays_until_the_next_one_has_its_hashes(tmp_path, monkeypatch):
    """Also where only one is kept."""
    there, write = [], digests.write

    def noting(folder, *rest):
        there.append(saved_steps(tmp_path / "run"))
        write(folder, *rest)

    monkeypatch.setattr(digests, "write", noting)
    train_here(tmp_path / "run", checkpoint__keep=1, checkpoint__every_steps=5)
    assert there == [[5], [5, 10], [10, 15]] and saved_steps(tmp_path / "run") == [15]


@pytest.mark.usefixtures("compile_once")
def test_a_removal_that_a_kill_cuts_short_is_done_at_the_next_start(whole, copy, capsys, monkeypatch):
    shutil.copytree(copy / "checkpoints/12", copy / "checkpoints/11")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "remove_tree", lambda folder: exec("raise KeyboardInterrupt"))
        checkpoint.Checkpoints(copy)._remove_old()
    assert not (copy / "checkpoints/11" / digests.NAME).exists() and (copy / "checkpoints/11/variables").exists()
    train_here(copy)
    text = capsys.readouterr().out
    assert "checkpoint 11 was not removed completely" in text and "damaged" not in text
    assert contents(copy) == contents(whole[0])


def test_what_a_training_removes_while_it_is_read_is_not_called_damaged(copy, capsys):
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), next(arrays(copy, 12))
    )
    checkpoints = checkpoint.Checkpoints(copy, writable=False)
    shutil.rmtree(copy / "checkpoints/15")
    assert checkpoints.restore({"variables": abstract})[0] == 12
    checkpoints.close()
    assert "damaged" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [MemoryError("RESOURCE_EXHAUSTED: out of memory"), OSError(errno.EIO, "Input/output error"), ValueError("?")],
)
def test_what_is_no_damage_is_raised(copy, monkeypatch, capsys, error):
    """The files have their hashes: no memory and no answer of a disk say nothing against them."""

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(ocp.AsyncCheckpointer, "restore", fails)
    with pytest.raises(Exception) as caught:
        train_here(copy)
    assert error in (caught.value, caught.value.__cause__) and "damaged" not in capsys.readouterr().out
    assert saved_steps(copy) == [12, 15] and not (copy / "checkpoints_damaged").exists()


@pytest.mark.parametrize(("damage", "words"), [(alter, "hash differs"), (lose_a_file, "is missing")])
def test_all_damaged_is_an_error(cli, copy, damage, words):
    for step in (12, 15):
        damage(copy / "checkpoints" / str(step))
    before = sorted(copy.rglob("*"))
    for outcome in (cli(*tiny_args(copy)), cli("--mode=evaluate", f"--workdir={copy}")):
        assert outcome.returncode == 2 and outcome.stdout.count("is damaged") == 2
        assert outcome.stdout.count(words) == 2
        assert len(outcome.stderr.splitlines()) == 1
        assert "no checkpoint in" in outcome.stderr and "15, 12 are damaged" in outcome.stderr
    assert sorted(copy.rglob("*")) == before


def assert_checkpoints_finite(folder):
    for step in saved_steps(folder):
        for leaf in jax.tree.leaves(list(arrays(folder, step))):
            assert np.isfinite(leaf).all()


@pytest.mark.usefixtures("compile_once")
def test_nan_stops_with_the_step_and_keeps_the_last_good_checkpoint(cli, copy):
    shutil.rmtree(copy / "checkpoints/15")
    args = [*tiny_args(copy, optimizer__learning_rate=1e30), "--force"]
    for _ in range(2):  # the same command again finds no way round it
        outcome = cli(*args)
        assert outcome.returncode == 2 and len(outcome.stderr.splitlines()) == 1, outcome
        broken = int(re.search(r"not finite at step (\d+): ", outcome.stderr).group(1))
        assert broken in (13, 14) and "step 12 is saved" in outcome.stderr
        assert saved_steps(copy) == [8, 12] or saved_steps(copy) == [12]
    assert_checkpoints_finite(copy)


@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("part", ["params", "batch_stats"])
def test_what_is_not_finite_is_never_saved(tmp_path, monkeypatch, part):
    compiled = train.Trainer._compile

    def overflowing(*args):
        step = compiled(*args)

        def overflow(state, batch, key):
            state, metrics = step(state, batch, key)
            scale = jax.numpy.where(state.step == 4, jax.numpy.inf, 1.0)
            return state.replace(**{part: jax.tree.map(lambda leaf: leaf * scale, getattr(state, part))}), metrics

        return overflow

    monkeypatch.setattr(train.Trainer, "_compile", overflowing)
    with pytest.raises(UserError, match=r"not finite at step 4: .*; step 2 is saved"):
        train_here(tmp_path / "run", checkpoint__every_steps=2)
    assert saved_steps(tmp_path / "run") == [2]
    assert_checkpoints_finite(tmp_path / "run")
