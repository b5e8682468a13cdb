"""How the images of a set are predicted, batch by batch."""

import time

import jax
import numpy as np
import pytest

from nofrost_jax import parallel
from nofrost_jax.evaluation import chunks
from nofrost_jax.evaluation.autoattack import Arrays
from nofrost_jax.evaluation.engine import Evaluator
from nofrost_jax.evaluation.flags import NOTES, PROBES
from nofrost_jax.evaluation.predictions import Prediction

INDEX = np.arange(22, dtype=np.int32)


class Programs:
    """Those of a net that answers as `logits(pass)` says; every third image is right."""

    def __init__(self, logits):
        self.batch_size, self.num_classes, self.total_compile_seconds, self.passes = 4, 3, 0.0, []
        self.ready, self._logits = lambda variables: variables, logits

    def predict(self, variables, batch, allowed):
        assert len(batch["active"]) == 4 and not batch["index"][~batch["active"]].any() and allowed is None
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
        self.passes.append(batch["active"].sum())
        nothing = np.zeros(4, bool)
        return {"logits": self._logits(len(self.passes) - 1), "correct": batch["index"] % 3 == 0, "nan": nothing}


def predicted(folder, probe, logits):
    """(the outcome of a prediction on two chunks of 11 images, images in each pass)."""
    images = Arrays(np.broadcast_to(INDEX.astype(np.uint8)[:, None, None, None], (22, 2, 2, 3)), INDEX % 3)
    images.chunk_size, programs = 11, Programs(logits)
    evaluator = Evaluator(programs, images, {}, 0, predictions=(Prediction(probe=probe),))
    (found,) = evaluator.run((), parallel.StopSignal(), folder)["predictions"]
    return found, programs.passes


@pytest.mark.parametrize(("count", "size", "shares"), [(50, 20, [30, 20]), (22, 11, [11, 11]), (5, 5, [5, 0])])
def test_the_shares_of_processes_are_those_of_their_chunks(monkeypatch, count, size, shares):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for process, expected in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert chunks.share(count, size) == expected


def test_the_seconds_of_a_prediction_are_the_nets_alone(tmp_path, monkeypatch):
    """On a clock that only loading, an hour a chunk, and the net, a second a pass, move."""
    now, batches = [0.0], Arrays.batches

    def loaded(*arguments):
        for batch in batches(*arguments):
            now[0] += 3600
            yield batch

    def logits(_):
        now[0] += 1
        return np.eye(4, 3)

    monkeypatch.setattr(Arrays, "batches", loaded)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    found, passes = predicted(tmp_path, False, logits)
    assert found["seconds"] == len(passes) == 6


@pytest.mark.parametrize("probe", [True, False])
def test_rows_come_without_padding_and_the_first_batch_of_all_is_probed(tmp_path, probe):
    found, passes = predicted(tmp_path, probe, lambda i: np.eye(4, 3) * 5 + i)
    for name, wanted in (("correct", INDEX % 3 == 0), ("index", INDEX), ("label", INDEX % 3)):
        np.testing.assert_array_equal(found[name], wanted)
    assert passes == [4] * (PROBES if probe else 1) + [4, 3, 4, 4, 3]
    assert {name: found[name] for name in NOTES if probe} == (
        {"randomised": True, "probabilities": False} if probe else {}
    )
    assert probe or NOTES[0] not in found


def test_what_a_probe_notes(tmp_path):
    for number, (logits, raised) in enumerate(
        ((np.eye(4, 3) + np.eye(4, 3, -3), "probabilities"), (5 * np.eye(4, 3), None))
    ):
        found, _ = predicted(tmp_path / str(number), True, lambda i, logits=logits: logits)
        assert [name for name in NOTES if found[name]] == [raised] * (raised is not None)
