"""`config.data.on_error = "skip"`: unreadable training images are replaced, counted and reported."""

import sys
import threading
from collections.abc import Iterator

from nofrost_jax.errors import UserError

ON_ERROR = ("raise", "skip")
ATTEMPTS = 100  # replacements in a row that may be unreadable too


def counted(batches: Iterator[dict], counts: list[dict]) -> Iterator[dict]:
    """The batches without `replaced`, which stays on the host: for each batch, {} or {"replaced_images": (number of
    replaced images, batch size)}, both of this process's share, is appended to `counts`."""
    for batch in batches:
        replaced = batch.pop("replaced", None)
        counts.append({} if replaced is None else {"replaced_images": (int(replaced.sum()), replaced.size)})
        yield batch


class Skips:
    """The unreadable images that an iterator of training batches met; used by several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._images: set[str] = set()
        self.count = 0

    def note(self, error: Exception, where: str, attempt: int) -> None:
        """Counts a skipped image, and names it the first time. Raises UserError for the `ATTEMPTS`th in a row."""
        if attempt >= ATTEMPTS:
            raise UserError(
                f"{ATTEMPTS} unreadable images in a row, the last: {error}; {where}; repair the data; "
                "python -m nofrost_jax.tools.verify names every bad image"
            ) from error
        with self._lock:
            self.count += 1
            if where in self._images:
                return
            self._images.add(where)
            number = len(self._images)
        print(f"skipped: {error}; {where}; the next one takes its place ({number} so far)", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Reports the total."""
        if self.count:
            files = len(self._images)
            print(f"skipped: {files} unreadable images, {self.count} times in all", file=sys.stderr, flush=True)
