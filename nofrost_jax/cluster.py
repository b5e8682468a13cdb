"""Where this process is among those of a cluster that starts them: SLURM, Open MPI, TPU pods."""

import os


def place(timeout):
    """(HOST:PORT of process 0, number of processes, this one's number) as jax finds them out; None where it does not
    tell, and must join them by itself."""
    try:
        from jax._src.clusters import ClusterEnv

        *found, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, timeout)
    except Exception:  # jax's own, of no promise; where it is something else, jax says it
        return None
    return None if None in found else found


def detected():
    """Whether this process is one of several tasks or workers that were started together."""
    several_tasks = any(int(os.environ.get(name, 1)) > 1 for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    several_workers = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return several_tasks or several_workers


def alone_on_host():
    """Whether this task has its host to itself."""
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in os.environ:
        return os.environ["OMPI_COMM_WORLD_LOCAL_SIZE"] == "1"
    return os.environ.get("SLURM_STEP_NUM_TASKS") == os.environ.get("SLURM_STEP_NUM_NODES")
