"""The processes of one run: they wait for each other at the start, and notice later when one of them is lost.

Process 0 listens at the coordinator's address. The others connect, say which they are, and keep the connection. A
process whose connection closes without a goodbye, or that is silent, is lost: all others then end and name it. If a
signal stops one process alone, all stop. jax's own client would print a C++ stack as soon as process 0 is gone;
therefore it connects to process 0 through a forwarder, which keeps the connection open.
"""

import contextlib
import errno
import json
import os
import platform
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, NamedTuple, NoReturn, TextIO

from nofrost_jax import forwarding
from nofrost_jax.errors import MachineError, UserError

ANNOUNCE_SECONDS = 30  # between two lines about who is missing
BEAT_SECONDS = 10  # between two signs of life
SILENT_SECONDS = 45  # without one, a process is lost
UNKNOWN_SECONDS = 10  # for a host's name to become known
GRACE_SECONDS = 2  # for a process to end with its own message, when another has failed or was stopped
STOP_SECONDS = 30  # for a process to stop as after a signal, when another was stopped
AGAIN = "what was saved is intact: start all processes again"


class Peer(NamedTuple):
    """Another process: the connection to it, the lines that it sends, and its host and process number."""

    connection: socket.socket
    lines: TextIO
    name: str


class Peers:
    """This process among `count`, numbered from 0. address: HOST:PORT of process 0. timeout: seconds for all to come.

    Raises UserError if the address or the numbers are wrong, or do not match those of the other processes.
    """

    def __init__(self, address: str, count: int, me: int, timeout: float) -> None:
        self.address, self.count, self.me, self.timeout = address, count, me, timeout
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator_address={address} is not HOST:PORT, e.g. --coordinator_address=node0:1234")
        if count < 1 or not 0 <= me < count:
            raise UserError(
                f"--process_id={me} and --num_processes={count} do not fit: number the processes from 0 to one less "
                "than there are"
            )
        self._at, self._ending = (host.strip("[]"), int(port)), threading.Lock()
        self._name = f"{platform.node()}, process {os.getpid()}"
        self._leaving = self._stopping = False
        self._others: dict[int, Peer] = {}  # by number; process 0 knows all, the others know process 0
        self._listeners: list[threading.Thread] = []

    def join(self) -> None:
        """Returns when all are here. Says who is missing; raises MachineError when the time is up."""
        self._gather() if self.me == 0 else self._find()
        for number, peer in self._others.items():
            peer.connection.settimeout(SILENT_SECONDS)
            peer.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # last words must not wait
            self._listeners.append(threading.Thread(target=self._listen, args=(number, peer), daemon=True))
        for listener in self._listeners:
            listener.start()
        threading.Thread(target=self._beat, daemon=True).start()

    def leave(self, why: str = "bye") -> None:
        """Says goodbye. If this process "failed", or was "stopped" by its own signal, the others end as well."""
        self._leaving = True
        self._send({why: True})
        if why != "bye":
            time.sleep(GRACE_SECONDS / 2)  # all may end for the same reason, with their own message
            return
        deadline = time.monotonic() + GRACE_SECONDS
        for listener in self._listeners:  # until it is heard: a process that ends may take unread words with it
            listener.join(max(0, deadline - time.monotonic()))

    def forwarded(self) -> str:
        """HOST:PORT at which jax's client finds its service."""
        if self.me == 0:
            return self.address
        address, self._forwarder = forwarding.start(*self._at)
        return address

    # Meeting

    def _gather(self) -> None:
        """Process 0 waits for all others."""
        begin = told = time.monotonic()
        with self._listener() as listener:
            while missing := sorted({*range(1, self.count)} - self._others.keys()):
                waiting = {peer.connection: number for number, peer in self._others.items()}
                ready = select.select([listener, *waiting], [], [], 0.2)[0]
                for ended in waiting.keys() & ready:  # those that wait send nothing; it may connect again at once
                    del self._others[waiting[ended]]
                if listener in ready:
                    self._welcome(listener.accept()[0])
                    continue
                listed = f"process{'es' * (len(missing) > 1)} {', '.join(map(str, missing))} of {self.count}"
                text = f"{listed} at --coordinator_address={self.address}"
                here = {0: self._name} | {number: peer.name for number, peer in self._others.items()}
                hint = "" if self._others else f"; is {self._at[0]} an address of this host, which runs process 0?"
                waited = time.monotonic() - begin
                if waited > self.timeout:
                    names = ", ".join(f"{number} ({here[number]})" for number in sorted(here))
                    self._refuse(
                        MachineError(
                            f"no sign of {text} within {self.timeout} s; here are {names}; start the missing ones, or "
                            f"look in their output for what delays them{hint}"
                        )
                    )
                if time.monotonic() > told + ANNOUNCE_SECONDS:
                    told = time.monotonic()
                    text = f"waiting {self.timeout - waited:.0f} s more (--join_timeout={self.timeout}) for {text}"
                    print(text + hint, flush=True)
                    self._send({"text": text})
        self._send({"go": self._name})

    def _welcome(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # other programs scan for open ports
            connection.settimeout(5)
            lines = connection.makefile()
            told = json.loads(lines.readline())
            number, count, name = int(told["me"]), int(told["count"]), str(told["name"])
            connection.settimeout(None)
            at = f"--coordinator_address={self.address}"
            if count != self.count:
                text = f"--num_processes={self.count} here and {count} at {name}, with {at}; give all the same"
                self._refuse(UserError(text), connection)
            if number in self._others or number == 0:
                other = self._others[number].name if number else self._name
                text = f"--process_id={number} twice, at {other} and at {name}, with {at}; give each its own"
                self._refuse(UserError(text), connection)
            self._others[number] = Peer(connection, lines, name)

    def _refuse(self, error: Exception, *connections: socket.socket) -> NoReturn:
        """Raises an error here and in all processes that have come."""
        self._send({"error": str(error), "machine": isinstance(error, MachineError)}, *connections)
        raise error

    def _listener(self) -> socket.socket:
        try:
            if socket.has_dualstack_ipv6():
                return socket.create_server(("", self._at[1]), family=socket.AF_INET6, dualstack_ipv6=True)
            return socket.create_server(("", self._at[1]))
        except OSError as error:
            used = error.errno == errno.EADDRINUSE
            why = "is in use; choose another" if used else f"cannot be used: {error.strerror}"
            raise UserError(f"--coordinator_address={self.address}: port {self._at[1]} of this host {why}") from error

    def _find(self) -> None:
        """The others look for process 0 and wait until it says that all are here."""
        begin = told = time.monotonic()
        while True:
            why = "has not started yet"
            try:
                with contextlib.ExitStack() as stack:
                    connection = stack.enter_context(socket.create_connection(self._at, timeout=5))
                    if self._is_admitted(connection):
                        stack.pop_all()
                        return
            except ValueError:
                why = "is some other program"
            except OSError as error:
                why = f"cannot be reached ({error.strerror or error})"
                if isinstance(error, socket.gaierror) and time.monotonic() > begin + UNKNOWN_SECONDS:
                    raise UserError(
                        f"--coordinator_address={self.address}: this host knows no {self._at[0]} ({error.strerror}); "
                        "give the address of process 0"
                    ) from error
            waited, text = time.monotonic() - begin, f"process 0 at --coordinator_address={self.address} {why}"
            if waited > self.timeout:
                raise MachineError(f"{text}, for {self.timeout} s; start it, or give its address")
            if time.monotonic() > told + ANNOUNCE_SECONDS:
                told = time.monotonic()
                print(f"waiting {self.timeout - waited:.0f} s more (--join_timeout): {text}", flush=True)
            time.sleep(0.2)

    def _is_admitted(self, connection: socket.socket) -> bool:
        """Whether process 0 says that all are here; False if it ends before."""
        _write(connection, {"me": self.me, "count": self.count, "name": self._name})
        connection.settimeout(self.timeout + SILENT_SECONDS)
        lines = connection.makefile()
        for line in lines:
            told = json.loads(line)
            if "error" in told:
                raise (MachineError if told["machine"] else UserError)(told["error"])
            if "text" in told:
                print(told["text"], flush=True)
            if "go" in told:
                self._others[0] = Peer(connection, lines, told["go"])
                return True
        return False

    # Afterwards

    def _beat(self) -> None:
        while not self._leaving:
            self._send({})
            time.sleep(BEAT_SECONDS)

    def _listen(self, number: int, peer: Peer) -> None:
        name, why = f"process {number} of {self.count} ({peer.name})", "its connection closed"
        try:
            for line in peer.lines:
                told = json.loads(line)
                if "bye" in told:
                    with contextlib.suppress(OSError):  # the other may be gone by now
                        peer.connection.shutdown(socket.SHUT_RDWR)
                    return
                if "lost" in told:
                    self._lose(told["lost"])
                if "stopped" in told:
                    return self._stop(f"{name} was stopped" if told["stopped"] is True else told["stopped"])
                if "failed" in told:
                    time.sleep(GRACE_SECONDS)
                    why = "it failed; its own output says why"
                    break
        except TimeoutError:
            why = f"silent for {SILENT_SECONDS} s"
        except OSError:
            pass  # reset, which is as good as closed
        except (ValueError, TypeError):
            why = "it sent something unreadable"
        self._lose(f"{name} is lost: {why}; {AGAIN}")

    def _lose(self, text: str) -> None:
        """Ends this process and those that it can tell, unless it is ending anyway."""
        if not (self._leaving or self._stopping):
            self._send({"lost": text})
            self._end(1, f"error: {text}")

    def _stop(self, text: str) -> None:
        """Stops this process and those that it can tell, as a signal does; by force if that takes too long."""
        if self._stopping:
            return
        self._stopping = True
        self._send({"stopped": text})
        time.sleep(GRACE_SECONDS)
        if not self._leaving:
            print(f"{text}: stopping as well", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        self._end(75, f"did not stop by itself within {STOP_SECONDS} s; run the same command again to continue")

    def _end(self, code: int, text: str) -> NoReturn:
        with self._ending:
            print(text, file=sys.stderr, flush=True)
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)

    def _send(self, message: dict[str, Any], *more: socket.socket) -> None:
        for connection in [*(peer.connection for peer in self._others.values()), *more]:
            with contextlib.suppress(OSError):
                _write(connection, message)


def _write(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")
