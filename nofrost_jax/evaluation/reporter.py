"""What an evaluation says while it runs: what compiles, how far it is, how many images survive, the time left."""

import time
from collections.abc import Iterable

from nofrost_jax.evaluation.protocols import Member, Protocol
from nofrost_jax.progress import Line, duration


class Reporter(Line):
    """The line of an evaluation. Its time left is an upper bound, in which no further image is fooled.

    Work is measured in passes through the net, in which attacks differ by a factor of a thousand; a prediction is one.
    Of chunks to come, an attack is expected to meet the share of images that it met in the chunks done so far.

    predictions: of this process, in all sets that are evaluated. protocols: of attacks on `images` images of one set.
    properties: passes that measuring an image's properties takes.
    """

    def __init__(
        self,
        predictions: int,
        active: bool,
        protocols: Iterable[Protocol] = (),
        num_classes: int = 0,
        images: int = 0,
        properties: int = 0,
    ):
        super().__init__(active)
        self._predictions, self._predicted, self._images, self._finished = predictions, 0, images, 0
        self._properties, self._measured = properties, 0
        self._cost = {member: cost(member.attack.passes(num_classes)) for one in protocols for member in one.members}
        self._met = dict.fromkeys(self._cost, 0)  # images of finished chunks that the attack met
        self._ahead, self._chunk = {}, 0  # passes that each attack may still take on the present chunk
        self._spent = self._seconds = 0.0
        self._last = time.perf_counter()

    def found(self, images: int) -> None:
        """This many predictions were made by an earlier run."""
        self._predicted += images

    def found_measured(self, images: int) -> None:
        """Properties of this many images were measured by an earlier run."""
        self._measured += images

    def begin_chunk(self, count: int) -> None:
        """A chunk of `count` images begins, all of which every attack may meet."""
        self._chunk = count
        self._ahead = {member: count * passes for member, passes in self._cost.items()}

    def expect(self, member: Member, images: int, share: float = 1.0) -> None:
        """A member has at most `images` of the chunk still to attack, with `share` of its stages."""
        self._ahead[member] = images * share * self._cost[member]

    def end_chunk(self, met: dict[Member, int]) -> None:
        """met: {member: images of the chunk that it attacked}."""
        self._finished += self._chunk
        for member, images in met.items():
            self._met[member] += images
        self._ahead = {}

    def predicted(self, name: str, images: int, compile_seconds: float) -> None:
        """This many predictions more. They took the time since the work before, with the wait for the images, but
        without compilation."""
        seconds = max(time.perf_counter() - self._last - compile_seconds, 1e-9)
        self._predicted += images
        count = f"{self._predicted:,} of {self._predictions:,} predictions"
        self._work(images, seconds, f"{name}: {count}, {images / seconds:.3g} images/s")

    def measured(self, images: int, compile_seconds: float) -> None:
        """Properties of this many images more; the time as in `predicted`."""
        seconds = max(time.perf_counter() - self._last - compile_seconds, 1e-9)
        self._measured += images
        text = f"properties: {self._measured:,} of {self._images:,} images, {images / seconds:.3g} images/s"
        self._work(images * self._properties, seconds, text)

    def attacked(
        self, title: str, stage: int, stages: int, survivors: int, images: int, passes: float, seconds: float
    ) -> None:
        """A batch of `images` took this many passes, padding included, and this time without compilation. survivors:
        of this chunk."""
        done = f"{self._finished}/{self._images} images done, now " if self._finished else ""
        part = f" {stage + 1}/{stages}" if stages > 1 else ""
        self._work(passes, seconds, f"{done}{title}{part}: {survivors} survivors, {images / seconds:.3g} images/s")

    def _work(self, passes: float, seconds: float, text: str) -> None:
        self._spent, self._seconds, self._last = self._spent + passes, self._seconds + seconds, time.perf_counter()
        if self.is_due():
            to_come, bound = self._to_come(), "at most " * bool(self._cost)
            left = duration(to_come * self._seconds / self._spent)
            self.show(f"  {text}, {bound}{left} left", self._spent / max(self._spent + to_come, 1))

    def _to_come(self) -> float:
        """Passes that are left, at most."""
        images = max(self._images - self._finished - self._chunk, 0)
        met = {member: met / self._finished if self._finished else 1.0 for member, met in self._met.items()}
        later = sum(passes * met[member] * images for member, passes in self._cost.items())
        unmeasured = max(self._images - self._measured, 0) * self._properties
        return max(self._predictions - self._predicted, 0) + unmeasured + sum(self._ahead.values()) + later


def cost(passes: tuple[int, int]) -> int:
    """(forwards, backwards) as forward passes; a backward pass to the image counts as two."""
    return passes[0] + 2 * passes[1]
