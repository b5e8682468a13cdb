"""Which batch norm layer is the 15th, and what is said of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from nofrost_jax import models
from nofrost_jax.analysis import bn_statistics

READINGS = {"module order": "stage2_block2/norm3", "without shortcuts": "stage3_block1/norm2"}


def statistics(name="resnet26", **options):
    """Running statistics of a net with random ones."""
    variables = models.abstract_variables(models.create(name, num_classes=3, width=0.125, **options), 32)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(size=leaf.shape)), variables.get("batch_stats", {}))


def test_the_15th_of_resnet26_in_both_readings():
    """Counted by hand: the stem, and three in each block, with a fourth where a stage begins."""
    batch_stats = statistics()
    found = bn_statistics.numbered(batch_stats)
    assert {one["reading"]: one["layer"] for one in found} == READINGS
    for one in found:
        block, norm = one["layer"].split("/")
        np.testing.assert_array_equal(one["mean"], batch_stats[block][norm]["mean"])
        np.testing.assert_array_equal(one["var"], batch_stats[block][norm]["var"])


def test_the_order_is_that_in_which_a_net_is_built():
    """The order in which flax meets the layers, with more than nine blocks in a stage."""
    model = models.create("resnet26", num_classes=3, width=0.125, stage_sizes=(1, 11))
    met = []

    def note(call, args, keywords, context):
        if "norm" in (context.module.name or "") and context.method_name == "__call__":
            met.append("/".join(context.module.path))
        return call(*args, **keywords)

    with nn.intercept_methods(note):
        variables = models.abstract_variables(model, 32)
    assert len(met) > 33
    assert list(bn_statistics.layers(jax.tree.map(lambda leaf: np.zeros(leaf.shape), variables["batch_stats"]))) == met


def test_a_mixture_net_has_both_branches():
    found = bn_statistics.numbered(statistics(norm="mbn"))
    assert [(one["reading"], one["layer"]) for one in found] == [
        (reading, f"{layer}/{branch}") for reading, layer in READINGS.items() for branch in ("clean", "adversarial")
    ]


@pytest.mark.parametrize(
    "name, options", [("nf_resnet26", {}), ("resnet26", {"norm": "in"}), ("resnet26", {"stage_sizes": (1, 1)})]
)
def test_nets_without_such_a_layer_have_none(name, options):
    assert bn_statistics.numbered(statistics(name, **options)) == []
