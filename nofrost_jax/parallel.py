"""All that knows about several devices: the mapped axis, placement, processes. The only file that says pmap."""

import collections
import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nofrost_jax import cluster, lock, peers, signals
from nofrost_jax.errors import WHOLE, MachineError, Missing, Preempted, UserError, exit_codes, machine

AXIS = "batch"
LOST_SECONDS = 5  # in which a lost process is noticed, whose loss may show as an error first


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run; by default every device of every process. A subset is for tests on one process.

    Placement is over this process's devices. State that is mapped must be placed first: an unplaced argument would
    trace and compile the whole step a second time.
    """

    subset: tuple | None = None

    @property
    def local(self) -> list[jax.Device]:
        return list(self.subset or jax.local_devices())

    @property
    def count(self) -> int:
        """Devices of all processes."""
        return len(self.subset) if self.subset else jax.device_count()

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec())

    @property
    def _mesh(self):
        return Mesh(np.array(self.local), (AXIS,))  # the name must equal the mapped axis', or it traces twice

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

    def map_step(self, step: Callable) -> Callable:
        """`step(state, batch, key) -> (state, metrics)` over the shards of a batch; the state is donated.

        The step reduces over `AXIS` itself: what is not reduced comes back from one device, silently.
        """
        devices = list(self.subset) if self.subset else None
        return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0, devices=devices)

    def compile_step(self, step: Callable, *arguments: Any) -> Callable:
        """`map_step(step)`, traced and compiled for `arguments`; a call with their like compiles nothing."""
        mapped = self.map_step(step)
        compiled = mapped.lower(*arguments).compile()
        # Only pmap itself turns a process's arrays into global ones and back; it finds the compiled program again.
        return compiled if jax.process_count() == 1 else mapped

    def map_images(self, fn: Callable) -> Callable:
        """`fn(shared, rows) -> rows`, jitted over this process's devices: shared is replicated, rows are split.

        No device talks to another, so that processes need not call it equally often.
        """
        specs = (PartitionSpec(), PartitionSpec(AXIS))
        return jax.jit(
            jax.shard_map(fn, mesh=self._mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False)
        )

    def prefetch(self, batches: Iterable[dict[str, np.ndarray]], size: int = 2) -> Iterator[dict[str, jax.Array]]:
        """Shards the batches, keeping `size` of them on their way to the devices."""
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
    """Replicated arrays of this process as arrays over all processes, which orbax wants; shares their memory."""
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


@contextlib.contextmanager
def joined(
    coordinator_address: str = "",
    num_processes: int = 1,
    process_id: int = 0,
    timeout: int = 300,
    each_alone: bool = False,
) -> Iterator[None]:
    """Joins the processes of one run for a block; where one is lost, or ends with an error, the others end as well.

    See `initialize`. each_alone: each hears signals by itself, as in an evaluation, and when one is stopped all stop;
    otherwise Preempted is raised by all at once, as `StopSignal` sees to.
    """
    among = initialize(coordinator_address, num_processes, process_id, timeout)
    # jax's client has taken SIGTERM over, for a service that only those ask who stop together
    hearing = signals.raising() if each_alone else contextlib.nullcontext()
    if among is None:
        with hearing:
            yield
        return
    try:
        with hearing, machine(WHOLE, gone=False):
            yield
    except Missing:  # as all of them
        raise
    except (Preempted, KeyboardInterrupt) as notice:
        if each_alone or isinstance(notice, KeyboardInterrupt):
            with signals.Stop():  # a second one must not keep the others from knowing
                among.leave("stopped")
            with exit_codes(_leave_at_once):
                raise
        raise
    except (UserError, MachineError):
        among.leave("failed")
        raise
    except Exception:
        time.sleep(LOST_SECONDS)  # it may be what comes of a lost process, which is then told instead
        among.leave("failed")
        traceback.print_exc()
        leave(1)  # the others end: jax must not wait for them
    finally:
        among.leave()


def initialize(
    coordinator_address: str = "", num_processes: int = 1, process_id: int = 0, timeout: int = 300
) -> peers.Peers | None:
    """Joins the processes of one run; their `peers.Peers`, if it is up to us. Touches no device: a config that is
    refused shall not take one.

    With a coordinator address the next two arguments are used as they are; with "auto", as on a TPU pod, and under srun
    or Open MPI with more than one task jax finds them out. One process on one host needs nothing. timeout: seconds in
    which all must have come. Raises UserError or MachineError.
    """
    local = []
    if coordinator_address == "auto" or (not coordinator_address and num_processes == 1 and cluster.detected()):
        # Under SLURM and Open MPI jax takes one GPU a process, even if it is alone on its host; [] = all.
        local = [] if coordinator_address != "auto" and cluster.alone_on_host() else None
        found = cluster.place(timeout)
        if found is None:
            try:
                jax.distributed.initialize(local_device_ids=local, initialization_timeout=timeout)
            except ValueError as error:
                mend = "give --coordinator_address=HOST:PORT, --num_processes and --process_id"
                raise UserError(f"jax finds no cluster to join ({error}); {mend}") from error
            return None
        coordinator_address, num_processes, process_id = found
    if not coordinator_address:
        if num_processes > 1:
            raise UserError(f"--num_processes={num_processes} needs --coordinator_address=HOST:PORT, of process 0")
        return None
    among = peers.Peers(coordinator_address, num_processes, process_id, timeout)
    among.join()
    jax.distributed.initialize(among.forwarded(), num_processes, process_id, local_device_ids=local)
    return among


def require_joined() -> None:
    """Raises UserError where there are several hosts, but this process has not joined the others."""
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise UserError(
            f"this is one of {jax.process_count()} hosts, but they have not joined; add "
            "--coordinator_address=auto to the command on each"
        )


def leave(code: int) -> None:
    """Ends this process. A failure (1) or a refusal (2) may be this process's alone, while the others wait for it in a
    collective: then it must not wait for them at jax's shutdown barrier."""
    if code in (1, 2) and jax.distributed.is_initialized():  # process_count would touch the devices
        _leave_at_once(code)
    sys.exit(code)


