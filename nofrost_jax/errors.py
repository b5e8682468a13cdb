"""The two exceptions that are meant for the person at the keyboard, and the exit codes that they become."""

import contextlib
import sys


class UserError(Exception):
    """The configuration or the data is wrong: one line that says what, where and how to mend. `main.py` exits with 2."""


class Preempted(Exception):
    """SIGTERM came; the state is saved, and the same command goes on from there. `main.py` exits with 75."""


@contextlib.contextmanager
def exit_codes():
    """Ends the program with one line on stderr where its body raises one of the two; anything else is a bug and passes."""
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Preempted as notice:
        print(notice, file=sys.stderr)
        sys.exit(75)


def command_line_error(error):
    """The UserError for what absl and ml_collections raise on a command line: their reason, without their tracebacks."""
    while error.args and isinstance(error.args[0], Exception):  # ml_collections wraps a KeyError in an AttributeError
        error = error.args[0]
    if isinstance(error, (AttributeError, KeyError)):
        return UserError(f"the config has no such field: {error.args[0]}")
    if isinstance(error, OSError):  # ml_collections lists the places that it searched; the reason comes last
        reason = str(error).strip().splitlines()[-1].strip()
        return UserError(f"--config: {reason}; give the path of a Python file, e.g. --config=configs/digits.py")
    flag, in_file, traceback = str(error).partition(": Error whilst parsing config file:")
    return UserError(f"{flag}: {traceback.strip().splitlines()[-1].removeprefix('ValueError: ')}" if in_file else flag)
