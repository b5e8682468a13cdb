"""A run as a process of its own: `main.py` of the repository."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from nofrost_jax import lock
from nofrost_jax.errors import Preempted
from nofrost_jax.signals import Stop

PREEMPTED = 75  # what main.py exits with after a signal
POLL_SECONDS = 0.2  # between two looks for a signal during a run


def call(
    root: pathlib.Path, cache: str, stop: Stop, title: str, given: list[str], log: str, is_done: Callable
) -> tuple[int, str]:
    """Runs `main.py GIVEN` and appends its output to the file `log`; passes signals on as SIGTERM.

    Returns (exit code, the text of its last line that begins with "error: ", or ""). Raises Preempted after a signal,
    unless is_done() nevertheless.
    """
    stopped = f"{title}: stopped by {{}}; run the same command again to continue"
    folder = pathlib.Path(log).parent
    for path in (*folder.glob("lock"), *folder.glob("evaluations/*.lock")):
        wait_for_another(path, title, stop)
    if stop.heard:
        raise Preempted(stopped.format(stop.name))
    if is_done():  # by the other process
        return 0, ""
    folder.mkdir(parents=True, exist_ok=True)
    with open(log, "a+", errors="replace") as file:
        file.write(f"$ python main.py {' '.join(given)}\n")
        file.flush()
        first, code, terminated = file.tell(), None, False
        child = subprocess.Popen(
            [sys.executable, "main.py", *given],
            cwd=root,
            env={"JAX_COMPILATION_CACHE_DIR": cache} | os.environ,  # the seeds of a row share its compiled programs
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process only
        )
        while code is None:
            if stop.heard and not terminated:
                child.terminate()
                terminated = True
            try:
                code = child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        file.seek(first)
        complaints = [line.removeprefix("error: ").strip() for line in file if line.startswith("error: ")]
    if lock.IN_USE in "".join(complaints[-1:]):  # a killed study had just started another, which had no lock yet
        return call(root, cache, stop, title, given, log, is_done)
    # A negative code: it did not listen to the signal yet, or no longer.
    if not is_done() and (code == PREEMPTED or (terminated and code < 0)):
        raise Preempted(stopped.format(stop.name))
    return code, complaints[-1] if complaints else ""


def wait_for_another(path: pathlib.Path, title: str, stop: Stop) -> None:
    """Waits until no process, such as one left by a killed study, holds a run's lock file, or until a signal."""
    own, said = lock.Lock(str(path), "a study"), False
    while holder := own.take():
        if not said:
            print(f"{title}: waiting for {holder} ({path})", flush=True)
            said = True
        if stop.heard:
            return
        time.sleep(POLL_SECONDS)
    own.give_back()