def _leave_at_once(code):
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the disk that is full may be theirs
            stream.flush()
    os._exit(code)


def wait_for_all(name: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def on_main(act: Callable[[], Any]) -> Any:
    """What `act()` returns on process 0, a value that JSON has, on all processes; where it raises there, all raise."""
    if jax.process_count() == 1:
        return act()
    reply, raised = {}, None
    if is_main_process():
        try:
            with machine("what was saved before is whole"):
                reply = {"value": act()}
        except Exception as error:  # raised below, when the others know
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
    """Holds the lock file at `path` (`lock.Lock`) for a block of all processes; process 0 takes it.

    stop: the StopSignal; where another holds the lock, waits for its end, and raises Preempted when the signal says so.
    Without one raises UserError.
    """
    own, waiting = lock.Lock(path, what), False
    while holder := on_main(own.take):
        if stop is None:
            raise lock.in_use(path, holder)
        if not waiting:
            say(f"waiting for {holder} ({path})")
        waiting = True
        if stop.requested():
            raise Preempted(f"stopped while waiting for {path}; run the same command again to go on")
        time.sleep(1)
    try:
        yield
    finally:
        if is_main_process():
            own.give_back()


class StopSignal(signals.Stop):
    """Hears the signals that end a run: `with StopSignal() as stop: ... if stop.requested(): ...`.

    One process hears them itself. Several that compute together must all stop at one point: there jax's preemption
    service hears SIGTERM, as which the others are passed on to it, and `requested`, which every process calls equally
    often, is true at the same call on all. With `each_alone` each of several hears them itself, and asks when it likes
    (`local`).
    """

    def __init__(self, each_alone: bool = False) -> None:
        self.local, self._calls = each_alone or jax.process_count() == 1, 0
        if self.local:
            super().__init__()
        else:
            others = [number for number in signals.NUMBERS if number != signal.SIGTERM]
            super().__init__(others, then=lambda _: os.kill(os.getpid(), signal.SIGTERM))

    def requested(self) -> bool:
        """Whether to save what there is and stop here."""
        if self.local:
            return self.heard
        self._calls += 1
        return multihost_utils.reached_preemption_sync_point(self._calls)
