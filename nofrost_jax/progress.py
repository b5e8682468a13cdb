"""Progress of long work: live lines on a terminal, otherwise a line every few seconds."""

import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Self, TextIO, TypeVar

EVERY = 10.0  # seconds between two lines, if the output is not a terminal
_LIVE_AFTER, _LIVE_EVERY = 0.5, 0.1  # seconds, on a terminal
Item = TypeVar("Item")


class Line:
    """The line of one piece of work: `with Line() as line: ... line.show("half of it", 0.5)`.

    active: False prints nothing, as on all processes but one. stderr: print there, if stdout is for results.
    """

    def __init__(self, active: bool = True, stderr: bool = False):
        self._active, self._stderr, self._row = active, stderr, None
        self._begun = self._shown = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def is_live(self) -> bool:
        """Whether the line is on a terminal, where it changes in place."""
        stream = getattr(self._stream, "rich_proxied_file", self._stream)  # set while another line is live
        return self._active and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    @property
    def _stream(self) -> TextIO:
        return sys.stderr if self._stderr else sys.stdout

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        if self._active:
            print(text, file=self._stream, flush=True)

    def is_due(self) -> bool:
        """Whether it is time for `show`."""
        now = time.perf_counter()
        if self.is_live:
            return now - self._begun >= _LIVE_AFTER and now - self._shown >= _LIVE_EVERY
        return self._active and now - self._shown >= EVERY

    def show(self, text: str, share: float) -> None:
        """Shows the progress. share: of the work that is done, from 0 to 1."""
        self._shown = time.perf_counter()
        if not self.is_live:
            self.say(text)
            return
        self._row = _rows.add(self._stream) if self._row is None else self._row
        _rows.update(self._row, text.strip(), share)

    def close(self) -> None:
        """Removes the live line."""
        if self._row is not None:
            _rows.remove(self._row)
            self._row = None


class Progress(Line):
    """Work that is counted: "edsr: 120 of 5,000 files, 4.1/s, 20 min 08 s left"."""

    def __init__(self, what: str, total: int, unit: str, active: bool = True, stderr: bool = False):
        super().__init__(active, stderr)
        self._what, self._total, self._unit, self._paused = what, total, unit, 0.0
        self.passed = self.done = 0  # passed, and done by this process: some may have existed already

    def advance(self, passed: int = 1, done: int | None = None, note: str = "") -> None:
        """passed: how many more are behind; done: how many of them took time, by default all. note: ends the line."""
        self.passed, self.done = self.passed + passed, self.done + (passed if done is None else done)
        if self.done and self.is_due():
            rate = self.done / max(self.seconds(), 1e-9)
            left = duration(max(self._total - self.passed, 0) / rate)
            count = f"{self.passed:,} of {self._total:,} {self._unit}"
            self.show(f"{self._what}: {count}, {rate:.3g}/s, {left} left{note}", self.passed / max(self._total, 1))

    def pause(self, seconds: float) -> None:
        """Excludes some time, e.g. of compiling, from the speed."""
        self._paused += seconds

    def seconds(self) -> float:
        """Time at work so far."""
        return time.perf_counter() - self._begun - self._paused


class Steps(Line):
    """The lines of a training: step, epoch, some metrics, images/s without the pauses, and the time left."""

    def __init__(self, total: int, per_epoch: int, batch_size: int, start: int, active: bool = True):
        super().__init__(active)
        self._total, self._per_epoch, self._batch = total, per_epoch, batch_size
        self._last_step, self._last_time, self._waited, self._rate = start, time.perf_counter(), 0.0, ""

    def pause(self, seconds: float) -> None:
        """Excludes time of compiling, evaluating and saving from the speed."""
        self._last_time += seconds

    def wait(self, seconds: float) -> None:
        """Counts time that a step waited for its input."""
        self._waited += seconds

    def at(self, step: int) -> None:
        """Shows a step on a terminal, between the lines of `line`."""
        if self.is_live and self.is_due():
            self.show(f"step {step}/{self._total}{self._rate}", step / self._total)

    def line(self, step: int, means: dict[str, float]) -> dict[str, float]:
        """Prints the line of a step; returns the speeds since the one before as scalars."""
        now = time.perf_counter()
        seconds = max(now - self._last_time, 1e-9)
        per_second = (step - self._last_step) / seconds
        speeds = {"speed/images_per_second": per_second * self._batch, "speed/input_wait": self._waited / seconds}
        self._last_step, self._last_time, self._waited = step, now, 0.0
        if per_second > 0:
            shown = ("loss", "clean_accuracy", "adversarial_accuracy")
            values = [f"{name.replace('_accuracy', '')} {means[name]:.3f}" for name in shown if name in means]
            left = duration((self._total - step) / per_second)
            self._rate = f"  {speeds['speed/images_per_second']:.0f} images/s  {left} left"
            self.say(f"step {step}/{self._total}  epoch {step / self._per_epoch:.1f}  {'  '.join(values)}{self._rate}")
        return speeds


def shown(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """Yields the items, and prints on stderr how many of `total` are done, if it takes longer than EVERY seconds."""
    with Progress(what, total, unit, stderr=True) as progress:
        for item in items:
            progress.advance()
            yield item
        if progress.seconds() >= EVERY:
            progress.say(f"{what}: all {total:,} {unit} in {duration(progress.seconds())}")


def duration(seconds: float) -> str:
    """ "2 d 3 h", "1 h 05 min", "3 min 20 s" or "12 s"."""
    seconds = math.ceil(seconds)
    if seconds >= 86400:
        return f"{seconds // 86400} d {seconds % 86400 // 3600} h"
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


class _Rows:
    """The live lines at the bottom of the terminal; other output goes above them."""

    def __init__(self):
        self.display, self._lock = None, threading.Lock()

    def add(self, stream):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        class WithCursor(Console):
            def show_cursor(self, show=True):
                return False  # hidden, it would stay so after a program that ends at once

        with self._lock:
            if self.display is None:
                self.display = Progress(
                    SpinnerColumn(),
                    BarColumn(20),
                    TextColumn("{task.description}", markup=False),
                    console=WithCursor(file=stream, soft_wrap=True),
                    transient=True,
                    redirect_stdout=sys.stdout.isatty(),
                    redirect_stderr=sys.stderr.isatty(),
                )
                self.display.start()
            return self.display.add_task("", total=1)

    def update(self, row, text, share):
        if self.display is not None:
            self.display.update(row, description=text, completed=share)

    def remove(self, row):
        with self._lock:
            if self.display is not None:
                self.display.remove_task(row)
                if not self.display.tasks:
                    self.display.stop()
                    self.display = None


_rows = _Rows()
