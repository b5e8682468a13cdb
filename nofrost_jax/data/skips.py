"""`config.data.on_error = "skip"`: unreadable training images are replaced, counted and told of; never silently."""

import sys
import threading

from nofrost_jax.errors import UserError

ON_ERROR = ("raise", "skip")
ATTEMPTS = 100  # Replacements that may be unreadable too, one after the other.


class Skips:
    """The unreadable images that an iterator of training batches came upon; used by several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._images: set[str] = set()
        self.count = 0

    def note(self, error: Exception, where: str, attempt: int) -> None:
        """Counts an image that is passed over, and names it the first time.

        Raises:
          UserError: the `ATTEMPTS`th one after the other.
        """
        if attempt >= ATTEMPTS:
            raise UserError(
                f"{ATTEMPTS} unreadable images one after the other, the last: {error}; {where}; mend the data, or look "
                "at it with python -m nofrost_jax.tools.verify"
            ) from error
        with self._lock:
            self.count += 1
            if where in self._images:
                return
            self._images.add(where)
            number = len(self._images)
        print(f"skipped: {error}; {where}; the next one takes its place ({number} so far)", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Tells how many there were in all."""
        if self.count:
            files = len(self._images)
            print(f"skipped: {files} unreadable images, {self.count} times in all", file=sys.stderr, flush=True)
