"""What ends a program early: the four signals, a second Ctrl-C, a terminal that closes."""

import contextlib
import gc
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from nofrost_jax import errors, parallel, signals
from tests.conftest import ROOT

# Says that it is ready, computes without an ear, tells what it heard. argv: what to ignore, seconds, rounds.
PROGRAM = """
import hashlib, signal, sys, time
for name in sys.argv[1].split():
    signal.signal(signal.Signals[name], signal.SIG_IGN)
from nofrost_jax import errors, signals
with errors.exit_codes(), signals.Stop() as stop:
    print("ready", flush=True)
    end = time.monotonic() + float(sys.argv[2])
    computed = False
    while not computed or (time.monotonic() < end and not stop.heard):
        computed = True
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 100_000 * int(sys.argv[3]))  # nothing is heard within it
    print("heard", stop.name if stop.heard else "nothing", flush=True)
    raise errors.Preempted(f"stopped by {stop.name}")
"""


@contextlib.contextmanager
def program(ignored="", seconds=20, rounds=10, **streams):
    """The program, when it is ready."""
    streams = streams or {"stdout": subprocess.PIPE}
    command = [sys.executable, "-c", PROGRAM, ignored, str(seconds), str(rounds)]
    with subprocess.Popen(command, cwd=ROOT, text=True, **streams) as process:
        if process.stdout:
            assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_each_signal_is_heard_by_name_and_what_handled_it_comes_back(number):
    before = {one: signal.getsignal(one) for one in signals.NUMBERS}
    for stop in (signals.Stop(), parallel.StopSignal(), parallel.StopSignal(each_alone=True)):
        with stop:
            os.kill(os.getpid(), number)
            assert stop.heard and stop.name == number.name
        assert {one: signal.getsignal(one) for one in signals.NUMBERS} == before


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_where_nothing_hears_it_the_program_ends_with_75_and_a_line(capsys, number):
    with pytest.raises(SystemExit, match="75"), errors.exit_codes():
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert capsys.readouterr().err == f"stopped by {number.name}; run the same command again to continue\n"


def test_a_second_interrupt_ends_at_once_but_not_one_that_is_delivered_twice():
    with program() as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 75 and process.stdout.read() == "heard SIGINT\n"
    with program(rounds=200) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        time.sleep(2 * signals.APART)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == signals.AT_ONCE and process.stdout.read() == ""
        assert time.monotonic() - start < 0.5


def test_what_the_program_was_started_to_ignore_stays_ignored():
    """As by nohup, and by a script that starts it in its background."""
    with program("SIGINT SIGHUP", seconds=0.5) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 75 and process.stdout.read() == "heard nothing\n"


def test_a_terminal_that_closes_does_not_end_it_before_it_is_done():
    """What is said after that goes nowhere, and must not be an error."""
    terminal, slave = pty.openpty()
    with program(stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as process:
        os.close(slave)
        assert os.read(terminal, 5) == b"ready"
        os.close(terminal)  # it is not the session's own, so that the system sends no signal
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 75


@pytest.mark.parametrize(("before", "code", "said"), [("", -signal.SIGINT, ""), ("trap '' INT; ", 7, "goes on\n")])
def test_an_interrupt_while_main_imports_shows_no_traceback(tmp_path, before, code, said):
    """And none at all where interrupts are ignored, as in a script's background."""
    text = "import os, signal, sys\nos.kill(os.getpid(), signal.SIGINT)\nprint('goes on')\nsys.exit(7)\n"
    (tmp_path / "absl.py").write_text(text)
    command = ["sh", "-c", f"{before}exec {sys.executable} main.py"]
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, said, "")


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_a_signal_inside_a_callback_of_the_garbage_collector_is_not_lost(number, monkeypatch):
    """Python drops what is raised there; jax has such a callback, and importing it collects a lot."""
    sent = []

    def callback(phase, info):
        if not sent:
            sent.append(phase)
            signal.raise_signal(number)

    monkeypatch.setattr(signals, "AGAIN_SECONDS", 0.01)
    hook, others = sys.unraisablehook, gc.callbacks[:]
    gc.callbacks[:] = [callback]
    try:
        with pytest.raises(signals.Interrupted, match=number.name), signals.raising():
            gc.collect()
            for _ in range(1000):
                time.sleep(0.005)
    finally:
        gc.callbacks[:] = others
    assert sent and sys.unraisablehook is hook
