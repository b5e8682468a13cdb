"""What an evaluation says while it runs: what compiles, how far it is, how many images survive, the time left."""

from nofrost_jax.progress import Line, duration


class Reporter(Line):
    """The line of an evaluation; knows the time left as an upper bound, in which no further image is fooled.

    Work is measured in passes through the net, in which attacks differ by a factor of a thousand. Of chunks to come,
    an attack is expected to meet the share of images that it met in the chunks done so far.
    """

    def __init__(self, plans, num_classes, total, active):
        super().__init__(active)
        self._total, self._finished = total, 0
        self._cost = {member: cost(member.attack, num_classes) for plan in plans for member in plan.members}
        self._met = dict.fromkeys(self._cost, 0)  # images of finished chunks that the attack met
        self._ahead = {}  # passes that each attack may still take on the present chunk
        self._spent = self._seconds = 0.0

    def begin_chunk(self, count):
        """A chunk of `count` images begins, all of which every attack may meet."""
        self._chunk = count
        self._ahead = {member: count * passes for member, passes in self._cost.items()}

    def expect(self, member, images, share=1.0):
        """A member has at most `images` of the chunk before it, and `share` of its stages."""
        self._ahead[member] = images * share * self._cost[member]

    def end_chunk(self, met):
        """met: {member: images of the chunk that it attacked}."""
        self._finished += self._chunk
        for member, images in met.items():
            self._met[member] += images
        self._ahead = {}

    def worked(self, passes, seconds):
        """Passes that a batch took, padding included, and its time without compilation."""
        self._spent, self._seconds = self._spent + passes, self._seconds + seconds

    def progress(self, label, stage, stages, survivors, rate):
        """Says how far it is, now and then. survivors: of this chunk; rate: this attack's images a second."""
        if not self.is_due():
            return
        to_come = self._to_come()
        done = f"{self._finished}/{self._total} images done, now " if self._finished else ""
        part = f" {stage + 1}/{stages}" if stages > 1 else ""
        left = f", at most {duration(to_come * self._seconds / self._spent)} left" if self._spent else ""
        text = f"  {done}{label}{part}: {survivors} survivors, {rate:.3g} images/s{left}"
        self.show(text, self._spent / max(self._spent + to_come, 1))

    def _to_come(self):
        """Passes that are left at most."""
        to_come = self._total - self._finished - self._chunk
        share = {member: met / self._finished if self._finished else 1.0 for member, met in self._met.items()}
        later = sum(passes * share[member] * to_come for member, passes in self._cost.items())
        return sum(self._ahead.values()) + later


def cost(attack, num_classes):
    """Passes of an image that survives, a backward pass to the image counting as two forwards."""
    forwards, backwards = attack.passes(num_classes)
    return forwards + 2 * backwards
