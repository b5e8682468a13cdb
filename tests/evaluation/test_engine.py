"""The engine: exact counts, outcomes that depend on nothing but the image, no lost work, and no attack believed."""

import dataclasses
import glob
import os
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nofrost_jax import attacks, data, keys, parallel, progress
from nofrost_jax.attacks import base
from nofrost_jax.data.choice import Choice
from nofrost_jax.errors import Preempted, UserError
from nofrost_jax.evaluation import chunks, engine, programs, results, table
from nofrost_jax.evaluation.outcomes import COLUMNS
from nofrost_jax.evaluation.store import Store
from tests.data.helpers import dataset_of
from tests.evaluation import suite

NEVER = parallel.StopSignal()


def assert_same(found, expected):
    for name in ("index", "label", "correct", "nan", "pixels"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for label, protocol in expected["protocols"].items():
        for position, rows in enumerate(protocol["members"]):
            for name in COLUMNS:
                new = found["protocols"][label]["members"][position][name]
                np.testing.assert_allclose(new, rows[name], rtol=1e-5, err_msg=f"{label} {position} {name}")
        for name in ("selected", "robust", "robust_uint8"):
            np.testing.assert_array_equal(found["protocols"][label][name], protocol[name], err_msg=f"{label} {name}")


def test_counts_every_image_once_and_each_attack_meets_those_it_is_for(reference):
    outcomes = reference.outcomes
    (batch,) = dataset_of(suite.tiny_config(), Choice(suite.COUNT)).eval_batches(suite.COUNT)
    for name in ("index", "label"):
        np.testing.assert_array_equal(outcomes[name], batch[name])
    assert len(np.unique(outcomes["index"])) == suite.COUNT
    cascade = outcomes["protocols"]["cascade"]
    survivors = outcomes["correct"]
    assert 30 < survivors.sum() < suite.COUNT  # otherwise the next lines would say little
    for rows in cascade["members"]:
        np.testing.assert_array_equal(rows["attacked"], survivors)
        survivors = survivors & rows["robust"]
    np.testing.assert_array_equal(cascade["robust"], survivors)
    assert 0 < survivors.sum() < cascade["members"][1]["attacked"].sum() < outcomes["correct"].sum()


def test_a_limit_spreads_evenly(reference):
    """Every class has as many, of the evaluated images and of those of an attack with a limit of its own."""
    rays, labels = reference.outcomes["protocols"]["rays"], reference.outcomes["label"]
    assert np.bincount(labels).tolist() == [5] * 10
    assert np.bincount(labels[rays["selected"]]).tolist() == [1] * 10
    np.testing.assert_array_equal(rays["members"][0]["attacked"], rays["selected"] & reference.outcomes["correct"])


def test_a_full_precision_attack_claims_nothing_that_the_verdict_does_not_find(reference):
    for protocol in reference.outcomes["protocols"].values():
        assert not any(rows["unconfirmed"].any() for rows in protocol["members"])


def test_pixels_have_the_same_bits_in_every_program():
    every = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    expected = np.tile(np.arange(256, dtype=np.float32) / np.float32(255), (3, 1))
    np.testing.assert_array_equal(jax.jit(programs.to_pixels)(every), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: 2 * programs.to_pixels(x[:1]))(every), 2 * expected[:1])


def test_an_attack_that_goes_on_after_success_keeps_it(variables, tmp_path, monkeypatch):
    """The authors' RayS, in several stages: as when it is called at once."""
    monkeypatch.setattr(attacks.rays, "STAGE", 20)
    config = suite.tiny_config(attacks={"rays": {"name": "rays", "queries": 70, "official": True}}, limit=20)
    evaluator, devices = suite.make(config)
    outcomes = evaluator.run(devices.replicate(variables), NEVER, tmp_path)
    (batch,) = dataset_of(config, Choice(20)).eval_batches(20)
    (member,) = evaluator.protocols[0].members
    classifier = suite.classifier(config, variables)
    images = programs.to_pixels(batch["image"])
    found = jax.jit(lambda x, y, k: member.attack(classifier, x, y, k).images)(
        images, batch["label"], jax.random.split(jax.random.key(0), 20)
    )
    robust = np.asarray(classifier(found)).argmax(-1) == batch["label"]
    np.testing.assert_array_equal(outcomes["protocols"]["rays"]["robust"], robust & outcomes["correct"])
    assert (outcomes["correct"] & ~robust).sum() > 0


