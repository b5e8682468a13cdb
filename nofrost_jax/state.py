"""What training carries from step to step. No random key and no input position: both follow from the step."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
    """step: int32 scalar, steps done. batch_stats: {} without batch norm. method: what the training method keeps
    from step to step, {} for most."""

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

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        """The items of a checkpoint: {"variables", "optimizer"}."""
        kept = {"method": self.method} if self.method else {}
        return {"variables": self.variables, "optimizer": {"step": self.step, "opt_state": self.opt_state, **kept}}

    @classmethod
    def from_items(cls, items: dict[str, dict[str, Any]]) -> "TrainState":
        """The state whose `items` these are."""
        variables, optimizer = items["variables"], items["optimizer"]
        stats, method = variables.get("batch_stats", {}), optimizer.get("method", {})
        return cls(optimizer["step"], variables["params"], stats, optimizer["opt_state"], method)


def join(params: dict[str, Any], batch_stats: dict[str, Any]) -> dict[str, Any]:
    """Linen variables, with the collection of batch statistics only if there are some."""
    return {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}
