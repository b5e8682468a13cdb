"""Paired tests: against exact arithmetic and scipy, and only between outcomes that are of the same images."""

import fractions
import itertools
import math

import numpy as np
import pytest

from nofrost_jax.report import pairs
from nofrost_jax.report.collect import collect, value
from tests.report import made


def exact(first, second):
    """The two-sided p by counting, in fractions."""
    total, least = first + second, min(first, second)
    tail = sum(math.comb(total, count) for count in range(least + 1))
    return min(fractions.Fraction(1), fractions.Fraction(2 * tail, 2**total))


@pytest.mark.parametrize(
    ("first", "second"), [*itertools.product(range(9), repeat=2), (3, 40), (200, 260), (1000, 900), (5200, 5000)]
)
def test_p_is_exact(first, second):
    assert pairs.mcnemar(first, second) == pytest.approx(float(exact(first, second)), rel=1e-9)


def test_p_is_that_of_scipy_and_of_every_outcome_counted():
    """Of 12 images that fall to either net with probability 1/2, outcomes at least as uneven as 2 against 10."""
    every = [sum(coins) for coins in itertools.product((0, 1), repeat=12)]
    assert pairs.mcnemar(2, 10) == pytest.approx(sum(count <= 2 or count >= 10 for count in every) / len(every))
    stats = pytest.importorskip("scipy.stats")
    for first, second in [(0, 5), (17, 4), (900, 1200), (20_000, 20_300)]:
        assert pairs.mcnemar(first, second) == pytest.approx(stats.binomtest(first, first + second).pvalue, rel=1e-8)


def test_p_of_overwhelming_differences_is_zero_at_worst():
    assert pairs.mcnemar(0, 50_000) == 0.0 and 0 < pairs.mcnemar(0, 1000) < 1e-300


def test_holm_is_the_step_down_correction():
    assert pairs.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert pairs.holm([0.5, 0.9, 0.02]) == pytest.approx([1.0, 1.0, 0.06])
    assert pairs.holm([]) == []


def test_the_interval_is_agresti_and_mins():
    """Of their formula by hand: n 100, 15 against 5."""
    low, high = pairs.Difference(100, 15, 5).ci95
    half = 1.959963984540054 * math.sqrt(21 - 100 / 102) / 102
    assert (low, high) == pytest.approx((10 / 102 - half, 10 / 102 + half))
    assert pairs.Difference(0, 0, 0).points == 0.0
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):  # two nets that differ by 0.06 in truth
        first, second = rng.multinomial(200, [0.16, 0.10, 0.74])[:2]
        low, high = pairs.Difference(200, first, second).ci95
        covered += low <= 0.06 <= high
    assert covered >= 0.92 * 400


def pair(tmp_path, change=None, **fields):
    """Two nets' values under aa_standard on ten images, the second's changed before it is written."""
    found = []
    for seed, wrong in enumerate((3, 5)):
        robust = np.arange(10) >= wrong
        columns = made.arrays(np.ones(10, bool), aa_standard=robust)
        attack = made.attack("aa_standard", int(robust.sum()), 10)
        result = made.result(made.net(seed=seed), 10, [attack], n=10, sha=str(seed), **(fields if seed else {}))
        if seed and change:
            change(result, columns)
        made.write(tmp_path / str(seed), result, columns)
    for net in collect(tmp_path).nets:
        found.append(value(net, "aa_standard"))
    return found


def test_outcomes_are_paired(tmp_path):
    assert pairs.compare(*pair(tmp_path)) == pairs.Difference(10, 2, 0)


def test_only_images_that_both_were_attacked_on_count(tmp_path):
    def some(result, columns):
        columns["aa_standard.selected"] = np.arange(10) % 2 == 0  # 0, 2, 4 of which are wrong, 6, 8
        columns["aa_standard"] &= columns["aa_standard.selected"]
        result["attacks"][0] |= {"n": 5, "robust_accuracy": 0.4}

    assert pairs.compare(*pair(tmp_path, some)) == pairs.Difference(5, 1, 0)


def drop(name):
    return lambda result, columns: columns.pop(name)


def dataset(name, new):
    return lambda result, columns: result["dataset"].update({name: new})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dataset("index_sha256", "1" * 64), "on different images"),
        (dataset("source", "tfds:imagenet2012_subset"), "on different images"),
        (lambda result, columns: columns["label"].__setitem__(0, 9), "images or labels differ"),
        (lambda result, columns: columns["index"].__setitem__(0, 9), "images or labels differ"),
        (drop("aa_standard"), "lacks aa_standard"),
        (lambda result, columns: columns.update(aa_standard=np.zeros(9, bool)), "different lengths"),
        (lambda result, columns: columns.update(aa_standard=np.zeros(10)), "different lengths or kinds"),
        (lambda result, columns: columns.update(aa_standard=np.zeros(10, bool)), "does not belong to it"),
        (lambda result, columns: columns.clear(), "is missing or lacks"),
    ],
)
def test_other_images_labels_or_files_are_not_compared(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        pairs.compare(*pair(tmp_path, change))


@pytest.mark.parametrize(
    ("field", "new"),
    [
        ("attack", "square"),
        ("steps", 7),
        ("step_rule", "madry"),
        ("queries", 7),
        ("count", "all"),
        ("restarts", 5),
    ],
)
def test_two_attacks_of_one_name_are_not_compared(tmp_path, field, new):
    first, second = pair(tmp_path, lambda result, columns: result["attacks"][0].update({field: new}))
    with pytest.raises(ValueError, match="attacked in different ways"):
        pairs.compare(first, second)


def test_a_folder_is_known_by_its_contents_not_by_its_path(tmp_path):
    def elsewhere(contents):
        def change(result, columns):
            result["dataset"]["source"] = "folder:/b"
            result["asked"] = {"data": {"contents": contents}}

        return change

    first, second = pair(tmp_path, elsewhere("f" * 64))
    first.evaluation.result["dataset"]["source"] = "folder:/a"
    first.evaluation.result["asked"] = {"data": {"contents": "f" * 64}}
    assert pairs.compare(first, second).n == 10
    first.evaluation.result["asked"] = {"data": {"contents": "0" * 64}}
    with pytest.raises(ValueError, match="on different images"):
        pairs.compare(first, second)
