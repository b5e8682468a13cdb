"""A forwarder of connections, in a process of its own: what closes at the far end stays open at the near end.

In a process of its own because jax holds Python's global lock while it waits for an answer that comes this way: a
thread could never deliver it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time


def start(host: str, port: int) -> tuple[str, subprocess.Popen]:
    """(HOST:PORT of this machine that leads to host:port, its process, which ends with this one)."""
    process = subprocess.Popen(
        [sys.executable, "-I", __file__, host, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process.stdout.readline().strip(), process


def forward(far: tuple[str, int]) -> str:
    """HOST:PORT in this process that forwards to `far`, (host, port), in threads."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            threading.Thread(target=_connect, args=(listener.accept()[0], far), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _connect(near: socket.socket, at: tuple[str, int]) -> None:
    while True:
        with contextlib.suppress(OSError):
            far = socket.create_connection(at)
            break
        time.sleep(0.1)
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_copy, args=(near, far, True), daemon=True).start()
    _copy(far, near, closing=False)


def _copy(source: socket.socket, target: socket.socket, closing: bool) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(2**16):
            target.sendall(content)
    if closing:
        for end in (source, target):
            with contextlib.suppress(OSError), end:
                end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # schedulers signal all processes of a job; this one is needed to the end
    print(forward((sys.argv[1], int(sys.argv[2]))), flush=True)
    sys.stdin.read()  # until the other process ends, in whatever way
    os._exit(0)
