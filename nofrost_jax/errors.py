"""The two exceptions that are meant for the person at the keyboard, and the exit codes that they become."""

import argparse
import contextlib
import sys

from absl import flags

COMMAND_LINE_ERRORS = (  # what absl and ml_collections raise on a command line or a config file that is wrong
    *(flags.Error, AttributeError, KeyError, TypeError, ValueError),
    *(OSError, ImportError, SyntaxError),
)


class UserError(Exception):
    """The config or the data is wrong: one line that says what, where and how to mend. `main.py` exits with 2."""


class Preempted(Exception):
    """SIGTERM came; the state is saved, and the same command goes on from there. `main.py` exits with 75."""


@contextlib.contextmanager
def about(name):
    """Puts a name in front of the UserErrors of a block: of which of several things they speak."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UserError, one line, for a command line that is wrong."""

    def error(self, message):
        raise UserError(f"{message}; see {self.prog} --help")


@contextlib.contextmanager
def exit_codes(leave=sys.exit):
    """Ends the program with one line on stderr where one of the two is raised; anything else is a bug and passes.

    leave: called with the exit code.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        leave(2)
    except Preempted as notice:
        print(notice, file=sys.stderr)
        leave(75)


def command_line_error(error):
    """The UserError for one of COMMAND_LINE_ERRORS: the library's reason, without its tracebacks."""
    while error.args and isinstance(error.args[0], Exception):  # ml_collections wraps a KeyError in an AttributeError
        error = error.args[0]
    if isinstance(error, (AttributeError, KeyError)):
        return UserError(f"the config has no such field: {error.args[0]}")
    if isinstance(error, OSError):  # ml_collections lists the places that it searched; the reason comes last
        reason = str(error).strip().splitlines()[-1].strip()
        return UserError(f"--config: {reason}; give the path of a Python file, e.g. --config=configs/digits.py")
    if "'config." in str(error) and isinstance(error, flags.UnrecognizedFlagError):
        return UserError(f"{error}; give --config=FILE as well, whose field this is")
    flag, in_file, traceback = str(error).partition(": Error whilst parsing config file:")
    return UserError(f"{flag}: {traceback.strip().splitlines()[-1].removeprefix('ValueError: ')}" if in_file else flag)