def test_counts_are_the_theoretical_ones_for_images_that_survive(reference):
    for protocol in reference.evaluator.protocols:
        for member, rows in zip(
            protocol.members, reference.outcomes["protocols"][protocol.name]["members"], strict=True
        ):
            stood = rows["attacked"] & rows["robust"]
            assert stood.any()
            forwards, backwards = member.attack.passes(10)
            assert set(rows["forwards"][stood]) == {forwards} and set(rows["backwards"][stood]) == {backwards}
            assert rows["forwards"].max() == forwards


@pytest.mark.parametrize(("batch_size", "count", "chunk_size"), [(1, 1, 13), (56, 8, 50)])
def test_outcomes_do_not_depend_on_batch_devices_or_chunks(
    reference, variables, tmp_path, batch_size, count, chunk_size
):
    evaluator, devices = suite.make(suite.tiny_config(batch_size, chunk_size=chunk_size), count)
    assert_same(evaluator.run(devices.replicate(variables), NEVER, tmp_path), reference.outcomes)


class Killed(BaseException):
    pass


def test_goes_on_after_a_kill_at_every_save(reference, tmp_path, monkeypatch):
    """Killed right after each save, of chunks and of stages; every run must do something and end the same."""
    monkeypatch.setattr(engine, "SAVE_SECONDS", -1)
    monkeypatch.setattr(engine, "SAVE_COST", 0)
    write, kills = Store.save, 0

    def save(self, *arguments, **options):
        write(self, *arguments, **options)
        raise Killed

    monkeypatch.setattr(Store, "save", save)
    while kills < 200:
        try:
            found = reference.evaluator.run(reference.variables, NEVER, tmp_path)
            break
        except Killed:
            kills += 1
    assert_same(found, reference.outcomes)
    # Two chunks: the clean file and six attacks each; and between the two stages of APGD-T and FAB-T.
    assert kills >= 2 * (1 + 6) + 2
    assert not glob.glob(f"{tmp_path}/*/*.partial.npz") and not glob.glob(f"{tmp_path}/*/.*.tmp")


def test_stops_within_an_attack_says_how_far_it_is_and_does_nothing_twice(reference, tmp_path, monkeypatch, capsys):
    """A signal is heard within an evaluation, not only after it: on ImageNet one lasts for hours. Here at every fourth
    batch, long before a save is due by the clock."""
    monkeypatch.setattr(progress, "EVERY", -1)
    stages = mock.Mock(wraps=reference.evaluator.programs.stage)
    monkeypatch.setattr(reference.evaluator.programs, "stage", stages)
    reference.evaluator.run(reference.variables, NEVER, tmp_path / "whole")
    needed, stops, found = stages.call_count, [], None
    while found is None and len(stops) < 50:
        asked = iter([False] * 3)
        stop = types.SimpleNamespace(requested=lambda asked=asked: next(asked, True), local=True, name="SIGUSR1")
        try:
            found = reference.evaluator.run(reference.variables, stop, tmp_path, progress=True)
        except Preempted as error:
            stops.append(str(error))
    assert stages.call_count == 2 * needed and len(stops) > 4
    assert "stopped by SIGUSR1" in stops[0] and "to continue; only work since the last save is done again" in stops[0]
    printed = capsys.readouterr().out
    assert "survivors" in printed and "images/s" in printed and "left" in printed
    assert_same(found, reference.outcomes)


@pytest.mark.parametrize("change", ["limit", "save_images"])
def test_a_chunk_that_another_process_does_again_is_read_again(variables, tmp_path, monkeypatch, change):
    """An earlier evaluation attacked, or kept, fewer images of it."""
    pgd = suite.ATTACKS["pgd_20"]
    small = suite.tiny_config(attacks={"pgd_20": pgd | {"limit": 40 if change == "limit" else 0}})
    large = suite.tiny_config(attacks={"pgd_20": pgd}, save_images=40 if change == "save_images" else 0)
    (evaluator, devices), (wanted, _) = suite.make(small), suite.make(large)
    wanted = dataclasses.replace(wanted, programs=evaluator.programs)
    evaluator.run(devices.replicate(variables), NEVER, tmp_path)
    expected = wanted.run(devices.replicate(variables), NEVER, tmp_path / "alone")
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def second(_):
        """The other process does its chunk while the first waits."""
        with monkeypatch.context() as other:
            other.setattr(jax, "process_index", lambda: 1)
            other.setattr(chunks.time, "sleep", lambda _: pytest.fail("the first has done its share"))
            wanted.run(devices.replicate(variables), NEVER, tmp_path)
        monkeypatch.setattr(chunks.time, "sleep", lambda _: pytest.fail("what the other wrote is not seen"))

    monkeypatch.setattr(chunks.time, "sleep", second)
    assert_same(wanted.run(devices.replicate(variables), NEVER, tmp_path), expected)


