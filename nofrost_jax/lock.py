"""One process at a time may write to a folder: a lock file that says who holds it.

    with lock.hold(os.path.join(folder, "lock"), "an export"):
        ...

On one machine a kernel lock (flock) on the file decides; it ends with its process. Machines that share a folder (NFS)
may each have kernel locks of their own: there the holder renews the file's time, which tells the others that it is
alive. The file is removed at the end; the lock of a killed holder is taken over, with a message.
"""

import contextlib
import datetime
import fcntl
import json
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from nofrost_jax import files
from nofrost_jax.errors import UserError, refused

BEAT_SECONDS = 2  # between two renewals of the file's time
LOOKS = 10  # checks of the file, BEAT_SECONDS apart, without a change before its holder counts as dead
IN_USE = "is in use by"  # in the message of one that is refused
NAME_SECONDS = 2  # within which a holder has written who it is
REMOVED = "removed, as by a process that took it over and has ended"


class Lock:
    """The lock file at `path`; what: what it is held for, e.g. "a training". Normally used through `hold`."""

    def __init__(self, path: str, what: str) -> None:
        self.path, self._what, self._token = path, what, uuid.uuid4().hex
        self._fd, self._inode, self._ended, self._thread = -1, -1, threading.Event(), threading.Thread()

    def take(self) -> str:
        """Takes the lock and returns "", or returns who holds it. Makes the folder. Raises UserError or MachineError if
        the file cannot be written."""
        try:
            files.make_folder(os.path.dirname(self.path) or ".")
            return self._take()
        except OSError as error:
            if isinstance(error, PermissionError) and os.path.exists(self.path):
                raise _other_users(self.path) from error
            raise refused(f"{self.path} cannot be written", error, "choose another folder") from error

    def _take(self) -> str:
        deadline = time.monotonic() + NAME_SECONDS
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            free, holder = _kernel_lock(fd), _read(fd)
            if free is False:
                os.close(fd)
                if holder or time.monotonic() > deadline:
                    return name(holder)
                time.sleep(0.02)  # it has the lock, but has not yet written its record
                continue
            if not _is_at(self.path, fd):  # the holder has just removed the file
                os.close(fd)
                continue
            here = free and holder.get("kernel") == _kernel()  # then the kernel lock decides
            if holder and not here and is_alive(self.path, holder, _stamp):
                os.close(fd)
                if os.path.exists(self.path):
                    return name(holder)
                continue
            if holder:
                gone = "that process is gone" if here else f"silent for {LOOKS * BEAT_SECONDS} s"
                print(f"taken over: the lock of {name(holder)}, {gone} ({self.path})", flush=True)
            self._begin(fd)
            return ""

    def give_back(self) -> None:
        """Removes the file, unless another has taken the lock over."""
        self._ended.set()
        self._thread.join()
        if not self._lost_to():
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path)
        os.close(self._fd)

    def _record(self) -> bytes:
        since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        record = {"what": self._what, "host": platform.node(), "process": os.getpid(), "since": since}
        return json.dumps(record | {"kernel": _kernel(), "token": self._token}).encode()

    def _begin(self, fd: int) -> None:
        text = self._record()
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
        os.fsync(fd)
        self._fd, self._inode = fd, os.fstat(fd).st_ino
        self._start_beating()
        if os.path.basename(self.path) == "lock":  # the lock of the folder that it is in
            files.remove_leftovers(os.path.dirname(self.path) or ".", os.fstat(fd).st_mtime)

    def _start_beating(self) -> None:
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        """Renews the file's time. If another has taken the lock over, ends the program at once: from here on it would
        not be the only writer."""
        while not self._ended.wait(BEAT_SECONDS):
            # Whatever is raised, e.g. by a file server or gcsfs: a holder that falls silent loses its lock.
            with contextlib.suppress(Exception):
                self._renew()
            other = ""
            with contextlib.suppress(Exception):
                other = self._lost_to()
            if other:
                text = f"{self.path} was {other}; this process ends, what it saved is kept"
                print(f"error: {text}", file=sys.stderr, flush=True)
                os._exit(1)

    def _renew(self) -> None:
        os.utime(self._fd)

    def _lost_to(self) -> str:
        """What happened to the lock, as text; "" while it is held, or if that cannot be seen now."""
        try:
            with open(self.path, "rb") as file:
                holder, inode = _read(file.fileno()), os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return REMOVED
        except OSError:
            return ""
        own = holder["token"] == self._token if "token" in holder else inode == self._inode
        return "" if own else f"taken over by {name(holder)}"


@contextlib.contextmanager
def hold(path: str, what: str) -> Iterator[Lock]:
    """Holds the lock file at `path` for a block; yields the Lock. Raises UserError that names its holder."""
    lock = Lock(path, what)
    if holder := lock.take():
        raise in_use(path, holder)
    try:
        yield lock
    finally:
        lock.give_back()


def place(folder: str) -> str:
    """The lock file of a folder that is made for others: next to it, or in it if that cannot be written."""
    folder = os.path.abspath(os.path.expanduser(folder))
    writable = os.access(os.path.dirname(folder), os.W_OK) or not os.path.isdir(folder)
    return f"{folder}.lock" if writable else os.path.join(folder, "lock")


def in_use(path: str, holder: str) -> UserError:
    """The UserError for a lock, FOLDER/lock or FILE.lock, that another process holds."""
    locked = os.fspath(path).removesuffix("lock")[:-1]
    return UserError(f"{locked} {IN_USE} {holder} ({path}); wait for its end, stop it, or choose another place")


def _other_users(path: str) -> UserError:
    """The UserError for a lock file that this user may not write."""
    holder = {}
    with contextlib.suppress(OSError), open(path, "rb") as file:
        holder = _read(file.fileno())
    return UserError(
        f"{path} is another user's lock, of {name(holder)}; wait for its end, or remove the file if it is gone"
    )


def _kernel_lock(fd: int) -> bool | None:
    """True: got it; False: another process has it; None: this file system has no such locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _kernel() -> str:
    """The running kernel: kernel locks are seen by all its processes."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return platform.node()


def _read(fd: int) -> dict[str, Any]:
    """The record in a lock file; {} if there is none, or it is incomplete."""
    return parse(os.pread(fd, 4096, 0))


def parse(content: bytes) -> dict[str, Any]:
    """A lock's record; {} if it is incomplete."""
    try:
        record = json.loads(content)
        return record if isinstance(record, dict) else {}
    except ValueError:
        return {}


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def is_alive(path: str, holder: dict[str, Any], stamp: Callable[[str], Any]) -> bool:
    """Whether a holder on another machine is alive: what `stamp(path)` tells of its file changes within LOOKS looks."""
    wait = f"waiting up to {LOOKS * BEAT_SECONDS} s for a sign of life"
    print(f"{path} is the lock of {name(holder)}: {wait}", flush=True)
    first = stamp(path)
    for _ in range(LOOKS):
        time.sleep(BEAT_SECONDS)
        if stamp(path) != first:
            return True
    return False


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What changes in a file, or None if it is gone. Opened again each time, past NFS's caches."""
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
    except FileNotFoundError:
        return None


def name(holder: dict[str, Any]) -> str:
    """Who holds a lock, of its record."""
    if not holder:
        return "another process"
    what, process, host, since = (holder.get(key, "?") for key in ("what", "process", "host", "since"))
    return f"{what}: process {process} on {host}, since {since}"
