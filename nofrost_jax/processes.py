"""Starting and ending one run of several processes: which process this is, joining the others, leaving them."""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

import jax

from nofrost_jax import peers, signals
from nofrost_jax.errors import INTACT, MachineError, Missing, Preempted, UserError, exit_codes, machine

LOST_SECONDS = 5  # within which a lost process is noticed; an error that it causes may come first


@contextlib.contextmanager
def joined(
    coordinator_address: str = "",
    num_processes: int = 1,
    process_id: int = 0,
    timeout: int = 300,
    each_alone: bool = False,
) -> Iterator[None]:
    """`initialize` for a block: when a process is lost, or ends with an error, the others end as well.

    each_alone: every process handles signals itself, as in an evaluation, and when one is stopped all stop. Otherwise
    all raise Preempted at the same step (`parallel.StopSignal`).
    """
    among = initialize(coordinator_address, num_processes, process_id, timeout)
    # jax's client has taken over SIGTERM, for a service that matters only if all stop at one step
    hearing = signals.raising() if each_alone else contextlib.nullcontext()
    if among is None:
        with hearing:
            yield
        return
    try:
        with hearing, machine(INTACT, gone=False):
            yield
    except Missing:  # in all processes
        raise
    except (Preempted, KeyboardInterrupt) as notice:
        if each_alone or isinstance(notice, KeyboardInterrupt):
            with signals.Stop():  # a second signal must not keep the others from being told
                among.leave("stopped")
            with exit_codes(_leave_at_once):
                raise
        raise
    except (UserError, MachineError):
        among.leave("failed")
        raise
    except Exception:
        time.sleep(LOST_SECONDS)  # a lost process may have caused it, and is then named instead
        among.leave("failed")
        traceback.print_exc()
        leave(1)  # the others end: jax must not wait for them
    finally:
        among.leave()


def initialize(
    coordinator_address: str = "", num_processes: int = 1, process_id: int = 0, timeout: int = 300
) -> peers.Peers | None:
    """Joins the processes of one run. Returns their `Peers`, or None if there is one process or jax joins them itself.

    An address is used with the next two arguments. With "auto", as on a TPU pod, and under srun or Open MPI with more
    than one task, jax finds all three. timeout: seconds for all to come. Takes no device, so that a config can still be
    refused. Raises UserError or MachineError.
    """
    local: (
        list[int] | None
    ) = []  # GPUs of this process: [] = all, None = jax's choice, which is one under SLURM and Open MPI
    if coordinator_address == "auto" or (not coordinator_address and num_processes == 1 and _in_cluster()):
        local = [] if coordinator_address != "auto" and _alone_on_host() else None
        place = _place_in_cluster(timeout)
        if place is None:
            try:
                jax.distributed.initialize(local_device_ids=local, initialization_timeout=timeout)
            except Exception as error:
                if not (isinstance(error, ValueError) or "KUBERNETES_SERVICE_HOST" in os.environ):
                    raise  # in a pod jax asks Kubernetes, which may refuse in many ways
                mend = "give --coordinator_address=HOST:PORT, --num_processes and --process_id"
                raise UserError(f"jax finds no cluster to join ({error}); {mend}") from error
            return None
        coordinator_address, num_processes, process_id = place
    if not coordinator_address:
        if num_processes > 1:
            raise UserError(f"--num_processes={num_processes} needs --coordinator_address=HOST:PORT of process 0")
        return None
    among = peers.Peers(coordinator_address, num_processes, process_id, timeout)
    among.join()
    jax.distributed.initialize(among.forwarded(), num_processes, process_id, local_device_ids=local)
    return among


def _in_cluster() -> bool:
    """Whether SLURM, Open MPI or a TPU pod started this process together with others."""
    tasks = any(int(os.environ.get(name, 1)) > 1 for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    return tasks or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def _alone_on_host() -> bool:
    """Whether this task has its host to itself."""
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in os.environ:
        return os.environ["OMPI_COMM_WORLD_LOCAL_SIZE"] == "1"
    return os.environ.get("SLURM_STEP_NUM_TASKS") == os.environ.get("SLURM_STEP_NUM_NODES")


def _place_in_cluster(timeout: int) -> tuple | None:
    """(HOST:PORT of process 0, number of processes, this one's number) as jax finds them, or None."""
    try:
        from jax._src.clusters import ClusterEnv

        *found, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, timeout)
    except Exception:  # private to jax and without promise; jax.distributed reports what is wrong
        return None
    return None if None in found else tuple(found)


def require_joined() -> None:
    """Raises UserError if there are several hosts, but this process has not joined the others."""
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise UserError(
            f"this is one of {jax.process_count()} hosts, but they have not joined; add --coordinator_address=auto to "
            "the command on each"
        )


def leave(code: int) -> None:
    """Ends this process. A process that fails (1) or is refused (2) alone must not wait for the others at jax's
    shutdown barrier, because they wait for it in a collective."""
    if code in (1, 2) and jax.distributed.is_initialized():  # process_count would touch the devices
        _leave_at_once(code)
    sys.exit(code)


def _leave_at_once(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # it may be on the full disk
            stream.flush()
    os._exit(code)
