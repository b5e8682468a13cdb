"""Exceptions to exit codes: what the machine did is told from what the user asked for, and from bugs."""

import errno

import pytest

from nofrost_jax import errors

FULL = "the disk is full"
TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Error writing local file "/run/checkpoints/2/_sharding": Failed to write 4679 bytes to file '
    "23: No space left on device [os_error_code='28'] [source locations='a.cc:1']"
)


def code_and_line(capsys, error):
    with pytest.raises(SystemExit) as stop, errors.exit_codes():
        raise error
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.UserError("a field\n is wrong"), 2, ["error: a field is wrong\n"]),
        (errors.MachineError("a peer is lost"), 1, ["error: a peer is lost\n"]),
        (errors.Missing(), 3, []),
        (errors.Preempted("stopped by SIGTERM"), 75, ["stopped by SIGTERM\n"]),
        (TimeoutError("Timed out after 600 seconds."), 1, ["does not answer", "Timed out after 600 seconds"]),
        (OSError(errno.ENOSPC, "No space left on device", "/run/x"), 1, [FULL, "/run/x", "make room"]),
        (OSError(errno.EROFS, "Read-only file system", "/run/x"), 1, ["read-only", "/run/x"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, ["quota"]),
        (PermissionError(errno.EACCES, "Permission denied", b"/run/x"), 1, ["/run/x", "permissions"]),
        (OSError(errno.ESTALE, "Stale file handle"), 1, ["gone", "Stale"]),
        (OSError(errno.EIO, "Input/output error"), 1, ["the disk fails"]),
        (ValueError(TENSORSTORE), 1, [FULL, "/run/checkpoints/2/_sharding", "make room"]),
        (ExceptionGroup("several", [ValueError("a"), OSError(errno.ENOSPC, "No space")]), 1, [FULL]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_exit_codes(capsys, error, code, words):
    found, line = code_and_line(capsys, error)
    assert found == code and line.count("\n") == bool(words)
    assert all(word in line for word in words)


def test_what_an_error_was_raised_from_counts_and_what_came_before_it_does_not(capsys):
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as full:
        wrapped, bug = RuntimeError("a library's own"), KeyError("a bug in handling it")
        wrapped.__cause__ = full
        bug.__context__ = full
    assert FULL in code_and_line(capsys, wrapped)[1]
    with pytest.raises(KeyError), errors.exit_codes():
        raise bug


GONE = FileNotFoundError(errno.ENOENT, "No such file", "/run/x")


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, "Invalid argument"), ValueError("x"), KeyError("x"), GONE])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)), errors.exit_codes():
        raise error


def test_the_place_that_knows_what_is_saved_says_so(capsys):
    outer, inner = errors.machine("a study's runs are kept"), errors.machine(lambda: "step 12 is saved")
    with pytest.raises(errors.MachineError, match=f"{FULL}.*; step 12 is saved; make room") as caught, outer, inner:
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "study" not in str(caught.value)
    with pytest.raises(errors.MachineError, match=r"is gone .*/run/x.*; step 12"), errors.machine("step 12 is saved"):
        raise GONE


def test_a_path_that_a_user_gave():
    gone, full = OSError(errno.ENOENT, "No such file"), OSError(errno.ENOSPC, "No space left")
    assert isinstance(errors.refused("x cannot be written", gone, "choose another"), errors.UserError)
    assert str(errors.refused("x cannot be written", full, "y")) == "x cannot be written (No space left); y"
    assert isinstance(errors.refused("x cannot be written", full, "y"), errors.MachineError)
