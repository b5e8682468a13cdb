"""What training carries from step to step. No random key and no input position: both follow from the step."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, steps done. batch_stats: {} for nets without batch norm. method: what the training method
    keeps from step to step, for most {}."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    method: Any = flax.struct.field(default_factory=dict)

    @classmethod
    def create(
        cls, variables: dict[str, Any], optimizer: optax.GradientTransformation, method: Any = None
    ) -> "TrainState":
        """A fresh state from `models.init`'s variables, an optax optimizer and what the method's `begin` returns."""
        params, stats = variables["params"], variables.get("batch_stats", {})
        return cls(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), method or {})

    @property
    def variables(self) -> dict[str, Any]:
        return join(self.params, self.batch_stats)


def join(params: dict[str, Any], batch_stats: dict[str, Any]) -> dict[str, Any]:
    """Linen variables; the collection of batch statistics is there only where the net has some."""
    return {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}
