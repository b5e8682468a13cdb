"""Training methods. Each is a module with the first two of these functions, and the others if it needs them:

    make_step(model, optimizer, config, steps_per_epoch=None) -> step(state, batch, key) -> (state, metrics)
    passes(config) -> (forwards, backwards to the image, backwards to the parameters) per training image
    begin(config, image_size) -> what it keeps from step to step in `state.method`
    updates(config) -> optimizer steps in one training step
    notes(config) -> lines that a run prints at its start: what differs from the paper

`step` is a pure function of one device's shard; `parallel.Devices.map_step` maps it. Its metrics are float32 pairs
(sum, count). A new method is one file here and one row in TABLE.
"""

import dataclasses
from collections.abc import Callable

from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax.methods import at, augmented, fast, fat, free, standard, trades, trades_fat
from nofrost_jax.methods.base import Optimizer, Step, at_precision


@dataclasses.dataclass(frozen=True)
class Method:
    """A method's functions, as above. make_own_step: the module's `make_step`."""

    make_own_step: Callable
    passes: Callable
    begin: Callable = lambda config, image_size: {}
    updates: Callable = lambda config: 1
    notes: Callable = lambda config: ()

    def make_step(
        self, model: nn.Module, optimizer: Optimizer, config: ConfigDict, steps_per_epoch: int | None = None
    ) -> Step:
        """The method's step at `config.matmul_precision`."""
        step = self.make_own_step(model, optimizer, config, steps_per_epoch)
        return at_precision(step, config.matmul_precision)


TABLE = {
    "standard": Method(standard.make_step, standard.passes),
    "at": Method(at.make_step, at.passes),
    "trades": Method(trades.make_step, trades.passes),
    "fat": Method(fat.make_step, fat.passes),
    "trades_fat": Method(trades_fat.make_step, trades_fat.passes),
    "fast": Method(fast.make_step, fast.passes),
    "free": Method(free.make_step, free.passes, free.begin, free.updates),
    "augmented": Method(augmented.make_step, augmented.passes, notes=augmented.notes),
}
NAMES = tuple(TABLE)
