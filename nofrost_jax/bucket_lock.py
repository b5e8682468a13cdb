"""The lock of a folder in a bucket: an object that says who holds it; and the lock of any folder.

Only one process can make an object, or write it over where nobody else has: its generation decides. The holder writes
it again and again, which tells the others that it is alive; the lock of a silent holder is taken over, with a message.
"""

import contextlib

from nofrost_jax import buckets, files, lock
from nofrost_jax.lock import Lock


def at(path: str, what: str) -> Lock:
    """The lock at `path`; what: what it is held for."""
    return (BucketLock if files.is_url(path) else Lock)(path, what)


class BucketLock(Lock):
    """The lock object at `path`, gs://BUCKET/PATH."""

    _content, _generation, _is_own = b"", 0, False

    def give_back(self) -> None:
        """Removes the object, unless another has taken the lock over. Where that fails, it falls silent."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            buckets.remove(self.path, self._generation)

    def _take(self) -> str:
        self._content = self._record()
        while not self._write(0):
            try:
                content, generation = buckets.read_generation(self.path)
            except FileNotFoundError:  # its holder has just removed it
                continue
            holder = lock.parse(content)
            if holder.get("token") == self._token:  # the answer to the first try was lost
                self._generation = generation
                break
            if lock.is_alive(self.path, holder, _generation):
                if buckets.exists(self.path):
                    return lock.name(holder)
                continue
            if self._write(generation):
                silent = f"silent for {lock.LOOKS * lock.BEAT_SECONDS} s"
                print(f"taken over: the lock of {lock.name(holder)}, {silent} ({self.path})", flush=True)
                break
        self._is_own = True
        self._start_beating()
        return ""

    def _write(self, generation: int) -> bool:
        """Whether the object was of this generation, 0: was not there; then it is this process's."""
        try:
            self._generation = buckets.write_over(self.path, self._content, generation)
            return True
        except FileExistsError:
            return False

    def _renew(self) -> None:
        self._is_own = self._write(self._generation)

    def _lost_to(self) -> str:
        if self._is_own:
            return ""
        try:
            content, generation = buckets.read_generation(self.path)
        except FileNotFoundError:
            return lock.REMOVED
        except OSError:
            return ""
        if (holder := lock.parse(content)).get("token") != self._token:
            return f"taken over by {lock.name(holder)}"
        self._generation = generation  # the answer to a write was lost
        return ""


def _generation(path: str) -> int | None:
    """That of an object, or None if it is gone."""
    try:
        return buckets.read_generation(path)[1]
    except FileNotFoundError:
        return None
