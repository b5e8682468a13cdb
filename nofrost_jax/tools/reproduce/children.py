"""Runs of `main.py` as processes of their own, and the signals that are handed on to them."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from nofrost_jax import lock
from nofrost_jax.signals import Stop

LOCK = "lock"


@contextlib.contextmanager
def exclusive(folder):
    """Holds a study's folder for this command; yields the file descriptor of the lock.

    A run inherits the lock: where a command was killed but its run lives on, the next command waits for that run.
    """
    own, waiting = lock.Lock(os.path.join(folder, LOCK), "a study"), False
    while holder := own.take():
        if not waiting:
            print(f"{holder}, or a run that it left, is at work in {folder}; waiting for its end", flush=True)
        waiting = True
        time.sleep(0.5)
    try:
        yield own.fileno()
    finally:
        own.give_back()


class Children(Stop):
    """Starts main.py, one process at a time. `heard`: a signal came; the child got it, as SIGTERM."""

    def __init__(self, root, cache, lock):
        self.root, self.lock, self._child = root, lock, None
        super().__init__(then=self._pass_on)
        self._environment = {
            "JAX_COMPILATION_CACHE_DIR": cache,  # the seeds of a row share its compiled programs
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
            **os.environ,
        }

    def _pass_on(self, _):
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)

    def call(self, arguments, log):
        """Runs `main.py ARGUMENTS` to its end, with its output at the end of the file `log`.

        Returns (exit code, the last line of its output that begins with "error: ", without this word, or "").
        """
        with open(log, "a") as file:
            file.write(f"$ python main.py {' '.join(arguments)}\n")
            file.flush()
            first = file.tell()
            self._child = subprocess.Popen(
                [sys.executable, "main.py", *arguments],
                cwd=self.root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only, which hands it on as SIGTERM
                pass_fds=(self.lock,),
            )
            if self.heard:  # the signal came while the process was starting
                self._child.send_signal(signal.SIGTERM)
            code = self._child.wait()
            self._child = None
        return code, _complaint(log, first)


def _complaint(log, first):
    with open(log, errors="replace") as file:
        file.seek(first)
        lines = [line.strip() for line in file if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else ""
