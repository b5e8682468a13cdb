"""The signals that end a program early: TERM and USR1 from schedulers, INT (Ctrl-C), HUP when a terminal closes.

A signal that the program was started to ignore, as under nohup or in the background of a script, stays ignored.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
AT_ONCE = 130  # the exit code after a second Ctrl-C
AGAIN_SECONDS = 0.05  # until a signal whose exception was dropped is sent again
APART = 0.5  # seconds between two presses: some wrappers deliver one Ctrl-C twice


class Interrupted(KeyboardInterrupt):
    """A signal arrived that nothing else handles; its name."""


class Stop:
    """Notices signals while it is open: `with Stop() as stop: ... if stop.heard: save and leave`.

    heard: whether a signal came. name: of the first, e.g. "SIGTERM". A second Ctrl-C ends the process at once.
    numbers: the signals to notice. then: called in the main thread with the number of each.
    """

    def __init__(self, numbers: Sequence[int] = NUMBERS, then: Callable[[int], Any] | None = None) -> None:
        self.heard, self.name = False, signal.SIGTERM.name
        self._numbers, self._then, self._open = numbers, then, contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(_second_interrupt_ends_at_once())
        self._open.enter_context(_handling(self._numbers, self._hear))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _hear(self, number):
        if not self.heard:
            self.heard, self.name = True, signal.Signals(number).name
        if self._then:
            self._then(number)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Raises Interrupted in the main thread when a signal comes.

    Python drops what is raised inside a callback of its garbage collector, where jax has one, and inside `__del__`.
    Then the signal is sent again.
    """

    def interrupt(number):
        raise Interrupted(signal.Signals(number).name)

    def dropped(told):
        if isinstance(told.exc_value, Interrupted):
            number = signal.Signals[str(told.exc_value)]
            again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            pending.append(again)
            again.start()
        else:
            hook(told)

    pending, hook = [], sys.unraisablehook
    sys.unraisablehook = dropped
    try:
        with _handling(NUMBERS, interrupt):
            yield
    finally:
        for again in pending:
            again.cancel()
        if sys.unraisablehook is dropped:
            sys.unraisablehook = hook


@contextlib.contextmanager
def _handling(numbers, hear):
    """Calls `hear(number)` for signals, in the main thread, and restores the old handlers at the end."""
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def handle(number, _):
        if number == signal.SIGHUP:  # the terminal is gone: printing must not fail
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
    """In a thread: during a long computation or compilation the main thread runs no handler."""
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
