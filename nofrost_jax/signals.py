"""The signals that end a program early: TERM and USR1 of schedulers, INT (Ctrl-C), HUP of a terminal that closes.

Of these only those that the program was not started to ignore, as under nohup or in the background of a script.
"""

import contextlib
import os
import signal
import threading
import time

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
AT_ONCE = 130  # the exit code after a second Ctrl-C
APART = 0.5  # seconds from the first to the second: wrappers deliver one Ctrl-C twice


class Interrupted(KeyboardInterrupt):
    """One of the signals where nothing hears it; its name."""


class Stop:
    """Hears them while it is open: `with Stop() as stop: ... if stop.heard: save what there is and leave`.

    heard: whether one came. name: of the first, "SIGTERM". A second Ctrl-C ends the process at once.

    numbers: which to hear. then: called in the main thread with the number of each that comes.
    """

    def __init__(self, numbers=NUMBERS, then=None):
        self.heard, self.name = False, signal.SIGTERM.name
        self._numbers, self._then, self._open = numbers, then, contextlib.ExitStack()

    def __enter__(self):
        self._open.enter_context(_second_interrupt_ends_at_once())
        self._open.enter_context(_handling(self._numbers, self._hear))
        return self

    def __exit__(self, *_):
        self._open.close()

    def _hear(self, number):
        if not self.heard:
            self.heard, self.name = True, signal.Signals(number).name
        if self._then:
            self._then(number)


@contextlib.contextmanager
def raising():
    """Raises Interrupted where one comes, so that a program that hears nothing can tell and tidy up."""

    def interrupt(number):
        raise Interrupted(signal.Signals(number).name)

    with _handling(NUMBERS, interrupt):
        yield


@contextlib.contextmanager
def _handling(numbers, hear):
    """`hear(number)` for signals, in the main thread; what handled them before comes back."""
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def handle(number, _):
        if number == signal.SIGHUP:  # the terminal is gone: what is still said must not end the program
            silence = os.open(os.devnull, os.O_WRONLY)
            for stream in terminals:
                os.dup2(silence, stream)
        hear(number)

    old = {}
    if threading.current_thread() is threading.main_thread():
        heard = (number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)
        old = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed by Python


@contextlib.contextmanager
def _second_interrupt_ends_at_once():
    """A thread sees to it: the main thread hears nothing within a long computation, or while it compiles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch():
        first = None
        while byte := os.read(reader, 1):  # the number of each signal
            if byte[0] == signal.SIGINT:
                first = first or time.monotonic()
                if time.monotonic() - first > APART:
                    os._exit(AT_ONCE)
        os.close(reader)

    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True, name="second Ctrl-C").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        os.close(writer)
