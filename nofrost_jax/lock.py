"""One process at a time may write to a folder: a lock file, with who holds it in it.

    with lock.hold(os.path.join(folder, "lock"), "an export"):
        ...

A kernel lock (flock) on the file tells processes of one machine apart, and goes with its process. Where machines share
a folder (NFS), kernel locks may be each machine's own: there the file's time, which the holder renews, tells whether it
lives. The file goes when the lock is given back; what a killed holder left is taken over, and this is said.
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

from nofrost_jax import files
from nofrost_jax.errors import UserError, refused

BEAT_SECONDS = 2  # a holder renews the file's time so often
LOOKS = 10  # and is taken for dead after so many looks, as far apart, at a file that stays as it is
NAME_SECONDS = 2  # a holder has written who it is by then


class Lock:
    """The lock file at `path`; what: for whom it is held, e.g. "training". `hold` is the usual way to it."""

    def __init__(self, path, what):
        self.path, self._what, self._token = path, what, uuid.uuid4().hex
        self._fd, self._inode, self._ended, self._thread = None, None, threading.Event(), None

    def take(self):
        """Takes the lock and returns "", or returns who holds it. Makes the folder; says so where it takes over a dead
        holder's lock. Raises UserError or MachineError where the file cannot be written.
        """
        try:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            return self._take()
        except PermissionError as error:
            if os.path.exists(self.path):
                raise _anothers(self.path) from error
            raise refused(f"{self.path} cannot be written", error, "choose another folder") from error
        except OSError as error:
            raise refused(f"{self.path} cannot be written", error, "choose another folder") from error

    def _take(self):
        deadline = time.monotonic() + NAME_SECONDS
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            free = _kernel_lock(fd)
            holder = _read(fd)
            if free is False:
                os.close(fd)
                if holder or time.monotonic() > deadline:
                    return _describe(holder)
                time.sleep(0.02)  # between its lock and its record
                continue
            if not _is_at(self.path, fd):  # its holder gave it back, and the file is gone
                os.close(fd)
                continue
            here = free and holder.get("kernel") == _kernel()  # then the kernel's word is enough
            if holder and not here and _beats(self.path, holder):
                os.close(fd)
                if os.path.exists(self.path):
                    return _describe(holder)
                continue
            if holder:
                gone = "that process is gone" if here else f"silent for {LOOKS * BEAT_SECONDS} s"
                print(f"taken over: the lock of {_describe(holder)}, {gone} ({self.path})", flush=True)
            self._begin(fd)
            return ""

    def give_back(self):
        """Removes the file, unless it is another's by now."""
        self._ended.set()
        self._thread.join()
        if not self._lost_to():
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path)
        os.close(self._fd)

    def _begin(self, fd):
        since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        record = {"what": self._what, "host": platform.node(), "process": os.getpid(), "since": since}
        text = json.dumps(record | {"kernel": _kernel(), "token": self._token}).encode()
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
        os.fsync(fd)
        self._fd, self._inode = fd, os.fstat(fd).st_ino
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()
        if os.path.basename(self.path) == "lock":  # it is of the folder that it lies in
            files.remove_leftovers(os.path.dirname(self.path) or ".", os.fstat(fd).st_mtime)

    def _beat(self):
        """Renews the file's time. Ends the program at once where another has taken the lock, or had it and is gone:
        nothing that it writes from here on would be only its own."""
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # of a file that was removed on a file server, too; this is seen below
                os.utime(self._fd)
            if other := self._lost_to():
                text = f"{self.path} was {other}; this one ends, what it saved is kept"
                print(f"error: {text}", file=sys.stderr, flush=True)
                os._exit(1)

    def _lost_to(self):
        """What became of the lock, as text; "" while it is this holder's, or where that cannot be seen now."""
        try:
            with open(self.path, "rb") as file:
                holder, inode = _read(file.fileno()), os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return "removed, as by one that took it over and has ended"
        except OSError:
            return ""
        own = holder["token"] == self._token if "token" in holder else inode == self._inode
        return "" if own else f"taken over by {_describe(holder)}"


@contextlib.contextmanager
def hold(path, what):
    """Holds the lock file at `path` for a block; yields the Lock. Raises UserError that names its holder."""
    lock = Lock(path, what)
    if holder := lock.take():
        raise in_use(path, holder)
    try:
        yield lock
    finally:
        lock.give_back()


def place(folder):
    """Where the lock file of a folder lies that others will read: beside it, or in it if that cannot be written."""
    folder = os.path.abspath(os.path.expanduser(folder))
    writable = os.access(os.path.dirname(folder), os.W_OK) or not os.path.isdir(folder)
    return f"{folder}.lock" if writable else os.path.join(folder, "lock")


def in_use(path, holder):
    """The UserError for a lock, FOLDER/lock or FILE.lock, that another holds."""
    locked = os.fspath(path).removesuffix("lock")[:-1]
    return UserError(f"{locked} is in use by {holder} ({path}); wait for its end, stop it, or choose another place")


def _anothers(path):
    """The UserError for a lock file that this user may not write."""
    try:
        with open(path, "rb") as file:
            holder = _describe(_read(file.fileno()))
    except OSError:
        holder = "another process"
    return UserError(
        f"{path} is another user's lock, of {holder}; wait for its end, or remove the file if that process is gone"
    )


def _kernel_lock(fd):
    """True: got it; False: another has it; None: this file system has no such locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _kernel():
    """Of which running kernel this process is one: its locks are seen by all of the same."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return platform.node()


def _read(fd):
    """The record in a lock file; empty where there is none, or it is not whole."""
    try:
        record = json.loads(os.pread(fd, 4096, 0))
        return record if isinstance(record, dict) else {}
    except ValueError:
        return {}


def _is_at(path, fd):
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _beats(path, holder):
    """Whether a holder on another machine lives: its file changes, or goes, while it is looked at."""
    print(
        f"{path} is the lock of {_describe(holder)}: waiting up to {LOOKS * BEAT_SECONDS} s for a sign of life",
        flush=True,
    )
    first = _stamp(path)
    for _ in range(LOOKS):
        time.sleep(BEAT_SECONDS)
        if _stamp(path) != first:
            return True
    return False


def _stamp(path):
    """What changes in a file, past the caches that NFS keeps for files that are not opened anew; None if it is gone."""
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
    except FileNotFoundError:
        return None


def _describe(holder):
    if not holder:
        return "another process"
    return "{what}: process {process} on {host}, since {since}".format_map(_Known(holder))


class _Known(dict):
    def __missing__(self, name):
        return "?"
