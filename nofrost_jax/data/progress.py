"""A line that says how far a long pass over files is, and when it will be done."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

FIRST, EVERY = 2.0, 5.0  # Seconds before the first line, and between lines.
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


def duration(seconds: float) -> str:
    """For people: "42 s", "3 min", "2 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
