"""Tables and figures of the paper: which nets they need, and the command of each."""

import dataclasses
import functools
import os

from nofrost_jax.report.exhibits import EXHIBITS, Net, Suite
from nofrost_jax.tools.reproduce.study import FINAL, Training

SCALES = {  # the configs of a net; those of the small data sets have one net for both depths
    "imagenet": "configs/{row}_r{depth}.py",
    "cifar10": "configs/cifar10.py:{row}",
    "digits": "configs/digits.py:{row}",
}
DISTORTED = ("deepaugment", "combine", "nofrost_star")  # rows that train on DeepAugment's images


@dataclasses.dataclass(frozen=True)
class Paper:
    """What one command asks for. names: of `EXHIBITS`; workdir: absolute path; rows, seeds: () = those of each table or
    figure; source, settings: as in a `Study`; files: folder of DeepAugment's images, "" = none."""

    names: tuple[str, ...]
    workdir: str
    scale: str = "imagenet"
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    source: str = ""
    settings: dict = dataclasses.field(default_factory=dict, hash=False)
    files: str = ""

    @functools.cached_property
    def evaluations(self) -> dict[tuple[Training, Suite], list[str]]:
        """{(training, suite): names of the tables and figures that need it}, in the order in which they are done. A
        part of a suite that a net gets as a whole, or under another name, is not listed again."""
        asked = []
        for name in self.names:
            for seed in self.seeds or EXHIBITS[name].seeds:
                for net, suite in EXHIBITS[name].suites:
                    if self.scale != "imagenet":
                        suite = dataclasses.replace(suite, settings=())  # they are for ImageNet's published files
                    if not self.rows or net.row in self.rows:
                        asked.append((name, self.training(net, seed), suite))
        whole = {(run, suite.config): suite for _, run, suite in asked if not suite.only}
        found, same = {}, {}
        for name, run, suite in asked:
            suite = whole.get((run, suite.config), suite)
            suite = same.setdefault((run, suite.config, suite.only, suite.settings), suite)
            found.setdefault((run, suite), []).append(name)
        return found

    @property
    def trainings(self) -> list[Training]:
        """Each net on each seed, once."""
        return list(dict.fromkeys(run for run, _ in self.evaluations))

    def training(self, net: Net, seed: int) -> Training:
        """A net's run."""
        size = f"r{net.depth}" if self.scale == "imagenet" else self.scale
        return Training(FINAL, "_".join(filter(None, (net.row, size, net.variant))), seed)

    @functools.cached_property
    def nets(self) -> dict[str, Net]:
        """{row of a `Training`: net}"""
        return {self.training(net, 0).row: net for name in self.names for net in EXHIBITS[name].nets}

    def config(self, run: Training) -> str:
        """The config of a run, as `--config` takes it."""
        net = self.nets[run.row]
        words = f":files={self.files}" if self.files and net.row in DISTORTED else ""
        return SCALES[self.scale].format(row=net.row, depth=net.depth) + words

    def fields(self, run: Training) -> dict[str, object]:
        """The config fields of a run that its config does not have like this."""
        source = {"data.source": self.source} if self.source else {}
        return source | self.settings | dict(self.nets[run.row].settings) | {"seed": run.seed}


def arguments(paper: Paper, run: Training) -> list[str]:
    """The arguments of main.py for a run."""
    given = [f"--config.{field}={value}" for field, value in paper.fields(run).items()]
    return [f"--config={paper.config(run)}", f"--workdir={os.path.join(paper.workdir, run.folder)}", *given]
