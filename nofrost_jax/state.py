"""What training carries from step to step. No random key and no input position: both follow from the step."""

from typing import Any

import flax
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, steps done. batch_stats: {} for nets without batch norm."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @classmethod
    def create(cls, variables, optimizer):
        """A fresh state from `models.init`'s variables and an optax optimizer."""
        params = variables["params"]
        return cls(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(params))

    @property
    def variables(self):
        return join(self.params, self.batch_stats)


def join(params, batch_stats):
    """Linen variables; the collection of batch statistics is there only where the net has some."""
    return {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}
