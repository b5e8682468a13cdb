"""Several devices and processes: the mapped axis, placement, collectives, stopping. The only file that says pmap."""

import collections
import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nofrost_jax import bucket_lock, lock, signals
from nofrost_jax.errors import INTACT, MachineError, Preempted, UserError, machine

AXIS = "batch"


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run; by default every device of every process. A subset is for tests in one process.

    Arrays are placed on this process's devices. Place the state before a mapped step: an unplaced argument makes it
    trace and compile a second time.
    """

    subset: tuple | None = None

    @property
    def local(self) -> list[jax.Device]:
        return list(self.subset or jax.local_devices())

    @property
    def count(self) -> int:
        """Devices of all processes."""
        return len(self.subset) if self.subset else jax.device_count()

    def describe(self) -> str:
        """A line like "2 processes x 8 devices (NVIDIA H100 80GB HBM3)"; the processes are usually one on each host."""
        processes, local = jax.process_count(), len(self.local)
        each = f"{local} device{'s' * (local > 1)} ({self.local[0].device_kind})"
        return f"{processes} process{'es' * (processes > 1)} x {each}"

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec())

    @property
    def _mesh(self):
        return Mesh(np.array(self.local), (AXIS,))  # named as the mapped axis, or steps are traced twice

    def replicate(self, tree: Any) -> Any:
        """A copy of every leaf on each local device."""
        return jax.device_put(tree, self.replicated)

    def shard(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Host arrays [local batch, ...] -> device arrays [local devices, local batch / local devices, ...]."""
        count = len(self.local)
        return self.place({name: value.reshape(count, -1, *value.shape[1:]) for name, value in batch.items()})

    def place(self, rows: Any) -> Any:
        """Host arrays [N, ...] -> device arrays of the same shape, split over the local devices, for `map_images`."""
        return jax.device_put(rows, NamedSharding(self._mesh, PartitionSpec(AXIS)))

    def map_step(self, step: Callable) -> jax.stages.Wrapped:
        """`step(state, batch, key) -> (state, metrics)` over the shards of a batch; the state is donated.

        The step itself must reduce over `AXIS`: what it does not reduce is silently taken from one device.
        """
        devices = list(self.subset) if self.subset else None
        return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0, devices=devices)

    def compile_step(self, step: Callable, *arguments: Any) -> Callable:
        """`map_step(step)`, compiled for `arguments`; calls with the same shapes and types compile nothing."""
        mapped = self.map_step(step)
        program = mapped.lower(*arguments).compile()
        # With several processes only pmap itself makes global arrays; it finds the compiled program in its cache.
        return program if jax.process_count() == 1 else mapped

    def map_images(self, fn: Callable, options: dict[str, Any] | None = None) -> jax.stages.Wrapped:
        """`fn(shared, rows) -> rows`, jitted over this process's devices: shared is replicated, rows are split.

        Devices do not communicate, so processes may call it different numbers of times. options: XLA's compiler's.
        """
        rows = PartitionSpec(AXIS)
        mapped = jax.shard_map(fn, mesh=self._mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False)
        return jax.jit(mapped, compiler_options=options)

    def prefetch(self, batches: Iterable[dict[str, np.ndarray]], size: int = 2) -> Iterator[dict[str, jax.Array]]:
        """Shards the batches, and keeps `size` of them on their way to the devices."""
        queue = collections.deque()
        for batch in batches:
            queue.append(self.shard(batch))
            if len(queue) > size:
                yield queue.popleft()
        yield from queue


def global_positions(count: int) -> jax.Array:
    """Inside a mapped step: positions [count] of this shard's images in the global batch."""
    return jax.lax.axis_index(AXIS) * count + np.arange(count)


def own_rows(rows: Any, count: int) -> jax.Array:
    """Inside a mapped step: this shard's `count` rows of an array with a row for each image of the global batch."""
    return jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(AXIS) * count, count)


def all_rows(rows: Any) -> jax.Array:
    """Inside a mapped step: the rows of all shards, in the order of the global batch, on every device."""
    return jax.lax.all_gather(rows, AXIS, tiled=True)


def mean(tree: Any) -> Any:
    """Inside a mapped step: the mean of every leaf over the shards."""
    return jax.lax.pmean(tree, AXIS)


def total(tree: Any) -> Any:
    """Inside a mapped step: the sum of every leaf over the shards."""
    return jax.lax.psum(tree, AXIS)


def to_global(tree: Any) -> Any:
    """Replicated arrays of this process as arrays over all processes, as orbax needs them; shares their memory."""
    if jax.process_count() == 1:
        return tree
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def is_main_process() -> bool:
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line, once for all processes."""
    if is_main_process():
        print(text, flush=True)


def wait_for_all(name: str) -> None:
    """Returns when every process has called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def on_main(act: Callable[[], Any]) -> Any:
    """What `act()` returns on process 0, a JSON value, on all processes. If it raises, all raise."""
    if jax.process_count() == 1:
        return act()
    reply, raised = {}, None
    if is_main_process():
        try:
            with machine(INTACT):
                reply = {"value": act()}
        except Exception as error:  # raised below, after the others are told
            reply, raised = {"error": str(error), "machine": isinstance(error, MachineError)}, error
    content = json.dumps(reply).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    buffer = np.frombuffer(content, np.uint8) if is_main_process() else np.zeros(size, np.uint8)
    reply = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes())
    if "error" in reply:
        raise raised or (MachineError if reply["machine"] else UserError)(f"process 0 ended: {reply['error']}")
    return reply["value"]


@contextlib.contextmanager
def exclusive(path: str, what: str, stop: "StopSignal | None" = None) -> Iterator[None]:
    """Holds the lock file at `path` (`lock.Lock`) for a block that all processes run; process 0 takes it.

    stop: waits while another program holds the lock, and raises Preempted after a signal. None: raises UserError.
    """
    own, waiting = bucket_lock.at(path, what), False
    while holder := on_main(own.take):
        if stop is None:
            raise lock.in_use(path, holder)
        if not waiting:
            say(f"waiting for {holder} ({path})")
        waiting = True
        if stop.requested():
            raise Preempted(f"stopped while waiting for {path}; run the same command again to continue")
        time.sleep(1)
    try:
        yield
    finally:
        if is_main_process():
            own.give_back()


class StopSignal(signals.Stop):
    """Notices the signals that end a run: `with StopSignal() as stop: ... if stop.requested(): ...`.

    Several processes that compute together must all stop at one step: jax's preemption service hears SIGTERM, the other
    signals are passed on as SIGTERM, and `requested`, which all processes call equally often, is true in the same call
    on all. With `each_alone`, and in a single process, each notices signals itself and asks when it likes (`local`).
    """

    def __init__(self, each_alone: bool = False) -> None:
        self.local, self._calls = each_alone or jax.process_count() == 1, 0
        if self.local:
            super().__init__()
        else:
            others = [number for number in signals.NUMBERS if number != signal.SIGTERM]
            super().__init__(others, then=lambda _: os.kill(os.getpid(), signal.SIGTERM))

    def requested(self) -> bool:
        """Whether to save and stop now."""
        if self.local:
            return self.heard
        self._calls += 1
        return multihost_utils.reached_preemption_sync_point(self._calls)
