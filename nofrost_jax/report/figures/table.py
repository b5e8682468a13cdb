"""All figures: their names, titles, makers, and the commands that make what they need."""

import dataclasses
import functools
import re
from collections.abc import Callable

from nofrost_jax.report import commands
from nofrost_jax.report.collect import IMAGENET, Collection
from nofrost_jax.report.exhibits import EXHIBITS
from nofrost_jax.report.figures import beyond, papers
from nofrost_jax.report.figures.papers import NothingToDraw, Picture

__all__ = ["Entry", "NothingToDraw", "figures"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A figure of one data set. make: raises NothingToDraw. wide: whether it also comes for two columns."""

    name: str
    exhibit: str
    title: str
    make: Callable[[], Picture]
    command: str
    wide: bool = True


def figures(collection: Collection, source: str) -> list[Entry]:
    """The figures that a data set may have. Outside of ImageNet nets have no depth, and Figure 4 is Figure 3."""
    has_depth_50 = source == IMAGENET or any(net.source == source and net.depth == 50 for net in collection.nets)
    sources = (net.evaluations[0].result["dataset"]["source"] for net in collection.nets if net.source == source)
    data = "" if source == IMAGENET else next(sources, "")  # as --source wants it, not as the report calls it

    def of_paper(exhibit, make, *arguments, name="", depth=0):
        title = EXHIBITS[exhibit].title + f", ResNet{depth}" * bool(depth)
        title = title if has_depth_50 else re.sub(r" of ResNet\d+", "", title)
        command = commands.reproduce(exhibit, collection.folder, data)
        return Entry(name or exhibit, exhibit, title, functools.partial(make, collection, source, *arguments), command)

    def own(name, title, make, command, wide=True):
        return Entry(name, name, title, functools.partial(make, collection, source), command, wide)

    found = [
        of_paper("figure1", papers.statistics),
        of_paper("figure2", papers.trade_off, 26, depth=26 * has_depth_50),
        of_paper("figure2", papers.trade_off, 50, name="figure2_resnet50", depth=50),
        of_paper("figure3", papers.comprehensive, "figure3"),
        of_paper("figure4", papers.comprehensive, "figure4"),
        of_paper("figure5", papers.interpolations),
        of_paper("figure6", papers.properties),
        of_paper("figure7", papers.radii),
        own("strength", "Attack strength against accuracy", beyond.strength, _evaluate("convergence.py")),
        own("gap", "The gap between the two AutoAttacks", beyond.gap, _evaluate("paper.py"), wide=False),
        own(
            "examples",
            "Adversarial examples",
            beyond.examples,
            _evaluate("paper.py --config.evaluation.save_images=24"),
        ),
    ]
    return [one for one in found if has_depth_50 or one.name not in ("figure2_resnet50", "figure4")]


def _evaluate(suite: str) -> str:
    return f"python main.py --mode=evaluate --config=configs/eval/{suite} --workdir=RUN"
