"""For commands that write many files: ends them between two files, so that they can go on."""

import signal
import threading


class Stop:
    """Hears SIGTERM and Ctrl-C while it is open; `heard` says so."""

    def __enter__(self):
        self.heard = False
        numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
        self._old = {number: signal.signal(number, self._hear) for number in numbers}
        return self

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _hear(self, *_):
        self.heard = True
