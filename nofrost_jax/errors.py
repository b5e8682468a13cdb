"""What is meant for the person at the keyboard: the exceptions that end a program with one line, and their exit codes.

0 done; 1 the machine failed; 2 the config or the data is wrong; 3 a dry run found something missing; 75 stopped by a
signal, the state is saved. Anything else is a bug and shows its traceback.
"""

import argparse
import contextlib
import errno
import os
import re
import sys

from nofrost_jax import signals

_GONE = ("a file or folder is gone", "bring it back")
_FORBIDDEN = ("this process may not write or read there", "change the permissions or choose another folder")
_UNREACHABLE = ("the file system does not answer", "wait until it does")
_FAILURES = {  # of the machine, not of what a user asked for: what it is, how to mend it
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.EFBIG: ("a file would be larger than this system allows", "raise the limit (ulimit -f)"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.EROFS: ("the file system is read-only", "make it writable or choose another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _FORBIDDEN),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), _GONE),
    errno.EIO: ("the disk fails", "see to it"),
    **dict.fromkeys((errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT), _UNREACHABLE),
    errno.EPIPE: ("nobody reads the output any more", "write it to a file"),
}
WHOLE = "what was written before is whole"
_CODE_IN_TEXT = re.compile(r"os_error_code='(\d+)'|\[OS error (\d+)")  # how tensorstore tells of it, in a ValueError


class UserError(Exception):
    """The config or the data is wrong: one line that says what, where and how to mend. `main.py` exits with 2."""


class MachineError(Exception):
    """The machine failed: one line that says what, where, what is saved and what to do. `main.py` exits with 1."""


class Missing(Exception):
    """A dry run found something missing, and has said what. `main.py` exits with 3."""


class Preempted(Exception):
    """A signal came; the state is saved, and the same command goes on from there. `main.py` exits with 75."""


@contextlib.contextmanager
def machine(kept, gone=True):
    """Raises MachineError where the machine fails within a block: a full disk, a folder that is gone, and the like.

    kept: what a user loses nothing of, "step 12 is saved", or a function that returns it. gone: whether a file that is
    not there is the machine's fault; where nobody knows which file that may be, it is a bug.
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


def refused(what, error, mend):
    """The exception for an OSError about a path that a user gave: a MachineError, or a UserError if it is the path
    that is wrong, as one that does not exist. what, mend: what could not be done with which path; how else to do it."""
    kind = MachineError if error.errno in _FAILURES.keys() - {errno.ENOENT} else UserError
    return kind(f"{what} ({error.strerror}); {mend}")


def _failure(error, bugs):
    """(what failed and where, how to mend it) if the machine is behind an exception, or None. bugs: numbers that do not
    tell of it."""
    failures = _FAILURES.keys() - bugs
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in failures:
            what, mend = _FAILURES[cause.errno]
            return f"{what} ({_place(cause)}{cause.strerror})", mend
        if found := _CODE_IN_TEXT.search(str(cause)):
            number = int(found[1] or found[2])
            if number in failures:
                what, mend = _FAILURES[number]
                quoted = re.search(r'"(/[^"]*)"', str(cause))
                return f"{what} ({f'{quoted[1]}: ' if quoted else ''}{os.strerror(number)})", mend
    return None


def _causes(error):
    """An exception, those it was raised from, and the members of groups, each once."""
    waiting, seen = [error], set()
    while waiting:
        error = waiting.pop(0)
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [*getattr(error, "exceptions", ()), error.__cause__]


def _place(error):
    return f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""


@contextlib.contextmanager
def about(name):
    """Puts a name in front of the UserErrors of a block: of which of several things they speak."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


class Parser(argparse.ArgumentParser):
    """The command line of `python -m nofrost_jax.NAME`, described by the first line of the module's text `doc`; raises
    UserError, one line, where it is wrong."""

    def __init__(self, name, doc):
        super().__init__(prog=f"python -m nofrost_jax.{name}", description=doc.splitlines()[0], allow_abbrev=False)

    def error(self, message):
        raise UserError(f"{message}; see {self.prog} --help")


@contextlib.contextmanager
def exit_codes(leave=sys.exit):
    """Ends the program with one line on stderr, and the exit code, where one of these exceptions is raised or the
    machine failed in a place that knows of nothing saved; anything else is a bug and passes.

    leave: called with the exit code.
    """
    try:
        with signals.raising(), machine(WHOLE, gone=False):
            yield
    except (UserError, MachineError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        leave(2 if isinstance(error, UserError) else 1)
    except Missing:
        leave(3)
    except (Preempted, KeyboardInterrupt) as notice:
        unheard = f"stopped by {notice}; run the same command again to go on"
        print(notice if isinstance(notice, Preempted) else unheard, file=sys.stderr)
        leave(75)