def test_more_saved_images_begin_an_unfinished_attack_anew(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SAVE_SECONDS", -1)
    monkeypatch.setattr(engine, "SAVE_COST", 0)
    between = f"{tmp_path}/*/000000.apgd_t-*.partial.npz"
    stop = types.SimpleNamespace(requested=lambda: bool(glob.glob(between)), local=True, name="SIGTERM")
    with pytest.raises(Preempted):
        reference.evaluator.run(reference.variables, stop, tmp_path)
    more = dataclasses.replace(reference.evaluator, save_images=20)
    monkeypatch.setattr(chunks.time, "sleep", lambda _: pytest.fail("waits for what nobody does"))
    found = more.run(reference.variables, NEVER, tmp_path)
    rows = found["protocols"]["cascade"]["members"][1]  # apgd_t
    assert (rows["pixels"][rows["attacked"][:20]] > 0).any((1, 2, 3)).all()
    assert_same(found | {"pixels": reference.outcomes["pixels"]}, reference.outcomes)


def test_a_finished_evaluation_computes_nothing_again(reference, monkeypatch):
    monkeypatch.setattr(reference.evaluator.programs, "stage", lambda *_: 1 / 0)
    monkeypatch.setattr(reference.evaluator.programs, "verdict", lambda *_: 1 / 0)
    monkeypatch.setattr(reference.evaluator.programs, "predict", lambda *_: 1 / 0)
    assert_same(
        reference.evaluator.run(reference.variables, NEVER, reference.folder, names=("cascade", "pgd_20", "rays")),
        reference.outcomes,
    )


def test_other_parameters_find_nothing_in_the_folder(reference):
    other = jax.tree.map(lambda leaf: leaf * 0, reference.variables)
    before = len(os.listdir(reference.folder))
    outcomes = reference.evaluator.run(other, NEVER, reference.folder, names=())
    assert len(os.listdir(reference.folder)) == before + 1
    assert outcomes["correct"].mean() < 0.3 and outcomes["protocols"] == {}


def test_a_damaged_file_is_named(reference, tmp_path):
    store = Store.open(tmp_path, {"seed": 0})
    store.save(0, "clean", {"index": np.arange(3)})
    path = f"{store.folder}/000000.clean.npz"
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(UserError, match=r"000000\.clean\.npz cannot be read .* remove this file"):
        store.load(0, "clean")


def test_compiles_each_program_once_whatever_the_survivors(reference, tmp_path):
    reference.evaluator.run(reference.variables, NEVER, tmp_path, names=("cascade",))
    assert len(reference.evaluator.programs.compile_seconds) == 1 + 6  # the verdict, and the suite's attacks


@dataclasses.dataclass(frozen=True)
class Cheat(base.Attack):
    """An "attack" that leaves the ball and the pixel range, returns one NaN image, and claims that all are fooled."""

    epsilon: float = 0.1

    def passes(self, num_classes):
        return 0, 0

    def stage(self, logits_fn, images, labels, keys, state, index):
        moved = (images + 2 * self.epsilon).at[0].set(jnp.nan)
        always = jnp.ones_like(state.done)
        return base.update(state, moved, found=always, done=always, forwards=0, backwards=0)


@dataclasses.dataclass(frozen=True)
class Liar(Cheat):
    """Claims that every image is fooled, and returns almost the clean ones."""

    def stage(self, logits_fn, images, labels, keys, state, index):
        always = jnp.ones_like(state.done)
        nearly = jnp.clip(images + 1e-6, 0, 1)
        return base.update(state, nearly, found=always, done=always, forwards=0, backwards=0)


def evaluate_with(attack, variables, folder, monkeypatch, **options):
    monkeypatch.setitem(attacks.TABLE, "pgd", (attack, {}))
    config = suite.tiny_config(attacks={"pgd_20": {"name": "pgd"}}, **options)
    evaluator, devices = suite.make(config)
    outcomes = evaluator.run(devices.replicate(variables), NEVER, folder)
    return results.summarize(evaluator.protocols, outcomes, 10, {}), outcomes


def test_an_attack_that_cheats_is_flagged_and_nan_is_not_robust(variables, tmp_path, monkeypatch):
    result, outcomes = evaluate_with(Cheat, variables, tmp_path, monkeypatch, chunk_size=50, batch_size=50)
    (entry,) = result["attacks"]
    assert {"budget_violated", "range_violated", "nan"} <= set(entry["flags"])
    first = np.flatnonzero(outcomes["correct"])[0]
    assert entry["nan"] == 1 and not outcomes["protocols"]["pgd_20"]["robust"][first]


def test_an_attack_that_lies_is_not_believed(variables, tmp_path, monkeypatch):
    result, _ = evaluate_with(Liar, variables, tmp_path, monkeypatch)
    (entry,) = result["attacks"]
    assert entry["robust_accuracy"] == result["clean"]["accuracy"]
    assert entry["flags"] == ["unconfirmed"] and entry["unconfirmed"] == entry["attacked"]


def test_a_model_of_nan_is_wrong_everywhere_and_nothing_is_attacked(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(reference.evaluator.programs, "stage", lambda *_: 1 / 0)
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), reference.variables)
    outcomes = reference.evaluator.run(broken, NEVER, tmp_path)
    result = results.summarize(reference.evaluator.protocols, outcomes, 10, {})
    assert result["clean"]["accuracy"] == 0 and result["clean"]["nan"] == suite.COUNT and "nan" in result["flags"]
    assert [entry["robust_accuracy"] for entry in result["attacks"]] == [0, 0, 0]


