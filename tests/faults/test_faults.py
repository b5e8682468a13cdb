"""A few of the trials of `python -m tests.faults`."""

import json
import pathlib

import pytest

from tests.conftest import sharing_compiled
from tests.faults import fuzz, kills
from tests.resume.helpers import without_times

FILES = {"config.json", "metrics.jsonl", "selection.json", "final.json", "final.npz", "000000.clean.npz"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "processes"), [("saving", 1), ("training", 2)])
def test_what_is_killed_ends_as_if_it_had_not_been(tmp_path, name, processes):
    lost, tally = [], kills.Tally(name, processes)
    trials = kills.Trials(tmp_path, 0, lost.append)
    (part,) = (one for one in kills.PARTS if one.name == name)
    trials.disturbed(part, processes, tally)
    assert (tally.lost, lost) == (0, [])


def test_another_end_is_noticed():
    found = {"results": [{"accuracy": 0.5, "seconds": 1}]}
    assert without_times(found) == without_times({"results": [{"accuracy": 0.5, "seconds": 2}]})
    assert without_times(found) != without_times({"results": [{"accuracy": 0.25, "seconds": 1}]})


@pytest.mark.slow
def test_a_damaged_file_is_told_or_does_no_harm(tmp_path, compilation_cache):
    wrong = []
    with sharing_compiled(compilation_cache):
        counts = fuzz.fuzz(tmp_path, 1, wrong.append, among=lambda path: path.name in FILES)
    assert not [line for line in wrong if line.startswith(fuzz.VERDICTS[2:])]
    assert all(found["equal"] + found["told"] >= 3 for found in counts.values()) and len(counts) == 6


def test_what_is_wrong_is_called_so(tmp_path):
    whole, path = fuzz.Said(0, {"accuracy": 0.5}, "written\n"), pathlib.Path("evaluations/final.json")
    told = "not used: evaluations/final.json: it is not JSON\n"
    else_ = "12 s left\nwritten by an earlier run: run/evaluations/final.json\n"
    for said, verdict in (
        (fuzz.Said(0, {"accuracy": 0.5}, ""), "equal"),
        (fuzz.Said(0, {"accuracy": 0.25}, told), "told"),
        (fuzz.Said(2, None, "error: evaluations/final.json is damaged\n"), "told"),
        (fuzz.Said(2, None, "error: something else\n"), "silent"),
        (fuzz.Said(0, {"accuracy": 0.25}, else_), "silent"),
        (fuzz.Said(0, {"accuracy": 0.25}, "written\n"), "silent"),
        (fuzz.Said(2, None, "error: a\nerror: b\n"), "many lines"),
        (fuzz.listen(lambda folder: json.loads(""), tmp_path), "traceback"),
    ):
        assert fuzz.judge(said, whole, path) == verdict
