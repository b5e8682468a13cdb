"""`config.data.on_error = "skip"`: unreadable training images are replaced, counted and told of; never silently."""

import sys
import threading
from collections.abc import Iterator

from nofrost_jax.errors import UserError

ON_ERROR = ("raise", "skip")
ATTEMPTS = 100  # Replacements that may be unreadable too, one after the other.


def counted(batches: Iterator[dict], counts: list[dict]) -> Iterator[dict]:
    """The batches without `replaced`, which stays on the host: of each, {} or {"replaced_images": (how many took an
    unreadable one's place, of how many)} goes to the end of `counts`. Both are of this process's share."""
    for batch in batches:
        replaced = batch.pop("replaced", None)
        counts.append({} if replaced is None else {"replaced_images": (int(replaced.sum()), replaced.size)})
        yield batch


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