def test_half_precision_is_verified_in_float32_and_the_last_attack_is_float32(variables, tmp_path):
    members = {"apgd_ce": {"name": "apgd_ce", "steps": 4}, "apgd_dlr": {"name": "apgd_dlr", "steps": 4}}
    options = {"pgd_20": suite.ATTACKS["pgd_20"], "two": {"name": "cascade", "members": members}}
    evaluator, devices = suite.make(suite.tiny_config(attacks=options, attack_dtype="bfloat16"))
    assert [member.dtype for protocol in evaluator.protocols for member in protocol.members] == [
        "bfloat16",
        "bfloat16",
        "float32",
    ]
    outcomes = evaluator.run(devices.replicate(variables), NEVER, tmp_path)
    entries = results.summarize(evaluator.protocols, outcomes, 10, {})["attacks"]
    assert [entry["precision"] for entry in entries] == ["bfloat16", "float32/bfloat16"]
    assert entries[1]["robust_accuracy"] < 0.9
    rows = outcomes["protocols"]["two"]["members"][0]
    claimed = rows["unconfirmed"] & rows["attacked"]
    assert rows["robust"][claimed].all()


def test_counting_all_images_attacks_those_that_are_wrong_too(variables, tmp_path, monkeypatch):
    """As the authors count: what is right after the attack, which for a targeted one is more. One run for both."""
    pgdt = {"name": "pgd_targeted", "steps": 4, "step_rule": "madry", "epsilon_255": 6.0}
    config = suite.tiny_config(attacks={"right": pgdt, "all": pgdt | {"count": "all"}}, batch_size=50, chunk_size=50)
    evaluator, devices = suite.make(config)
    image = np.random.default_rng(0).integers(0, 256, (suite.COUNT, 8, 8, 3), dtype=np.uint8)
    classifier, images = suite.classifier(config, variables), programs.to_pixels(image)
    first, second = np.argsort(-np.asarray(jax.jit(classifier)(images)), -1).T[:2]
    label = np.where(np.arange(suite.COUNT) % 2, first, second).astype(np.int32)  # half are nearly right
    batch = {"image": image, "label": label, "index": np.arange(suite.COUNT, dtype=np.int32)}
    monkeypatch.setattr(
        data.Dataset, "eval_batches", lambda *_, **__: iter([batch | {"mask": np.ones(suite.COUNT, bool)}])
    )
    stages = mock.Mock(wraps=evaluator.programs.stage)
    monkeypatch.setattr(evaluator.programs, "stage", stages)
    outcomes = evaluator.run(devices.replicate(variables), NEVER, tmp_path)
    (member,) = evaluator.protocols[0].members
    key = keys.named(keys.named(jax.random.key(config.seed), "evaluation"), member.name)
    with jax.default_matmul_precision("highest"):
        attack = jax.jit(lambda x, y, k: member.attack(classifier, x, y, k).images)
        found = attack(images, label, keys.per_image(key, batch["index"]))
        robust = np.asarray(jax.jit(classifier)(found)).argmax(-1) == label
    correct = outcomes["correct"]
    assert (robust & ~correct).sum() > 0 and (correct & ~robust).sum() > 0, "or else the next lines say little"
    np.testing.assert_array_equal(outcomes["protocols"]["all"]["robust"], robust)
    np.testing.assert_array_equal(outcomes["protocols"]["right"]["robust"], robust & correct)
    np.testing.assert_array_equal(outcomes["protocols"]["right"]["members"][0]["attacked"], correct)
    assert stages.call_count == 1, "one run serves both"
    entries = results.summarize(evaluator.protocols, outcomes, 10, {})["attacks"]
    assert {entry["name"]: (entry["count"], entry["attacked"], entry["n"]) for entry in entries} == {
        "all": ("all", suite.COUNT, suite.COUNT),
        "right": ("right", correct.sum(), suite.COUNT),
    }
    assert results.worst_case(evaluator.protocols, outcomes)["robust_accuracy"] == (robust & correct).mean()


