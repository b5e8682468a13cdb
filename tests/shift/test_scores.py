"""Label sets and the scores of ImageNet-C, against numbers worked out by hand."""

import numpy as np
import pytest

from nofrost_jax import corruptions
from nofrost_jax.errors import UserError
from nofrost_jax.shift import label_sets
from nofrost_jax.shift.label_sets import IMAGENET_A, IMAGENET_R
from nofrost_jax.shift.scores import ALEXNET, SEVERITIES, scores


def test_lists():
    for labels, total in ((IMAGENET_R, 86_135), (IMAGENET_A, 102_178)):
        assert len(labels) == len(set(labels)) == 200 and sum(labels) == total
        assert list(labels) == sorted(labels) and labels[0] >= 0 and labels[-1] < 1000
    assert len({*IMAGENET_R} & {*IMAGENET_A}) == 86


def test_masks():
    allowed = label_sets.mask("imagenet_r", 1000)
    assert allowed.dtype == bool and np.flatnonzero(allowed).tolist() == list(IMAGENET_R)
    assert label_sets.title("imagenet_r", allowed) == "imagenet_r, 200 of 1000 classes"
    assert label_sets.mask("all", 7).tolist() == [True] * 7
    assert label_sets.mask("present", 5, np.array([3, 1, 3])).tolist() == [False, True, False, True, False]
    with pytest.raises(UserError, match="the net has 10"):
        label_sets.mask("imagenet_a", 10)


def test_names_are_those_of_the_corruptions():
    assert tuple(ALEXNET) == corruptions.NAMES
    assert corruptions.SEVERITIES is SEVERITIES


def test_scores_of_a_table():
    """Every error a half, but snow's 0.1 to 0.5: 0.3 on average."""
    table = {(name, severity): 0.5 for name in ALEXNET for severity in SEVERITIES}
    table |= {("snow", severity): 1 - severity / 10 for severity in SEVERITIES}
    found = scores(table, ALEXNET)
    assert found["mean_accuracy"] == pytest.approx((14 * 0.5 + 0.7) / 15)
    assert found["errors"]["snow"] == pytest.approx(0.3) and found["errors"]["fog"] == pytest.approx(0.5)
    # 0.5 / 0.819324 and 0.3 / 0.866816; the sum of 1 / A over the other fourteen is 18.248125.
    assert found["ratios"]["fog"] == pytest.approx(0.610259, abs=1e-6)
    assert found["ratios"]["snow"] == pytest.approx(0.346094, abs=1e-6)
    assert found["mce"] == pytest.approx(0.631344, abs=1e-6)
    # AlexNet itself has an mCE of 1, whatever its severities.
    alexnet = {
        (name, severity): 1 - error + (severity - 3) / 100 for name, error in ALEXNET.items() for severity in SEVERITIES
    }
    assert scores(alexnet, ALEXNET)["mce"] == pytest.approx(1)


def test_an_incomplete_table_has_no_mce():
    table = {(name, severity): 0.5 for name in ALEXNET for severity in SEVERITIES}
    assert scores(table)["mce"] is None and scores(table)["ratios"] == {} and len(scores(table)["errors"]) == 15
    del table["fog", 3]
    found = scores(table, ALEXNET)
    assert found["mce"] is None and "fog" not in found["errors"] and len(found["ratios"]) == 14
