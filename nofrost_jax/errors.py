"""What the person at the keyboard sees: the exceptions that end a program with one line, and their exit codes.

0 done; 1 the machine failed; 2 the config or the data is wrong; 3 a dry run found something missing; 75 stopped by a
signal, the state is saved. Anything else is a bug and shows its traceback.
"""

import argparse
import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from nofrost_jax import signals

_GONE = ("a file or folder is gone", "restore it")
_FORBIDDEN = ("this process may not write or read there", "change the permissions or choose another folder")
_UNREACHABLE = ("the file system does not answer", "wait until it does")
_FAILURES = {  # of the machine, not of the user: what happened, how to fix it
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.EFBIG: ("a file would be larger than this system allows", "raise the limit (ulimit -f)"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.EROFS: ("the file system is read-only", "make it writable or choose another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _FORBIDDEN),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), _GONE),
    errno.EIO: ("the disk fails", "repair or replace it"),
    **dict.fromkeys((errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT), _UNREACHABLE),
    errno.EPIPE: ("nothing reads the output any more", "write it to a file"),
}
INTACT = "what was saved before is intact"
_CODE_IN_TEXT = re.compile(r"os_error_code='(\d+)'|\[OS error (\d+)")  # tensorstore raises ValueErrors
_STATUS_IN_TEXT = re.compile(r"http_response_code='(\d+)'")
_NO_CREDENTIALS = ("DefaultCredentialsError", "RefreshError")
_CONNECTING = ("aiohttp.", "google.auth.")  # what gcsfs connects with


class UserError(Exception):
    """The config or the data is wrong: one line that says what, where and how to fix it. `main.py` exits with 2."""


class MachineError(Exception):
    """The machine failed: one line that says what, where, what is saved and what to do. `main.py` exits with 1."""


class Missing(Exception):
    """A dry run found something missing, and has said what. `main.py` exits with 3."""


class Preempted(Exception):
    """A signal came; the state is saved, and the same command continues from there. `main.py` exits with 75."""


@contextlib.contextmanager
def machine(kept: str | Callable[[], str], gone: bool = True) -> Iterator[None]:
    """Raises MachineError if the machine fails within a block, e.g. by a full disk.

    kept: what is saved, e.g. "step 12 is saved", or a function that returns it. gone: whether a missing file is the
    machine's failure, and not a bug.
    """
    try:
        yield
    except (UserError, MachineError, Missing, Preempted):
        raise
    except Exception as error:
        if failure := _failure(error, set() if gone else {errno.ENOENT}):
            what, mend = failure
            saved = kept() if callable(kept) else kept
            raise MachineError(f"{what}; {saved}; {mend}, then run the same command again") from error
        raise


def refused(what: str, error: OSError, mend: str) -> UserError | MachineError:
    """The exception for an OSError about a user's path: a UserError if the path is wrong, e.g. missing, otherwise
    a MachineError. what: what cannot be done with which path; mend: what to do instead."""
    kind = MachineError if error.errno in _FAILURES.keys() - {errno.ENOENT} else UserError
    return kind(f"{what} ({error.strerror}); {mend}")


def _failure(error, bugs):
    """(what failed and where, how to fix it) if the machine caused an exception, or None. bugs: error numbers that are
    not the machine's."""
    for cause in _causes(error):
        if (code := number(cause)) in _FAILURES.keys() - bugs:
            what, mend = _FAILURES[code]
            is_file, name = isinstance(cause, OSError), getattr(cause, "filename", None)
            quoted = None if is_file else re.search(r'"(/[^"]*)"|(gs://\S+?):? ', str(cause))
            place = os.fsdecode(name) if isinstance(name, (str, bytes)) else (quoted[1] or quoted[2]) if quoted else ""
            why = getattr(cause, "strerror", None) or (cause if is_file else os.strerror(code))
            return f"{what} ({f'{place}: ' if place else ''}{why})", mend
    return None


def number(error: BaseException) -> int:
    """The error number of an exception: an OSError's own, tensorstore's in its text, or what an answer of Google's
    storage means, or that there is none; 0 for any other exception."""
    module, text = type(error).__module__, str(error)
    if type(error) is TimeoutError:
        return errno.ETIMEDOUT
    if isinstance(error, OSError) and error.errno and not module.startswith(_CONNECTING):
        return error.errno
    if found := _CODE_IN_TEXT.search(text):
        return int(found[1] or found[2])
    found = _STATUS_IN_TEXT.search(text)
    status = int(found[1]) if found else getattr(error, "code", 0) if module == "gcsfs.retry" else 0
    if status in (401, 403) or text.startswith("Forbidden: ") or type(error).__name__ in _NO_CREDENTIALS:
        return errno.EACCES
    lost = isinstance(error, ValueError) and text.startswith("UNAVAILABLE: ")
    return errno.EHOSTDOWN if status or lost or module.startswith(_CONNECTING) else 0


def _causes(error):
    """An exception, those it was raised from, and the members of groups, each once."""
    waiting, seen = [error], set()
    while waiting:
        error = waiting.pop(0)
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [*getattr(error, "exceptions", ()), error.__cause__]


@contextlib.contextmanager
def about(name: str) -> Iterator[None]:
    """Puts the name of what they are about in front of the UserErrors of a block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


class Parser(argparse.ArgumentParser):
    """The command line of `python -m nofrost_jax.NAME`, described by the first line of `doc`. Raises UserError."""

    def __init__(self, name: str, doc: str) -> None:
        super().__init__(prog=f"python -m nofrost_jax.{name}", description=doc.splitlines()[0], allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


@contextlib.contextmanager
def exit_codes(leave: Callable[[int], Any] = sys.exit) -> Iterator[None]:
    """Ends the program, with one line on stderr and `leave(exit code)`, after one of these exceptions or a
    failure of the machine that nothing else has handled; any other exception is a bug and passes."""
    try:
        with signals.raising(), machine(INTACT, gone=False):
            yield
    except (UserError, MachineError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        leave(2 if isinstance(error, UserError) else 1)
    except Missing:
        leave(3)
    except (Preempted, KeyboardInterrupt) as notice:
        unheard = f"stopped by {notice}; run the same command again to continue"
        print(notice if isinstance(notice, Preempted) else unheard, file=sys.stderr)
        leave(75)