def test_l2_is_measured_and_audited(variables, tmp_path):
    radius, pgd = 60.0, {"name": "pgd", "steps": 4, "step_rule": "madry"}
    config = suite.tiny_config(
        attacks={"l2": pgd | {"norm": "l2", "epsilon_255": radius}, "linf": pgd}, batch_size=50, chunk_size=50
    )
    config.evaluation.save_images = suite.COUNT
    evaluator, devices = suite.make(config)
    found = evaluator.run(devices.replicate(variables), NEVER, tmp_path)
    (rows,), met = found["protocols"]["l2"]["members"], found["correct"]
    change = rows["pixels"][met].astype(np.float64) * 255 - found["pixels"][met]
    lengths = np.linalg.norm(change.reshape(len(change), -1), axis=1)
    np.testing.assert_allclose(rows["l2_255"][met], lengths, rtol=1e-5)
    np.testing.assert_allclose(rows["linf_255"][met], np.abs(change).max((1, 2, 3)), rtol=1e-5)
    assert 0.9 * radius < lengths.max() <= radius + 1e-3 and rows["linf_255"].max() > 2 * 1.5
    result = results.summarize(evaluator.protocols, found, 10, {})
    entry, other = result["attacks"]
    assert (entry["norm"], entry["epsilon_255"], entry["flags"], other["norm"]) == ("l2", radius, [], "linf")
    assert entry["max_l2_255"] == pytest.approx(lengths.max(), rel=1e-5) and entry["robust_accuracy"] < met.mean()
    dataset = {"source": "digits", "n": 50, "of": 50, "split": "validation", "choice": "all", "label_set": "10 classes"}
    head = {"dataset": dataset, "checkpoint": {"step": 7}}
    assert "eps 60/255 in l2, 4 steps" in table.render(head | result)


def test_pixels_are_rounded_within_the_ball():
    """To the nearest; in l2, where that leaves the ball, towards the clean image."""
    radius, rng, shape = 60.0, np.random.default_rng(0), (40, 8, 8, 3)
    clean, change = rng.integers(80, 170, shape, dtype=np.uint8), rng.normal(size=shape)
    change *= 0.9985 * radius / np.linalg.norm(change.reshape(40, -1), axis=1)[:, None, None, None]
    nearest = np.round(change)
    outside = np.linalg.norm(nearest.reshape(40, -1), axis=1) > radius
    assert outside.any() and not outside.all()
    adversarial = ((clean + change) / 255).astype(np.float32)
    expected = clean + np.where(outside[:, None, None, None], np.trunc(change), nearest)
    np.testing.assert_array_equal(programs.rounded(adversarial, clean, np.inf, radius), expected)
    expected = clean + np.clip(nearest, -3, 3)
    np.testing.assert_array_equal(programs.rounded(adversarial, clean, 3.7, np.inf), expected)


def test_individual_members_meet_every_image(reference, variables, tmp_path):
    options = {"cascade": suite.ATTACKS["cascade"] | {"individual": True}}
    evaluator, devices = suite.make(suite.tiny_config(attacks=options))
    evaluator = dataclasses.replace(evaluator, programs=reference.evaluator.programs)
    outcomes = evaluator.run(devices.replicate(variables), NEVER, tmp_path)
    cascade = outcomes["protocols"]["cascade"]
    for rows in cascade["members"]:
        np.testing.assert_array_equal(rows["attacked"], outcomes["correct"])
    robust = np.logical_and.reduce([outcomes["correct"], *(rows["robust"] for rows in cascade["members"])])
    np.testing.assert_array_equal(cascade["robust"], robust)
    np.testing.assert_array_equal(robust, reference.outcomes["protocols"]["cascade"]["robust"])
