"""The processes of one run: who is missing when they meet, and who is lost later.

Process 0 listens at the coordinator's address; the others come, say which they are, and keep the connection. One that
closes without a goodbye, or is silent, is lost: all others then end, with its name. Where a signal stops one alone, all
stop. jax's client would end them with a
stack of C++ in the moment that process 0 is gone; it therefore reaches process 0 by way of a forwarder in its own
process, which does not tell it.
"""

import contextlib
import errno
import functools
import json
import os
import platform
import select
import signal
import socket
import sys
import threading
import time

from nofrost_jax.errors import MachineError, UserError

ANNOUNCE_SECONDS = 30  # between two lines about who is missing
BEAT_SECONDS = 10  # between two signs of life
SILENT_SECONDS = 45  # without one, a process is lost
UNKNOWN_SECONDS = 10  # for a host's name to become known
GRACE_SECONDS = 2  # for a process to end with its own word, where another has failed or was stopped
STOP_SECONDS = 30  # for a process to stop as after a signal, where another was stopped
AGAIN = "what was saved is whole: start all processes again"


class Peers:
    """This process among `count`, numbered from 0. address: HOST:PORT of process 0. timeout: seconds for all to come.

    Raises UserError where the three do not fit, or do not fit the other processes'.
    """

    def __init__(self, address, count, me, timeout):
        self.address, self.count, self.me, self.timeout = address, count, me, timeout
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator_address={address} is not HOST:PORT, e.g. --coordinator_address=node0:1234")
        if count < 1 or not 0 <= me < count:
            raise UserError(
                f"--process_id={me} and --num_processes={count} do not fit: each process has its own number, from 0 to "
                "one less than there are"
            )
        self._at, self._ending = (host.strip("[]"), int(port)), threading.Lock()
        self._leaving = self._stopping = False
        self._others = {}  # number: (connection, what it is called); process 0 has all, the others have process 0

    def join(self):
        """Returns when all are here. Says who is missing; raises MachineError where that takes too long."""
        self._gather() if self.me == 0 else self._report()
        for number, (connection, _) in self._others.items():
            connection.settimeout(SILENT_SECONDS)
            threading.Thread(target=self._listen, args=(number, connection), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def leave(self, why="bye"):
        """Says goodbye; if it "failed", or was "stopped" by a signal of its own, the others end as well."""
        self._leaving = True
        self._send({why: True})
        if why != "bye":
            time.sleep(GRACE_SECONDS / 2)  # all may end for the same reason, and say so themselves

    def forwarded(self):
        """HOST:PORT at which jax's client finds its service."""
        return self.address if self.me == 0 else forwarder(self._at)

    # Meeting

    def _gather(self):
        deadline, told = time.monotonic() + self.timeout, time.monotonic()
        with self._listener() as listener:
            while len(self._others) < self.count - 1:
                connections = {connection: number for number, (connection, _) in self._others.items()}
                ready = select.select([listener, *connections], [], [], 0.2)[0]
                for ended in connections.keys() & ready:  # what waits says nothing; first, as it may have come again
                    del self._others[connections[ended]]
                if listener in ready:
                    self._welcome(listener.accept()[0])
                missing = sorted({*range(1, self.count)} - self._others.keys())
                text = f"{_listed(missing)} of {self.count} at --coordinator_address={self.address}"
                if missing and time.monotonic() > deadline:
                    mend = f"start the missing ones, or see in their output what keeps them{self._hint()}"
                    self._refuse(MachineError(f"no sign of {text} within {self.timeout} s; {self._here()}; {mend}"))
                if missing and time.monotonic() > told + ANNOUNCE_SECONDS:
                    told = time.monotonic()
                    left = f"{deadline - told:.0f} s more (--join_timeout={self.timeout})"
                    print(f"waiting {left} for {text}{self._hint()}", flush=True)
                    self._send({"text": f"waiting {left} for {text}"})
        self._send({"go": _name()})

    def _welcome(self, connection):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # something else that looks for open ports
            connection.settimeout(5)
            told = json.loads(connection.makefile().readline())
            number, count, name = int(told["me"]), int(told["count"]), str(told["name"])
            same = f"--coordinator_address={self.address}"
            connection.settimeout(None)
            if count != self.count:
                self._refuse(
                    UserError(f"--num_processes={self.count} here and {count} at {name}, of {same}; give all the same"),
                    connection,
                )
            if number in self._others or number == 0:
                other = self._others[number][1] if number else _name()
                self._refuse(
                    UserError(f"--process_id={number} twice, at {other} and at {name}, of {same}; give each its own"),
                    connection,
                )
            self._others[number] = connection, name

    def _refuse(self, error, *connections):
        """Raises an error here and at all that have come."""
        self._send({"error": str(error), "machine": isinstance(error, MachineError)}, *connections)
        raise error

    def _here(self):
        names = {0: _name()} | {number: name for number, (_, name) in self._others.items()}
        return f"here are {', '.join(f'{number} ({names[number]})' for number in sorted(names))}"

    def _hint(self):
        """What to look at where nobody comes: an address of another host, unless something forwards from there."""
        if self._others or _is_own(self._at[0]):
            return ""
        return f"; this is process 0, and {self._at[0]} is no address of this host: is it where process 0 should run?"

    def _listener(self):
        try:
            if socket.has_dualstack_ipv6():
                return socket.create_server(("", self._at[1]), family=socket.AF_INET6, dualstack_ipv6=True)
            return socket.create_server(("", self._at[1]))
        except OSError as error:
            why = (
                "is in use; choose another" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            )
            raise UserError(f"--coordinator_address={self.address}: port {self._at[1]} of this host {why}") from error

    def _report(self):
        begin = told = time.monotonic()
        while True:
            why = "has not begun yet"
            try:
                with contextlib.ExitStack() as stack:
                    connection = stack.enter_context(socket.create_connection(self._at, timeout=5))
                    if self._is_admitted(connection):
                        stack.pop_all()
                        return
            except ValueError:
                why = "is some other program"
            except OSError as error:
                unknown = isinstance(error, socket.gaierror)
                why = f"cannot be reached ({error.strerror or error})"
                if unknown and time.monotonic() > begin + UNKNOWN_SECONDS:
                    raise UserError(
                        f"--coordinator_address={self.address}: this host knows no {self._at[0]} ({error.strerror}); "
                        "give the address of process 0"
                    ) from error
            waited = time.monotonic() - begin
            text = f"process 0 at --coordinator_address={self.address} {why}"
            if waited > self.timeout:
                raise MachineError(f"{text}, for {self.timeout} s; start it, or give its address")
            if time.monotonic() > told + ANNOUNCE_SECONDS:
                told = time.monotonic()
                print(f"waiting {self.timeout - waited:.0f} s more (--join_timeout): {text}", flush=True)
            time.sleep(0.2)

    def _is_admitted(self, connection):
        """Whether process 0 says that all are here; False if it ends before."""
        _write(connection, {"me": self.me, "count": self.count, "name": _name()})
        connection.settimeout(self.timeout + SILENT_SECONDS)
        while line := _readline(connection):
            told = json.loads(line)
            if "error" in told:
                raise (MachineError if told["machine"] else UserError)(told["error"])
            if "text" in told:
                print(told["text"], flush=True)
            if "go" in told:
                self._others[0] = connection, told["go"]
                return True
        return False

    # Afterwards

    def _beat(self):
        while not self._leaving:
            self._send({})
            time.sleep(BEAT_SECONDS)

    def _listen(self, number, connection):
        name, why = f"process {number} of {self.count} ({self._others[number][1]})", "its connection closed"
        try:
            while line := _readline(connection):
                told = json.loads(line)
                if "bye" in told:
                    return
                if "lost" in told:
                    self._lose(told["lost"])
                if "stopped" in told:
                    self._stop(f"{name} was stopped" if told["stopped"] is True else told["stopped"])
                    return
                if "failed" in told:
                    time.sleep(GRACE_SECONDS)
                    why = "it failed; its own output says why"
                    break
        except TimeoutError:
            why = f"silent for {SILENT_SECONDS} s"
        except OSError:
            pass  # reset: as closed
        except (ValueError, TypeError):
            why = "it sent something unreadable"
        self._lose(f"{name} is lost: {why}; {AGAIN}")

    def _lose(self, text):
        """Ends this process and those that it can tell, unless it ends by itself."""
        if not (self._leaving or self._stopping):
            self._send({"lost": text})
            self._end(1, f"error: {text}")

    def _stop(self, text):
        """Stops this process and those that it can tell: as a signal does, and by force where that takes too long."""
        if self._stopping:
            return
        self._stopping = True
        self._send({"stopped": text})
        time.sleep(GRACE_SECONDS)
        if not self._leaving:
            print(f"{text}: stopping as well", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        self._end(75, f"did not stop by itself within {STOP_SECONDS} s; run the same command again to go on")

    def _end(self, code, text):
        with self._ending:
            print(text, file=sys.stderr, flush=True)
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)

    def _send(self, message, *more):
        for connection in [*(connection for connection, _ in self._others.values()), *more]:
            with contextlib.suppress(OSError):
                _write(connection, message)


def _name():
    return f"{platform.node()}, process {os.getpid()}"


@functools.cache
def _is_own(host):
    """Whether a host's name, or number, is one of this host's addresses; behind a translator or in a container it may
    lead here all the same."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, place in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.bind(place)
                return True
    return False


def _listed(numbers):
    return f"process{'es' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _write(connection, message):
    connection.sendall(json.dumps(message).encode() + b"\n")


def _readline(connection):
    """A line, byte by byte since what follows is another's to read; b"" at the end."""
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := connection.recv(1)):
            return b""
        line += byte
    return line


def forwarder(at):
    """HOST:PORT in this process that stands for another, (host, port): what closes there stays open here."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            near = listener.accept()[0]
            threading.Thread(target=connect, args=(near,), daemon=True).start()

    def connect(near):
        while True:
            with contextlib.suppress(OSError):
                far = socket.create_connection(at)
                break
            time.sleep(0.1)
        threading.Thread(target=copy, args=(near, far, True), daemon=True).start()
        copy(far, near, False)

    def copy(source, target, closing):
        with contextlib.suppress(OSError):
            while content := source.recv(2**16):
                target.sendall(content)
        if closing:
            for end in (source, target):
                with contextlib.suppress(OSError), end:
                    end.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=accept, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"
