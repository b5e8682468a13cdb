"""How the images of a chunk are looked at, batch by batch."""

import numpy as np
import pytest

from nofrost_jax.evaluation.chunks import Chunk, look
from nofrost_jax.evaluation.flags import NOTES, PROBES


def looked(number, probe, logits):
    """(rows, how often each batch was looked at) of a chunk of 11 images in batches of 4; logits: of a pass."""
    index = np.arange(11, dtype=np.int32) + 11 * number
    chunk = Chunk(number, np.zeros((11, 2, 2, 3), np.uint8), index % 3, index)
    passes = []

    def forward(batch, rows, times):
        passes.append(times)
        np.testing.assert_array_equal(batch["index"][: len(rows)], index[rows])
        assert batch["active"].sum() == len(rows) and len(batch["active"]) == 4
        return [{"logits": logits(i), "double": 2 * batch["index"], "unused": 0} for i in range(times)]

    return look(chunk, 4, forward, ("double",), probe), passes


@pytest.mark.parametrize("number, probe", [(0, True), (0, False), (1, True)])
def test_rows_come_without_padding_and_the_first_batch_of_all_is_probed(number, probe):
    rows, passes = looked(number, probe, lambda i: np.eye(4, 3) * 5 + i)
    np.testing.assert_array_equal(rows.pop("double"), 2 * (np.arange(11) + 11 * number))
    first = probe and number == 0
    assert passes == [PROBES if first else 1, 1, 1]
    assert rows == ({"randomised": first, "probabilities": False} if probe else {})


def test_what_a_probe_notes():
    for logits, raised in ((np.eye(4, 3) + np.eye(4, 3, -3), "probabilities"), (5 * np.eye(4, 3), None)):
        rows, _ = looked(0, True, lambda i, logits=logits: logits)
        assert [name for name in NOTES if rows[name]] == [raised] * (raised is not None)
