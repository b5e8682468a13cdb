"""What a study is: its rows, seeds and learning rates, and the command of each of its runs."""

import dataclasses
import os

from nofrost_jax.report.exhibits import Suite

#: The rows of the paper's tables; `--rows` can also name those of Figures 3 and 4.
TABLES = (
    *("st", "st_nf", "sat", "pgdat", "trades", "fat", "trades_fat", "mbnat", "sat_in", "nofrost", "fastat", "freeat"),
)
SELECTION, FINAL = "selection", "final"
SELECTION_SEED = 0
SHIFT = Suite("shift", "shift", settings=(("corruptions", "on_the_fly"),))  # of `--shift`


@dataclasses.dataclass(frozen=True)
class Defaults:
    """A study's defaults; the command line may change rows, seeds and rates. config: file below the repository's root.
    holdout: number of training images to choose learning rates on. source: the config's data source."""

    config: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    holdout: int
    source: str


STUDIES = {
    "digits": Defaults(
        config="configs/digits.py",
        rows=TABLES,
        seeds=(0, 1, 2),
        rates=(0.1, 0.3, 1.0),
        holdout=237,  # leaves 1,200; 16 to 30 of each class
        source="digits",
    ),
    "cifar10": Defaults(
        config="configs/cifar10.py",
        rows=("sat", "mbnat", "sat_in", "nofrost"),
        seeds=(0,),
        rates=(0.1,),
        holdout=5000,
        source="tfds:cifar10",
    ),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """What one command asks for. workdir: absolute path. source: "" = the config's. settings: {field: text}. shift:
    whether to evaluate corrupted images, too."""

    name: str
    defaults: Defaults
    workdir: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    source: str = ""
    settings: dict = dataclasses.field(default_factory=dict, hash=False)
    shift: bool = False


@dataclasses.dataclass(frozen=True)
class Training:
    """One training with its evaluation: a row on a seed with a learning rate. rate: None = its config's."""

    stage: str
    row: str
    seed: int
    rate: float | None = None

    @property
    def folder(self) -> str:
        """Below the study's folder."""
        if self.stage == SELECTION:
            return f"select/{self.row}/rate_{self.rate:g}"
        rate = "" if self.rate is None else f"rate_{self.rate:g}/"
        return f"runs/{self.row}/{rate}seed_{self.seed}"

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}" + ("" if self.rate is None else f", rate {self.rate:g}")


def selection_runs(study: Study) -> list[Training]:
    """Every row with every rate; [] if there is a single rate."""
    if len(study.rates) == 1:
        return []
    return [Training(SELECTION, row, SELECTION_SEED, rate) for row in study.rows for rate in study.rates]


def final_runs(study: Study, chosen: dict[str, float]) -> list[Training]:
    """Every row that has a chosen rate, on every seed."""
    return [Training(FINAL, row, seed, chosen[row]) for row in study.rows if row in chosen for seed in study.seeds]


def rule(study: Study) -> str:
    """How a rate is chosen, in words."""
    where = f"on {study.defaults.holdout:,} training images held out for it, at seed {SELECTION_SEED}"
    return f"greatest mean of clean and PGD-20 accuracy {where}, the smaller rate where two are equal"


def arguments(study: Study, run: Training) -> list[str]:
    """The arguments of main.py for a run."""
    fields = dict(study.settings)
    if study.source:
        fields["data.source"] = study.source
    selecting, count = run.stage == SELECTION, study.defaults.holdout
    has_slices = (study.source or study.defaults.source).startswith("tfds:")  # in place of `data.holdout`
    held = count if selecting and not has_slices else 0
    fields |= {"seed": run.seed, "optimizer.learning_rate": run.rate, "data.holdout": held}
    if selecting:
        fields |= {"evaluation.only": "pgd_20", "evaluation.every_epochs": 0, "data.eval_split": "holdout"}
        if has_slices:
            fields |= {"data.train_split": f"train[:-{count}]", "data.eval_split": f"train[-{count}:]"}
    workdir = os.path.join(study.workdir, run.folder)
    given = [f"--config.{field}={value}" for field, value in fields.items()]
    return [f"--config={study.defaults.config}:{run.row}", f"--workdir={workdir}", *given]


def evaluation_arguments(workdir: str, run: Training, suite: Suite) -> list[str]:
    """The arguments of main.py that evaluate a trained run of a study or paper in `workdir`. An earlier result of other
    parameters is renamed."""
    file, colon, argument = suite.config.partition(":")
    fields = dict(suite.settings)
    if suite.only:
        fields |= {"evaluation.only": ",".join(suite.only), "evaluation.name": suite.name}
    config = f"--config=configs/eval/{file}.py{colon}{argument}"
    given = [f"--config.{field}={value}" for field, value in fields.items()]
    return ["--mode=evaluate", config, *given, "--force", f"--workdir={os.path.join(workdir, run.folder)}"]
