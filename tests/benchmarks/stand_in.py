"""A task that does what the test asks for: --act=ok, crash, hang, clock or grow."""

import os
import signal
import subprocess
import sys
import time

from benchmarks.tasks import common

FIRST_LINE = time.monotonic()


def main():
    task = common.start("stand_in", __doc__, [("--act", "ok")])
    act = task.options.act
    task.record("attempts", task.figures.get("attempts", 0) + 1)
    if act == "crash":
        raise RuntimeError("the device fell off the bus")
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        task.record("child", child.pid)
        time.sleep(600)
    if act == "clock":
        now = time.monotonic()
        task.finish(f"{now - task.started} {now - FIRST_LINE}")
        return
    if act == "grow" and task.figures["attempts"] < 2:
        return
    task.finish(f"{act} after {task.figures['attempts']}, {task.options.seconds:g} s given")


if __name__ == "__main__":
    main()
