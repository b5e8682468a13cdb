"""A line that says how far a long pass over files is, and when it will be done."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

FIRST, EVERY = 2.0, 5.0  # Seconds before the first line, and between lines.
WRITERS_EVERY = 10.0  # Seconds between a writer's lines.
Item = TypeVar("Item")


def shown(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """Yields the items, and tells on stderr how many of `total` are done; nothing if it takes less than `FIRST` s.

    "indexing train: 512 of 1,024 files, 20 s left"; lines, which log files keep as well as screens.
    """
    start = time.monotonic()
    due, told = start + FIRST, False
    for done, item in enumerate(items, 1):
        now = time.monotonic()
        if now >= due and done < total:
            left = (now - start) / done * (total - done)
            print(f"{what}: {done:,} of {total:,} {unit}, {duration(left)} left", file=sys.stderr, flush=True)
            due, told = now + EVERY, True
        yield item
    if told:
        took = duration(time.monotonic() - start)
        print(f"{what}: all {total:,} {unit} in {took}", file=sys.stderr, flush=True)


class Progress:
    """For a writer of files, some of which may be there already: at most one line in ten seconds, with the time left at
    the rate of those written. "edsr: 120 of 5,000 files, 4.1/s, 20 min left"."""

    def __init__(self, total: int, what: str, say: Callable[[str], None]):
        self._total, self._what, self._say, self._passed, self.done = total, what, say, 0, 0
        self._start = self._said = time.monotonic()

    def advance(self, passed: int, written: int, now: str = "") -> None:
        """So many files more are behind, so many of them written by this command; now: ends the line."""
        self._passed, self.done = self._passed + passed, self.done + written
        clock = time.monotonic()
        if clock - self._said >= WRITERS_EVERY and self.done:
            self._said, rate = clock, self.done / (clock - self._start)
            left = duration((self._total - self._passed) / rate)
            self._say(f"{self._what}: {self._passed:,} of {self._total:,} files, {rate:.3g}/s, {left} left{now}")

    def took(self) -> str:
        """The time since the start, for people."""
        return duration(time.monotonic() - self._start)


def duration(seconds: float) -> str:
    """For people: "42 s", "3 min", "2 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
